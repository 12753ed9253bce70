//! How much evidence survives when SVEN's own functions are written in another way by program: other local names and layout, a
//! temporary more, a temporary less.
//!
//! `cargo test --workspace --test rewritten -- --nocapture` prints the shares. Skipped, with a word, where the data is not there.

mod support;

use std::collections::HashMap;

use support::pair;
use vul2safe_code::{Language, LeafKind, Node, Parsed, Span, is_comment, parse_excerpt};
use vul2safe_corpus::{ReadLimits, Source, VulnerabilityRecord, read};
use vul2safe_reward::{Evidence, Patterns, find_evidence};

fn sven() -> Option<Vec<VulnerabilityRecord>> {
    let data = std::env::var_os("VUL2SAFE_DATA").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        std::path::PathBuf::from,
    );
    let path = data.join("sven");
    if !path.exists() {
        println!("skipped: {} not found", path.display());
        return None;
    }
    Some(read(&Source::Sven { path }, &ReadLimits::default()).expect("the folder is readable").records)
}

fn parsed(language: Language, text: &str) -> Option<Parsed> {
    parse_excerpt(language, text).ok().filter(Parsed::is_clean)
}

/// Every local name as another, and other white space: two blanks for one, a comment behind each Python line, a line for each C
/// token that stands outside of preprocessor lines.
fn renamed_and_laid_out(side: &Parsed) -> String {
    let functions = side.functions();
    let imported = imported(side);
    let mut names: HashMap<&str, String> = HashMap::new();
    let is_local = |span: Span, text: &str| {
        !imported.iter().any(|name| name == text)
            && functions.iter().any(|function| {
                function.span.contains(span) && function.locals.iter().any(|local| local == text)
            })
    };
    let lines_stay = side.language() == Language::Python || side.text().contains('#');
    let (mut out, mut position) = (String::new(), 0);
    for (index, leaf) in side.leaves().iter().enumerate() {
        let gap = &side.text()[position..leaf.span.start];
        match gap {
            " " if lines_stay => out.push_str("  "),
            " " => out.push_str("\n\t"),
            gap => out.push_str(gap),
        }
        let text = side.leaf_text(index);
        if leaf.kind == LeafKind::Name && is_local(leaf.span, text) && !matches!(text, "self" | "cls") {
            let next = format!("zq{}", names.len());
            out.push_str(names.entry(text).or_insert(next));
        } else {
            out.push_str(text);
        }
        position = leaf.span.end;
    }
    out.push_str(&side.text()[position..]);
    out
}

fn imported(side: &Parsed) -> Vec<String> {
    let mut names = Vec::new();
    Parsed::walk(side.root(), |node| {
        let is_import = node.kind().starts_with("import_");
        if is_import {
            Parsed::walk(node, |inner| {
                if inner.kind() == "identifier" {
                    names.push(side.node_text(inner).to_owned());
                }
                true
            });
        }
        !is_import
    });
    names
}

/// A temporary for an argument that overlaps `span`: `f(a + b)` becomes `tmp_value = a + b` and `f(tmp_value)`.
fn with_temporary(side: &Parsed, span: Span) -> Option<String> {
    let text = side.text();
    let mut argument: Option<Node<'_>> = None;
    Parsed::walk(side.root(), |node| {
        if argument.is_none() && node.kind() == "argument_list" {
            argument = node.named_children().find(|child| {
                let is_value = !matches!(
                    child.kind(),
                    "identifier"
                        | "keyword_argument"
                        | "list_splat"
                        | "dictionary_splat"
                        | "generator_expression"
                );
                is_value && !is_comment(child.kind()) && Span::from(child.byte_range()).overlaps(span)
            });
        }
        argument.is_none()
    });
    let argument = argument?;
    let mut statement = argument;
    while !matches!(statement.kind(), "expression_statement" | "return_statement") {
        // A condition is computed anew in each round, and a lambda's body at another time.
        if matches!(
            statement.kind(),
            "lambda" | "list_comprehension" | "conditional_expression" | "boolean_operator"
        ) {
            return None;
        }
        statement = statement.parent()?;
    }
    let start = text[..statement.start_byte()].rfind('\n').map_or(0, |newline| newline + 1);
    let indent = &text[start..statement.start_byte()];
    indent.trim().is_empty().then(|| {
        format!(
            "{}{indent}tmp_value = {}\n{}tmp_value{}",
            &text[..start],
            side.node_text(argument),
            &text[start..argument.start_byte()],
            &text[argument.end_byte()..]
        )
    })
}

