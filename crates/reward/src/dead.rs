//! Code that can never run: whatever stands there is no evidence.

use std::collections::HashSet;
use vul2safe_code::{Function, Language, LeafKind, Node, Parsed, Span};

/// Dead ranges of an answer.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    /// Behind a return, or under a condition that is constantly false: never run, whatever calls the function.
    pub never_run: Vec<Span>,
    /// Functions that nothing refers to. Such code may not earn anything; whether it may cost something is
    /// another matter, for a caller outside the answer could know it.
    pub never_called: Vec<Span>,
}

impl Dead {
    /// Finds dead code. `asked` names the functions the answer was asked for: they are called from outside.
    pub(crate) fn find(answer: &Parsed, asked: &[String]) -> Self {
        Self { never_run: never_run(answer), never_called: never_called(answer, asked) }
    }

    pub(crate) fn is_never_run(&self, span: Span) -> bool {
        self.never_run.iter().any(|dead| dead.overlaps(span))
    }

    pub(crate) fn is_never_called(&self, span: Span) -> bool {
        self.never_called.iter().any(|dead| dead.contains(span))
    }
}

/// The functions that stand in no other function.
pub(crate) fn outermost(functions: &[Function]) -> Vec<&Function> {
    let mut end = 0;
    functions
        .iter()
        .filter(|function| {
            let is_outer = function.span.start >= end;
            end = end.max(function.span.end);
            is_outer
        })
        .collect()
}

fn never_run(answer: &Parsed) -> Vec<Span> {
    let mut dead = Vec::new();
    let language = answer.language();
    Parsed::walk(answer.root(), |node| {
        let kind = node.kind();
        match kind {
            "block"
            | "compound_statement"
            | "module"
            | "case_statement"
            | "statement_block"
            | "statement_list"
            | "constructor_body"
            | "program"
            | "switch_case"
            | "switch_block_statement_group" => behind_exit(node, language, &mut dead),
            "if_statement" | "while_statement" | "elif_clause" => constant_condition(answer, node, &mut dead),
            "conditional_expression" => constant_choice(answer, node, &mut dead),
            "preproc_if" if condition_is(answer, node, false) == Some(true) => {
                let from = node.child_by_field_name("condition").map_or(node.start_byte(), |c| c.end_byte());
                let to = node
                    .child_by_field_name("alternative")
                    .map_or(node.end_byte(), |other| other.start_byte());
                dead.push(Span::new(from, to));
            }
            _ => {}
        }
        true
    });
    dead
}

/// What follows a statement that always leaves the block.
fn behind_exit(block: Node<'_>, language: Language, dead: &mut Vec<Span>) {
    let mut behind: Option<usize> = None;
    for child in block.named_children() {
        if vul2safe_code::is_comment(child.kind()) {
            continue;
        }
        // A function is there before the first statement runs.
        let is_hoisted = matches!(language, Language::JavaScript | Language::Php)
            && matches!(
                child.kind(),
                "function_declaration" | "generator_function_declaration" | "function_definition"
            );
        if is_hoisted {
            continue;
        }
        // A label or a case can be reached by a jump.
        if language != Language::Python && matches!(child.kind(), "labeled_statement" | "case_statement") {
            behind = None;
            continue;
        }
        match behind {
            Some(_) => dead.push(Span::from(child.byte_range())),
            None if leaves_block(child) => behind = Some(child.end_byte()),
            None => {}
        }
    }
}

/// Whether control never comes out at the end of a statement.
fn leaves_block(node: Node<'_>) -> bool {
    match node.kind() {
        "return_statement" | "raise_statement" | "break_statement" | "continue_statement"
        | "throw_statement" | "goto_statement" => !node.has_error(),
        _ => false,
    }
}

/// The branch of an `if` or `while` that its constant condition rules out.
fn constant_condition(answer: &Parsed, node: Node<'_>, dead: &mut Vec<Span>) {
    let body = node.child_by_field_name("consequence").or_else(|| node.child_by_field_name("body"));
    if condition_is(answer, node, false) == Some(true) {
        dead.extend(body.map(|body| Span::from(body.byte_range())));
    } else if node.kind() != "while_statement" && condition_is(answer, node, true) == Some(true) {
        dead.extend(node.children_by_field_name("alternative").map(|n| Span::from(n.byte_range())));
    }
}

/// The operand of `a if True else b` that is never taken.
fn constant_choice(answer: &Parsed, node: Node<'_>, dead: &mut Vec<Span>) {
    if answer.language() != Language::Python {
        return;
    }
    let (Some(taken), Some(condition), Some(otherwise)) =
        (node.named_child(0), node.named_child(1), node.named_child(2))
    else {
        return;
    };
    match constant(answer.node_text(condition)) {
        Some(true) => dead.push(Span::from(otherwise.byte_range())),
        Some(false) => dead.push(Span::from(taken.byte_range())),
        None => {}
    }
}

/// Whether a node's condition is the constant `value`; `None` where it is no constant.
fn condition_is(answer: &Parsed, node: Node<'_>, value: bool) -> Option<bool> {
    let condition = node.child_by_field_name("condition")?;
    Some(constant(answer.node_text(condition))? == value)
}

fn constant(condition: &str) -> Option<bool> {
    let mut inner = condition.trim();
    while let Some(stripped) = inner.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        inner = stripped.trim();
    }
    match inner {
        "False" | "false" | "0" | "None" | "NULL" | "nullptr" | "\"\"" | "''" | "[]" | "{}" | "not True"
        | "not 1" => Some(false),
        "True" | "true" | "1" | "not False" | "not 0" => Some(true),
        _ => None,
    }
}

/// Functions that no live code names. The asked ones are live, and so is what live code mentions, step by step;
/// where none of the asked ones is defined, all outermost functions are taken for asked.
fn never_called(answer: &Parsed, asked: &[String]) -> Vec<Span> {
    let functions = answer.functions();
    if functions.len() < 2 {
        return Vec::new();
    }
    let outer: HashSet<Span> = outermost(functions).iter().map(|function| function.span).collect();
    let is_asked = |function: &Function| asked.contains(&function.name);
    let any_asked = functions.iter().any(is_asked);
    let bytes = answer.text().as_bytes();
    let mut live: Vec<bool> = functions
        .iter()
        .map(|function| {
            let decorated = bytes.get(function.span.start) == Some(&b'@');
            let special = function.name.starts_with("__") || function.name == "constructor";
            decorated || special || is_asked(function) || (!any_asked && outer.contains(&function.span))
        })
        .collect();
    loop {
        let named = names_in_live_code(answer, functions, &live);
        let mut changed = false;
        for (index, function) in functions.iter().enumerate() {
            if !live[index] && named.contains(function.name.as_str()) {
                live[index] = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    functions.iter().zip(&live).filter(|(_, live)| !**live).map(|(function, _)| function.span).collect()
}

/// Every name and attribute outside of dead functions, other than the name in a function's own signature.
fn names_in_live_code<'a>(answer: &'a Parsed, functions: &[Function], live: &[bool]) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for leaf in answer.leaves() {
        if !matches!(leaf.kind, LeafKind::Name | LeafKind::Attribute) {
            continue;
        }
        let Some(text) = leaf.span.text(answer.text()) else { continue };
        let counts = functions.iter().zip(live).all(|(function, live)| {
            let is_own_name = function.signature.contains(leaf.span) && function.name == text;
            !is_own_name && (*live || !function.span.contains(leaf.span))
        });
        if counts {
            names.insert(text);
        }
    }
    names
}
