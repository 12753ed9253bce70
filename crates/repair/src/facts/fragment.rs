//! Facts of code without a function: what it reads, what it leaves, and what its calls do.

use vul2safe_code::{Language, Outline};

use super::detail::{Said, detail, failure, prose};
use super::effects::effects;
use super::purpose::{clause, speakable};
use super::{Facts, joined};
use crate::Draft;
use crate::leaks::statements;

/// What goes into a fragment and what comes out, as far as both sides agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Variables that it uses and does not set, as they are written (`$name` in PHP).
    pub(crate) inputs: Vec<String>,
    /// Variables that it sets.
    pub(crate) results: Vec<String>,
}

/// More names than these would be the code rather than a request.
const MOST_NAMES: usize = 4;

pub(super) fn facts(draft: &Draft) -> Option<Facts> {
    let (before, after) = (draft.before.outline(), draft.after.outline());
    let fragment = Fragment {
        inputs: common(draft, &before.reads, &after.reads),
        results: common(draft, &before.binds, &after.binds),
    };
    let purpose = purpose(draft, &before, &after, &fragment)?;
    Some(Facts {
        language: draft.record.language.title(),
        noun: "fragment",
        signature: String::new(),
        header: String::new(),
        purpose,
        detail: joined(
            detail(
                draft,
                &Said { comments: &before.comments, calls: &before.calls },
                &Said { comments: &after.comments, calls: &after.calls },
            ),
            failure(draft, &statements(&draft.before), &statements(&draft.after)),
        ),
        prefix: prefix(draft),
        example: None,
        python: draft.record.language == Language::Python,
        fragment: Some(fragment),
    })
}

/// The first names that both sides have and that may be said.
fn common(draft: &Draft, before: &[String], after: &[String]) -> Vec<String> {
    let sign = if draft.record.language == Language::Php { "$" } else { "" };
    after
        .iter()
        .filter(|name| before.contains(name) && speakable(draft, name))
        .take(MOST_NAMES)
        .map(|name| format!("{sign}{name}"))
        .collect()
}

/// From the first comment that both sides have, else from what their calls do, else from the last thing they set.
fn purpose(draft: &Draft, before: &Outline, after: &Outline, fragment: &Fragment) -> Option<String> {
    let comment = after
        .comments
        .iter()
        .filter(|comment| before.comments.contains(comment))
        .filter_map(|comment| prose(comment))
        .find(|comment| speakable(draft, comment));
    if let Some(comment) = comment {
        return Some(clause(&comment));
    }
    let effects = effects(draft, &before.calls, &after.calls);
    if !effects.is_empty() {
        return Some(effects.join(" and "));
    }
    let result = fragment.results.last()?;
    let call = after.calls.iter().find(|call| before.calls.contains(call) && speakable(draft, call));
    match (fragment.inputs.is_empty(), call) {
        (_, Some(call)) => Some(format!("work out the value of `{result}` with `{call}`")),
        (false, None) => Some(format!("work out the value of `{result}`")),
        (true, None) => None,
    }
}

/// Longer beginnings would be the code rather than a start.
const LONGEST_PREFIX: usize = 600;

/// The lines that both sides begin with: at most half of them, whole, and none that differs.
fn prefix(draft: &Draft) -> Option<String> {
    let lines: Vec<&str> = draft.secure.split_inclusive('\n').collect();
    let mut prefix = String::new();
    for line in lines.iter().take(lines.len() / 2) {
        let longer = format!("{prefix}{line}");
        if longer.len() > LONGEST_PREFIX || !draft.record.vulnerable.starts_with(&longer) {
            break;
        }
        prefix = longer;
    }
    (!prefix.trim().is_empty()).then_some(prefix)
}
