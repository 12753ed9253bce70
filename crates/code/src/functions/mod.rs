//! Functions: signature, body, parameters, names, calls.

mod c;
mod go;
mod java;
mod javascript;
mod php;
mod python;

use crate::Node;

use crate::statements::{header_span, is_statement_kind};
use crate::{Language, Parsed, Span, is_comment};

/// What a function's text says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name; `Class::name` keeps its qualification in C++. Empty where the text has none.
    pub name: String,
    /// The whole definition, decorators included.
    pub span: Span,
    /// From `def` (or the return type, or the first modifier) to the colon (or what stands before the body).
    pub signature: Span,
    /// The block below the signature.
    pub body: Span,
    /// Names of the parameters, without stars, dollar signs, types and defaults.
    pub parameters: Vec<String>,
    /// The docstring without its quotes, outer white space trimmed. In other languages than Python the comment right above
    /// the function, without its marks.
    pub docstring: Option<String>,
    /// The comments inside, in order, with their marks.
    pub comments: Vec<String>,
    /// Callees as written (`os.path.join`), white space removed, in order, each once.
    pub calls: Vec<String>,
    /// Parameters and names bound inside, in order, each once.
    pub locals: Vec<String>,
    /// Whether some `return` gives a value, or the function yields. Nested functions do not count.
    pub returns_value: bool,
    /// Whether it stands in a class or object, is qualified by one, has a receiver, or takes `self` or `cls` first.
    pub is_method: bool,
    /// The statements inside, in order of the text, nested ones included; of compound statements the header.
    pub statements: Vec<Span>,
}

impl Parsed {
    /// Every function of the text, nested ones included, in order of the text. They are found once and kept.
    pub fn functions(&self) -> &[Function] {
        self.functions.get_or_init(|| self.find_functions().into())
    }

    fn find_functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        Parsed::walk(self.root(), |node| {
            // The function that only was put around an excerpt is none of the text's.
            if let Some(function) = describe(self, node)
                && !(self.is_excerpt() && function.name.is_empty())
            {
                functions.push(function);
            }
            true
        });
        functions
    }
}

/// Adds `text` unless it is already there or empty.
pub(crate) fn add(list: &mut Vec<String>, text: &str) {
    if !text.is_empty() && !list.iter().any(|known| known == text) {
        list.push(text.to_string());
    }
}

/// What each language says of a function its own way.
struct Parts<'tree> {
    name: String,
    /// The node of the definition with all that belongs to it, such as decorators or the variable it is assigned to.
    outer: Node<'tree>,
    /// Where the signature begins.
    start: usize,
    body: Node<'tree>,
    parameters: Vec<String>,
    docstring: Option<String>,
    is_method: bool,
}

/// The parts of a definition that has its name and body in fields of these names, and its description in a comment above.
fn named_parts<'tree>(
    parsed: &Parsed,
    node: Node<'tree>,
    parameters: Vec<String>,
    is_method: bool,
) -> Option<Parts<'tree>> {
    Some(Parts {
        name: parsed.node_text(node.child_by_field_name("name")?).to_string(),
        outer: node,
        start: node.start_byte(),
        body: node.child_by_field_name("body")?,
        parameters,
        docstring: comment_above(parsed, node),
        is_method,
    })
}

/// The parts of the function at `node`, if it is one.
fn parts<'tree>(parsed: &Parsed, node: Node<'tree>) -> Option<Parts<'tree>> {
    match parsed.language() {
        Language::Python => python::parts(parsed, node),
        Language::C | Language::Cpp => c::parts(parsed, node),
        Language::Java => java::parts(parsed, node),
        Language::JavaScript => javascript::parts(parsed, node),
        Language::Go => go::parts(parsed, node),
        Language::Php => php::parts(parsed, node),
    }
}

/// Adds the names that this one node binds.
pub(crate) fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    match parsed.language() {
        Language::Python => python::bound_names(parsed, node, locals),
        Language::C | Language::Cpp => c::bound_names(parsed, node, locals),
        Language::Java => java::bound_names(parsed, node, locals),
        Language::JavaScript => javascript::bound_names(parsed, node, locals),
        Language::Go => go::bound_names(parsed, node, locals),
        Language::Php => php::bound_names(parsed, node, locals),
    }
}

fn describe(parsed: &Parsed, node: Node<'_>) -> Option<Function> {
    let Parts { name, outer, start, body, parameters, docstring, is_method } = parts(parsed, node)?;
    let mut function = Function {
        name,
        span: Span::from(outer.byte_range()),
        signature: Span::new(start, header_span(node, parsed.text()).end),
        body: Span::from(body.byte_range()),
        locals: parameters.clone(),
        parameters,
        docstring,
        comments: Vec::new(),
        calls: Vec::new(),
        // `x => x + 1` gives a value without saying `return`.
        returns_value: node.kind() == "arrow_function" && body.kind() != "statement_block",
        is_method,
        statements: Vec::new(),
    };
    if parsed.language() == Language::Go {
        go::names_beside_parameters(parsed, node, &mut function.locals);
    }
    collect_body(parsed, node, body, &mut function);
    Some(function)
}

