//! Temporaries: `query = a + b; run(query)` and `run(a + b)` are one program, and are read as one.
//!
//! A local name that is bound once, by a plain assignment, and used once behind it is replaced by its value where it is used; the
//! assignment goes. Every item keeps its place in the text, so that a reward lands where the tokens are.

use std::collections::HashMap;
use std::ops::Range;

use vul2safe_code::{Language, Node, Parsed, Span};

use crate::sequence::{Class, Item, items_in};

/// Items without single-use temporaries.
pub(crate) struct Inlined<'a> {
    pub items: Vec<Item<'a>>,
    /// Of each item its index among the plain ones.
    pub origin: Vec<usize>,
}

/// Chains of temporaries longer than this are left as they stand.
const DEEPEST: usize = 16;

/// The items of a text without its single-use temporaries; the same items where there are none.
pub(crate) fn inlined<'a>(parsed: &Parsed, items: &[Item<'a>]) -> Inlined<'a> {
    let (mut values, mut gone) = (HashMap::new(), vec![false; items.len()]);
    let scopes: Vec<Span> = parsed.functions().iter().map(|function| function.span).collect();
    for temporary in temporaries(parsed) {
        let Some((place, value, statement)) = single_use(&scopes, items, &temporary) else { continue };
        values.insert(place, value);
        gone[statement].fill(true);
    }
    let mut result =
        Inlined { items: Vec::with_capacity(items.len()), origin: Vec::with_capacity(items.len()) };
    for index in (0..items.len()).filter(|index| !gone[*index]) {
        emit(index, items, &values, DEEPEST, &mut result);
    }
    result
}

fn emit<'a>(
    index: usize,
    items: &[Item<'a>],
    values: &HashMap<usize, Range<usize>>,
    depth: usize,
    result: &mut Inlined<'a>,
) {
    match values.get(&index) {
        Some(value) if depth > 0 => {
            for inner in value.clone() {
                emit(inner, items, values, depth - 1, result);
            }
        }
        _ => {
            result.items.push(items[index]);
            result.origin.push(index);
        }
    }
}

/// An assignment of a value to one name, as a statement of its own.
struct Temporary {
    name: Span,
    value: Span,
    statement: Span,
}

fn temporaries(parsed: &Parsed) -> Vec<Temporary> {
    let mut found = Vec::new();
    Parsed::walk(parsed.root(), |node| {
        found.extend(temporary(parsed.language(), node));
        true
    });
    found
}

fn temporary(language: Language, node: Node<'_>) -> Option<Temporary> {
    // What binds, the field of the name and of the value, the kind of the statement around, and the kind of a name.
    let (kind, name, value, around, plain) = match language {
        Language::Python => ("assignment", "left", "right", "expression_statement", "identifier"),
        Language::C | Language::Cpp => {
            ("init_declarator", "declarator", "value", "declaration", "identifier")
        }
        Language::Java => {
            ("variable_declarator", "name", "value", "local_variable_declaration", "identifier")
        }
        Language::JavaScript => ("variable_declarator", "name", "value", "lexical_declaration", "identifier"),
        Language::Go => ("short_var_declaration", "left", "right", "", "expression_list"),
        Language::Php => ("assignment_expression", "left", "right", "expression_statement", "variable_name"),
    };
    if node.kind() != kind {
        return None;
    }
    let (name, value) = (node.child_by_field_name(name)?, node.child_by_field_name(value)?);
    let statement = match around {
        "" => node,
        around => node.parent().filter(|parent| parent.kind() == around)?,
    };
    let has_one = |list: Node<'_>| list.kind() != "expression_list" || list.named_child_count() == 1;
    let others = match language {
        // `int a = 1, b = 2;` binds two.
        Language::C | Language::Cpp => statement.children_by_field_name("declarator").count(),
        Language::Java | Language::JavaScript => {
            statement.named_children().filter(|child| child.kind() == kind).count()
        }
        _ => 1,
    };
    let is_plain = name.kind() == plain && has_one(name) && has_one(value) && others == 1;
    // `a = b = c` and `x: int = 1` say more than a value.
    let is_chain = matches!(value.kind(), "assignment" | "assignment_expression" | "initializer_list");
    let is_typed = language == Language::Python && node.child_by_field_name("type").is_some();
    (is_plain && !is_chain && !is_typed).then(|| Temporary {
        name: Span::from(name.byte_range()),
        value: Span::from(value.byte_range()),
        statement: Span::from(statement.byte_range()),
    })
}

