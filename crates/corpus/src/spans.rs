//! Labelled spans from the leaf-token difference of both sides.

use std::collections::HashSet;
use std::ops::Range;

use vul2safe_code::{Hunk, Language, LeafKind, Parsed, Span, diff_leaves, parse_excerpt};

use crate::{CorpusError, LabelledSpan, Side, SpanOrigin};

/// Hunks of one statement with at most this many equal leaves between them are one change: `'%s'" % name` becoming
/// `?", (name,)` is a single thought, not three.
const JOINED_GAP: usize = 4;

/// How far behind an insertion the statement it guards is looked for, in leaves.
const GUARDED_WITHIN: usize = 400;

/// The bytes that the fix takes out of the vulnerable side and puts into the secure side.
///
/// Spans are ordered by side and start, stand on leaf boundaries, and carry no CWE. A change that only inserts leaves
/// the vulnerable side without changed tokens; then the statement that encloses the insertion is the *anchor*, and
/// its reason says so. When nothing but whole statements were inserted, the anchor is the first statement behind
/// that uses one of their names. Deletions are treated alike on the secure side.
///
/// # Errors
/// `Unparsable` when a side is too long for the parser, `NoDifference` when only white space and comments differ.
pub fn diff_spans(
    language: Language,
    vulnerable: &str,
    secure: &str,
) -> Result<Vec<LabelledSpan>, CorpusError> {
    let side = |side, text| {
        parse_excerpt(language, text)
            .map_err(|error| CorpusError::Unparsable { side, message: error.to_string() })
    };
    let (before, after) = (side("vulnerable", vulnerable)?, side("secure", secure)?);
    let changes = joined(&before, &after, diff_leaves(&before, &after));
    if changes.is_empty() {
        return Err(CorpusError::NoDifference);
    }
    let mut spans = Vec::new();
    for (side, parsed, other) in [(Side::Vulnerable, &before, &after), (Side::Secure, &after, &before)] {
        let mut own: Vec<LabelledSpan> =
            changes.iter().filter_map(|change| changed_span(side, parsed, other, change)).collect();
        own.extend(anchors(side, parsed, other, &changes, &own));
        own.sort_by_key(|span| span.start);
        spans.extend(own);
    }
    Ok(spans)
}

/// Neighbouring hunks as one change, with what of it really changed.
struct Change {
    before: Range<usize>,
    after: Range<usize>,
    /// Leaves that differ on each side, without the equal ones in between.
    changed_before: usize,
    changed_after: usize,
}

impl Change {
    fn range(&self, side: Side) -> Range<usize> {
        match side {
            Side::Vulnerable => self.before.clone(),
            Side::Secure => self.after.clone(),
        }
    }

    fn changed(&self, side: Side) -> usize {
        match side {
            Side::Vulnerable => self.changed_before,
            Side::Secure => self.changed_after,
        }
    }
}

fn joined(before: &Parsed, after: &Parsed, hunks: Vec<Hunk>) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for hunk in hunks {
        let (changed_before, changed_after) = (hunk.before.len(), hunk.after.len());
        if let Some(last) = changes.last_mut()
            && hunk.before.start.saturating_sub(last.before.end) <= JOINED_GAP
            && one_statement(before, last_of(&last.before), first_of(&hunk.before))
            && one_statement(after, last_of(&last.after), first_of(&hunk.after))
        {
            last.before.end = hunk.before.end;
            last.after.end = hunk.after.end;
            last.changed_before += changed_before;
            last.changed_after += changed_after;
            continue;
        }
        changes.push(Change { before: hunk.before, after: hunk.after, changed_before, changed_after });
    }
    changes
}

/// The leaf that stands for the end of a range: its last one, or the equal leaf behind an empty one.
fn last_of(range: &Range<usize>) -> usize {
    if range.is_empty() { range.end } else { range.end - 1 }
}

/// The leaf that stands for the start of a range: its first one, or the equal leaf before an empty one.
fn first_of(range: &Range<usize>) -> usize {
    if range.is_empty() { range.start.saturating_sub(1) } else { range.start }
}

/// Whether two leaves stand in the same smallest statement.
fn one_statement(parsed: &Parsed, first: usize, second: usize) -> bool {
    let around =
        |index: usize| parsed.leaves().get(index).and_then(|leaf| parsed.statement_around(leaf.span));
    match (around(first), around(second)) {
        (Some(first), Some(second)) => first == second,
        _ => false,
    }
}

/// The span of a change on one side, or nothing when nothing changed there.
fn changed_span(side: Side, parsed: &Parsed, other: &Parsed, change: &Change) -> Option<LabelledSpan> {
    if change.changed(side) == 0 {
        return None;
    }
    let range = whole_strings(parsed, widened(parsed, change.range(side)));
    let span = cover(parsed, range)?;
    let opposite = match side {
        Side::Vulnerable => Side::Secure,
        Side::Secure => Side::Vulnerable,
    };
    let counterpart = cover(other, change.range(opposite)).and_then(|span| span.text(other.text()));
    let reason = match (side, counterpart.map(shortened)) {
        (Side::Vulnerable, Some(text)) => format!("the fix replaces this with `{text}`"),
        (Side::Vulnerable, None) => "the fix removes this".to_owned(),
        (Side::Secure, Some(text)) => format!("the fix puts this in place of `{text}`"),
        (Side::Secure, None) => "the fix adds this".to_owned(),
    };
    Some(labelled(side, span, reason))
}