/// The first identifier below a node.
fn first_identifier(node: Node<'_>) -> Option<Node<'_>> {
    let mut found = None;
    Parsed::walk(node, |inner| {
        if found.is_none() && inner.kind() == "identifier" {
            found = Some(inner);
        }
        found.is_none()
    });
    found
}

/// The names in all children of `node` with the field `field`.
fn names_of_field(parsed: &Parsed, node: Node<'_>, field: &str, names: &mut Vec<String>) {
    for name in node.children_by_field_name(field) {
        add(names, parsed.node_text(name));
    }
}

/// The comment that ends on the line above a definition, or the `//` lines there, as plain text.
fn comment_above(parsed: &Parsed, definition: Node<'_>) -> Option<String> {
    let mut below = definition;
    if let Some(outer) = definition
        .parent()
        .filter(|parent| matches!(parent.kind(), "template_declaration" | "export_statement"))
    {
        below = outer;
    }
    let is_line = |text: &str| text.starts_with("//") || text.starts_with('#');
    let mut comments = Vec::new();
    while let Some(above) = below.prev_sibling().filter(|above| is_comment(above.kind())) {
        let gap = parsed.text().get(above.end_byte()..below.start_byte())?;
        let text = parsed.node_text(above);
        // A block comment stands for itself, lines go together. (Some grammars count the line's end to its comment.)
        let goes_on = comments.is_empty() || is_line(text);
        let line_ends = gap.matches('\n').count() + usize::from(text.ends_with('\n'));
        if line_ends != 1 || !goes_on {
            break;
        }
        comments.push(text);
        below = above;
        if !is_line(text) {
            break;
        }
    }
    comments.reverse();
    let lines = comments.iter().flat_map(|comment| comment.lines()).map(|line| {
        let line = line.trim().trim_end_matches("*/");
        let line = ["/**", "/*!", "/*", "///", "//!", "//", "*", "#"]
            .iter()
            .find_map(|mark| line.strip_prefix(mark))
            .unwrap_or(line);
        line.trim()
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

/// The callee of a call as it is written, white space removed.
pub(crate) fn callee(parsed: &Parsed, node: Node<'_>) -> Option<String> {
    let written = match node.kind() {
        "call" | "call_expression" | "function_call_expression" => {
            parsed.node_text(node.child_by_field_name("function")?)
        }
        "method_invocation"
        | "member_call_expression"
        | "nullsafe_member_call_expression"
        | "scoped_call_expression" => {
            let end = node.child_by_field_name("arguments")?.start_byte();
            parsed.text().get(node.start_byte()..end)?
        }
        "new_expression" => parsed.node_text(node.child_by_field_name("constructor")?),
        "object_creation_expression" => {
            let class = node.child_by_field_name("type").or_else(|| node.named_child(0))?;
            parsed.node_text(class)
        }
        _ => return None,
    };
    Some(written.split_whitespace().collect())
}

fn collect_body(parsed: &Parsed, definition: Node<'_>, body: Node<'_>, function: &mut Function) {
    let mut nested_end = 0;
    Parsed::walk(definition, |node| {
        let in_body = node.start_byte() >= body.start_byte() && node.id() != definition.id();
        let nested = node.start_byte() < nested_end;
        let kind = node.kind();
        if in_body && is_statement_kind(kind) {
            function.statements.push(header_span(node, parsed.text()));
        }
        if is_comment(kind) {
            function.comments.push(parsed.node_text(node).trim_end().to_string());
        }
        if in_body && let Some(callee) = callee(parsed, node) {
            add(&mut function.calls, &callee);
        }
        match kind {
            "return_statement" if in_body && !nested && node.named_child_count() > 0 => {
                function.returns_value = true;
            }
            "yield" | "yield_expression" | "co_yield_statement" | "co_return_statement"
                if in_body && !nested && node.is_named() =>
            {
                function.returns_value = true;
            }
            _ if in_body && holds_own_code(kind) => {
                let is_named_here = matches!(
                    kind,
                    "function_definition"
                        | "class_definition"
                        | "function_declaration"
                        | "generator_function_declaration"
                        | "class_declaration"
                );
                if is_named_here && let Some(name) = node.child_by_field_name("name") {
                    add(&mut function.locals, parsed.node_text(name));
                }
                nested_end = nested_end.max(node.end_byte());
            }
            _ => {}
        }
        if in_body {
            bound_names(parsed, node, &mut function.locals);
        }
        true
    });
}

/// Whether a `return` inside a node of this kind is not the function's own.
fn holds_own_code(kind: &str) -> bool {
    matches!(
        kind,
        "function_definition"
            | "lambda"
            | "lambda_expression"
            | "class_definition"
            | "class_declaration"
            | "function_declaration"
            | "generator_function_declaration"
            | "function_expression"
            | "generator_function"
            | "arrow_function"
            | "method_definition"
            | "method_declaration"
            | "func_literal"
            | "anonymous_function"
    )
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_other;