/// The place of the only use, and the items of the value and of the statement.
fn single_use(
    scopes: &[Span],
    items: &[Item<'_>],
    temporary: &Temporary,
) -> Option<(usize, Range<usize>, Range<usize>)> {
    // The name's last item: PHP writes `$` before it.
    let named = items_in(items, temporary.name);
    let name = *items.get(named.end.checked_sub(1)?)?;
    if name.class != Class::Local {
        return None;
    }
    let around = scopes.iter().filter(|scope| scope.contains(temporary.statement));
    let scope = *around.min_by_key(|scope| scope.len())?;
    let mut uses = items_in(items, scope)
        .filter(|index| items[*index].class == Class::Local && items[*index].text == name.text);
    let (definition, place) = (uses.next()?, uses.next()?);
    let value = items_in(items, temporary.value);
    let statement = items_in(items, temporary.statement);
    let is_single = uses.next().is_none() && named.contains(&definition) && !statement.contains(&place);
    (is_single && place >= statement.end && !value.is_empty()).then_some((place, value, statement))
}

/// The longest run of plain items, one behind the other in the text, among those at `positions` of the inlined ones.
pub(crate) fn longest_run(inlined: &Inlined<'_>, positions: Range<usize>) -> Option<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &index in inlined.origin.get(positions)? {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    // The first of several equals.
    runs.into_iter().rev().max_by_key(|run| run.len())
}

/// The longest run of inlined items that come from `plain`.
pub(crate) fn run_of(inlined: &Inlined<'_>, plain: &Range<usize>) -> Option<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (position, index) in inlined.origin.iter().enumerate() {
        if plain.contains(index) {
            match runs.last_mut() {
                Some(run) if run.end == position => run.end += 1,
                _ => runs.push(position..position + 1),
            }
        }
    }
    runs.into_iter().rev().max_by_key(|run| run.len())
}

#[cfg(test)]
mod tests {
    use vul2safe_code::parse;

    use super::*;
    use crate::sequence::items;

    fn shown(language: Language, text: &str) -> String {
        let parsed = parse(language, text).unwrap();
        assert!(parsed.is_clean(), "{text}");
        let plain = items(&parsed);
        let inlined = inlined(&parsed, &plain);
        assert_eq!(inlined.items.len(), inlined.origin.len());
        inlined
            .items
            .iter()
            .filter(|item| !item.text.is_empty())
            .map(|item| item.text)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_temporary_makes_no_difference() {
        for (language, with, without) in [
            (
                Language::Python,
                "def f(a):\n    b = a + 1\n    c = g(b)\n    return c\n",
                "def f(a):\n    return g(a + 1)\n",
            ),
            (
                Language::C,
                "int f(int a) { int b = a + 1; return g(b); }",
                "int f(int a) { return g(a + 1); }",
            ),
            (
                Language::JavaScript,
                "function f(a) { const b = a + 1; return g(b); }",
                "function f(a) { return g(a + 1); }",
            ),
            (
                Language::Java,
                "int f(int a) { int b = a + 1; return g(b); }",
                "int f(int a) { return g(a + 1); }",
            ),
            (
                Language::Go,
                "func f(a int) int { b := a + 1; return g(b) }",
                "func f(a int) int { return g(a + 1) }",
            ),
        ] {
            let strip = |text: String| text.replace(" ;", "");
            assert_eq!(strip(shown(language, with)), strip(shown(language, without)), "{language}");
        }
        assert_eq!(
            shown(Language::Php, "function f($a) { $b = $a + 1; return g($b); }").matches('b').count(),
            0
        );
    }

    #[test]
    fn what_is_no_temporary_stays() {
        for text in [
            "def f(a):\n    b = a + 1\n    return g(b, b)\n",
            "def f(a):\n    b = a\n    b = h(b)\n    return b\n",
            "def f(a):\n    b: int = a\n    return g(b)\n",
            "def f(a):\n    b = c = a\n    return g(b, c)\n",
            "b = 1\nprint(b)\n",
            "def f(b):\n    b = 1\n    return b\n",
        ] {
            let parsed = parse(Language::Python, text).unwrap();
            let plain = items(&parsed);
            assert_eq!(inlined(&parsed, &plain).items.len(), plain.len(), "{text}");
        }
    }
}