/// Marks alone (`,` or `)`) say nothing: such a range takes its neighbours of the same statement with it.
fn widened(parsed: &Parsed, range: Range<usize>) -> Range<usize> {
    let leaves = parsed.leaves();
    let is_mark =
        |index: usize| matches!(leaves[index].kind, LeafKind::Punctuation | LeafKind::StringDelimiter);
    if !range.clone().all(is_mark) {
        return range;
    }
    let mut wide = range.clone();
    if range.start > 0 && one_statement(parsed, range.start - 1, range.start) {
        wide.start -= 1;
    }
    if range.end < leaves.len() && one_statement(parsed, range.end - 1, range.end) {
        wide.end += 1;
    }
    wide
}

/// A range that starts or ends inside a string's quotes takes the quotes with it.
fn whole_strings(parsed: &Parsed, mut range: Range<usize>) -> Range<usize> {
    let leaves = parsed.leaves();
    let is = |index: usize, kind: LeafKind| leaves.get(index).is_some_and(|leaf| leaf.kind == kind);
    if is(range.start, LeafKind::StringContent)
        && range.start > 0
        && is(range.start - 1, LeafKind::StringDelimiter)
    {
        range.start -= 1;
    }
    if range.end > range.start
        && is(range.end - 1, LeafKind::StringContent)
        && is(range.end, LeafKind::StringDelimiter)
    {
        range.end += 1;
    }
    range
}

/// Longer statements are blocks, not places.
const LONGEST_ANCHOR: usize = 600;

/// The statements at which changes work that leave this side's tokens alone, each once and clear of `taken`.
///
/// The best anchor is the statement that a change stands inside of. Only when a side would stay without any span,
/// whole inserted statements are anchored at what they guard, and failing that, at their neighbour.
fn anchors(
    side: Side,
    parsed: &Parsed,
    other: &Parsed,
    changes: &[Change],
    taken: &[LabelledSpan],
) -> Vec<LabelledSpan> {
    let (opposite, reason) = match side {
        Side::Vulnerable => (Side::Secure, "the fix only adds code here; this is the statement it guards"),
        Side::Secure => (Side::Vulnerable, "the fix only takes code out here; this is what stays"),
    };
    let untouched: Vec<&Change> = changes.iter().filter(|change| change.changed(side) == 0).collect();
    let mut spans: Vec<Span> = untouched
        .iter()
        .filter_map(|change| enclosing_statement(parsed, change.range(side)))
        .filter(|span| span.len() <= LONGEST_ANCHOR)
        .collect();
    if spans.is_empty() && taken.is_empty() {
        spans.extend(untouched.iter().filter_map(|change| {
            let names: HashSet<&str> = change
                .range(opposite)
                .filter(|index| other.leaves()[*index].kind == LeafKind::Name)
                .map(|index| other.leaf_text(index))
                .collect();
            guarded_statement(parsed, change.range(side).start, &names)
        }));
    }
    if spans.is_empty() && taken.is_empty() {
        spans.extend(untouched.iter().filter_map(|change| neighbour(parsed, change.range(side).start)));
    }
    spans.sort_unstable();
    spans.dedup();
    spans
        .into_iter()
        .filter(|span| taken.iter().all(|other| !other.span().overlaps(*span)))
        .map(|span| labelled(side, span, reason.to_owned()))
        .collect()
}

fn statement(parsed: &Parsed, index: usize) -> Option<Span> {
    let leaf = parsed.leaves().get(index)?;
    Some(parsed.statement_around(leaf.span).unwrap_or(leaf.span))
}

/// The statement a change stands inside of: around the equal leaves between its parts, or on both sides of it.
fn enclosing_statement(parsed: &Parsed, place: Range<usize>) -> Option<Span> {
    if !place.is_empty() {
        return statement(parsed, place.start);
    }
    let left = place.start.checked_sub(1)?;
    if one_statement(parsed, left, place.start) { statement(parsed, left) } else { None }
}

/// The first statement behind a place that uses one of the names.
fn guarded_statement(parsed: &Parsed, place: usize, names: &HashSet<&str>) -> Option<Span> {
    let leaves = parsed.leaves();
    (place..leaves.len().min(place + GUARDED_WITHIN))
        .find(|index| leaves[*index].kind == LeafKind::Name && names.contains(parsed.leaf_text(*index)))
        .and_then(|index| statement(parsed, index))
}

/// The statement behind a place, or the one before it where a block closes.
fn neighbour(parsed: &Parsed, place: usize) -> Option<Span> {
    let behind = (place < parsed.leaves().len() && parsed.leaf_text(place) != "}").then_some(place);
    statement(parsed, behind.or(place.checked_sub(1))?)
}

fn cover(parsed: &Parsed, range: Range<usize>) -> Option<Span> {
    let leaves = parsed.leaves().get(range)?;
    Some(leaves.first()?.span.cover(leaves.last()?.span))
}

fn labelled(side: Side, span: Span, reason: String) -> LabelledSpan {
    LabelledSpan {
        side,
        start: span.start,
        end: span.end,
        kind: side,
        cwe: None,
        reason,
        by: SpanOrigin::Diff,
    }
}

/// One line of at most 60 characters.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 60 {
        return line;
    }
    line.chars().take(59).chain(['…']).collect()
}