/// A temporary less: `x = value` in a line of its own that overlaps `span`, and the only use of `x`, become the value in its place.
fn without_temporary(side: &Parsed, span: Span) -> Option<String> {
    let text = side.text();
    let mut found = None;
    Parsed::walk(side.root(), |node| {
        if found.is_some() || node.kind() != "assignment" || !Span::from(node.byte_range()).overlaps(span) {
            return found.is_none();
        }
        let (Some(left), Some(right)) = (node.child_by_field_name("left"), node.child_by_field_name("right"))
        else {
            return true;
        };
        let name = side.node_text(left);
        let uses: Vec<Span> = side
            .leaves()
            .iter()
            .enumerate()
            .filter(|(index, leaf)| leaf.kind == LeafKind::Name && side.leaf_text(*index) == name)
            .map(|(_, leaf)| leaf.span)
            .collect();
        let is_plain = left.kind() == "identifier"
            && node.parent().is_some_and(|parent| parent.kind() == "expression_statement");
        if is_plain && uses.len() == 2 && uses[1].start > right.end_byte() {
            found = Some((node, right, uses[1]));
        }
        true
    });
    let (assignment, value, place) = found?;
    let start = text[..assignment.start_byte()].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[assignment.end_byte()..].find('\n').map(|newline| assignment.end_byte() + newline + 1)?;
    // As a person would: in brackets only where the value is more than one thing and no brackets are there.
    let value_text = side.node_text(value);
    let is_one = !matches!(
        value.kind(),
        "binary_operator"
            | "boolean_operator"
            | "comparison_operator"
            | "not_operator"
            | "conditional_expression"
            | "lambda"
            | "concatenated_string"
    );
    let is_bracketed = text[..place.start].trim_end().ends_with(['(', '[', ',', '='])
        && text[place.end..].trim_start().starts_with([')', ']', ',', '\n']);
    let written = if is_one || is_bracketed { value_text.to_owned() } else { format!("({value_text})") };
    (text[start..assignment.start_byte()].trim().is_empty()
        && text[assignment.end_byte()..end].trim().is_empty())
    .then(|| format!("{}{}{written}{}", &text[..start], &text[end..place.start], &text[place.end..]))
}

/// Pieces of evidence before and after a rewriting of the sides to which it applies.
#[derive(Default)]
struct Kept {
    before: usize,
    after: usize,
    sides: usize,
}

impl Kept {
    fn add(&mut self, before: &[Evidence], after: &[Evidence]) {
        // Of each piece one with its pattern: what a rewriting adds makes up for nothing.
        let kept = before
            .iter()
            .filter(|one| after.iter().any(|other| other.pattern == one.pattern && other.sign == one.sign));
        self.after += kept.count();
        self.before += before.len();
        self.sides += 1;
    }

    fn share(&self, name: &str) -> f64 {
        let share = self.after as f64 / self.before.max(1) as f64;
        println!(
            "{name}: {} of {} pieces of evidence in {} sides ({:.1} %)",
            self.after,
            self.before,
            self.sides,
            100.0 * share
        );
        share
    }
}

#[test]
fn evidence_survives_rewriting() {
    let Some(records) = sven() else { return };
    let (mut renamed, mut introduced, mut inlined) = (Kept::default(), Kept::default(), Kept::default());
    for record in records {
        let Some(secure) = &record.secure else { continue };
        if vul2safe_corpus::diff_spans(record.language, &record.vulnerable, secure).is_err() {
            continue;
        }
        let pair = pair(&record.id, record.language, &record.vulnerable, secure);
        let patterns = Patterns::of_pair(&pair).expect("patterns");
        for text in [&record.vulnerable, secure] {
            let Some(side) = parsed(record.language, text) else { continue };
            let before = find_evidence(&side, &patterns, &[]);
            if let Some(other) = parsed(record.language, &renamed_and_laid_out(&side)) {
                renamed.add(&before, &find_evidence(&other, &patterns, &[]));
            }
            if record.language != Language::Python {
                continue;
            }
            for item in &before {
                let one = std::slice::from_ref(item);
                if let Some(other) =
                    with_temporary(&side, item.span).and_then(|text| parsed(record.language, &text))
                {
                    introduced.add(one, &find_evidence(&other, &patterns, &[]));
                }
                if let Some(other) =
                    without_temporary(&side, item.span).and_then(|text| parsed(record.language, &text))
                {
                    inlined.add(one, &find_evidence(&other, &patterns, &[]));
                }
            }
        }
    }
    assert!(renamed.sides > 1_000 && introduced.sides > 200 && inlined.sides > 50, "too few to tell");
    let shares = [
        renamed.share("other names and layout"),
        introduced.share("a temporary more"),
        inlined.share("a temporary less"),
    ];
    assert!(shares[0] >= 0.95 && shares[1].min(shares[2]) >= 0.6, "{shares:?}");
}
