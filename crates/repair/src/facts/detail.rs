//! One more thing to say of code: a table, a comment, a constant, a call, and how it fails.

use vul2safe_code::{LeafKind, Parsed, Span};

use super::purpose::speakable;
use crate::Draft;

/// The comments and calls of a side, of a function or of a fragment.
pub(super) struct Said<'s> {
    pub(super) comments: &'s [String],
    pub(super) calls: &'s [String],
}

/// A sentence on what both sides show: the tables their SQL names, a comment, a constant, or a call.
pub(super) fn detail(draft: &Draft, before: &Said<'_>, after: &Said<'_>) -> Option<String> {
    let tables = common_tables(draft);
    let mut sentences = Vec::new();
    if let Some(table) = tables.first() {
        sentences.push(format!("The data stands in the table `{table}`."));
    }
    sentences.extend(
        after
            .comments
            .iter()
            .filter(|comment| before.comments.contains(comment))
            .filter_map(|comment| prose(comment))
            .map(|comment| format!("Keep in mind: {comment}.")),
    );
    if let Some(constant) = common_constant(draft) {
        sentences.push(format!("The text \"{constant}\" plays a part in it."));
    }
    let call = after.calls.iter().find(|call| {
        before.calls.contains(call)
            && call.len() <= 40
            && call.chars().all(|c| c.is_alphanumeric() || "._".contains(c))
    });
    if let Some(call) = call {
        sentences.push(format!("It works with `{call}`."));
    }
    sentences.into_iter().find(|sentence| speakable(draft, sentence))
}

/// A comment's words, when it is a line of prose and not code that was commented out.
pub(super) fn prose(comment: &str) -> Option<String> {
    let text = comment
        .trim()
        .trim_start_matches(['#', '/', '*', '!'])
        .trim_end_matches(['/', '*', '.', '?', '!', ':'])
        .trim();
    let words = text.split_whitespace().count();
    let is_code = text.contains(['=', '(', ')', ';', '{', '}', '\\', '<', '`', '?']) || text.contains('\n');
    ((3..=16).contains(&words) && text.len() <= 100 && !is_code).then(|| text.to_owned())
}

/// The string contents of one side.
fn strings(parsed: &Parsed) -> impl Iterator<Item = &str> {
    parsed
        .leaves()
        .iter()
        .enumerate()
        .filter(|(_, leaf)| leaf.kind == LeafKind::StringContent)
        .map(|(index, _)| parsed.leaf_text(index))
}

/// Tables that the SQL of both sides names, in order.
fn common_tables(draft: &Draft) -> Vec<String> {
    let tables = |parsed| -> Vec<String> {
        let mut found = Vec::new();
        for content in strings(parsed) {
            let words: Vec<&str> = content.split_whitespace().collect();
            for pair in words.windows(2) {
                let is_keyword = ["FROM", "INTO", "UPDATE", "JOIN", "TABLE"].contains(&pair[0]);
                let table = pair[1].trim_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
                let is_name = table.chars().all(|c| c.is_alphanumeric() || c == '_') && table.len() >= 2;
                if is_keyword && is_name && !found.iter().any(|known| known == table) {
                    found.push(table.to_owned());
                }
            }
        }
        found
    };
    let after = tables(&draft.after);
    tables(&draft.before).into_iter().filter(|table| after.contains(table)).collect()
}

/// A short string that both sides hold as it is.
fn common_constant(draft: &Draft) -> Option<String> {
    let after: Vec<&str> = strings(&draft.after).collect();
    strings(&draft.before)
        .find(|content| {
            let plain = content.chars().all(|c| c.is_alphanumeric() || " _-./".contains(c));
            (4..=30).contains(&content.len()) && plain && after.contains(content)
        })
        .map(|content| content.trim().to_owned())
}

/// How the code fails, as far as both sides say it in the same words.
pub(super) fn failure(draft: &Draft, before: &[Span], after: &[Span]) -> Option<String> {
    let endings = |text: &str, statements: &[Span]| -> Vec<Failure> {
        statements.iter().filter_map(|span| Failure::of(span.text(text)?)).collect()
    };
    let other = endings(&draft.record.vulnerable, before);
    let sentences =
        endings(&draft.secure, after).into_iter().filter(|failure| other.contains(failure)).map(|failure| {
            match failure {
                Failure::Raised(what) => format!("It can raise `{what}`."),
                Failure::Returned(what) => format!("It can also return `{what}`."),
            }
        });
    // What it raises says more than what it returns.
    let mut sentences: Vec<String> = sentences.filter(|sentence| speakable(draft, sentence)).collect();
    sentences.sort_by_key(|sentence| !sentence.starts_with("It can raise"));
    sentences.into_iter().next()
}

/// One way in which code says that it failed.
#[derive(PartialEq, Eq)]
enum Failure {
    /// The class of an exception.
    Raised(String),
    /// A value that stands for no result.
    Returned(String),
}

impl Failure {
    fn of(statement: &str) -> Option<Failure> {
        let statement = statement.trim().trim_end_matches(';').trim_end();
        let raised = ["raise ", "throw new ", "throw "].iter().find_map(|word| statement.strip_prefix(word));
        if let Some(raised) = raised {
            let is_part = |character: char| character.is_alphanumeric() || "_.:\\".contains(character);
            let class = raised.trim().split(|character| !is_part(character)).next()?;
            let last = class.rsplit(['.', ':', '\\']).next()?;
            // `raise error` hands on what it was given.
            return last.starts_with(char::is_uppercase).then(|| Failure::Raised(class.to_owned()));
        }
        let value = statement.strip_prefix("return ")?.trim();
        let is_negative = value.strip_prefix('-').is_some_and(|rest| {
            !rest.is_empty()
                && rest.chars().all(|character| character.is_ascii_uppercase() || character.is_ascii_digit())
        });
        (is_negative || matches!(value, "NULL" | "nullptr" | "None" | "null" | "false" | "False" | "FALSE"))
            .then(|| Failure::Returned(value.to_owned()))
    }
}
