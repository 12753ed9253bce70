//! The difference of two texts, leaf by leaf.

use std::collections::HashMap;
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::{LeafKind, Parsed};

/// A maximal run of leaves that differ. One side may be empty (pure insertion or pure deletion), never both.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Hunk {
    /// Leaf indices in the text before.
    pub before: Range<usize>,
    /// Leaf indices in the text after.
    pub after: Range<usize>,
}

/// Compares the leaf texts of two parsed texts: white space and comments never differ.
///
/// Hunks are ordered and disjoint; outside them the leaf texts of both sides are equal, one by one. The
/// algorithm is histogram diff (rare leaves anchor first), whose fallback is a Myers search with bounded work,
/// so functions of 100,000 characters that share nothing still compare in well under a second. Hunks with a
/// single punctuation leaf between them are joined: that one leaf agrees by chance.
pub fn diff_leaves(before: &Parsed, after: &Parsed) -> Vec<Hunk> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let before_ids: Vec<u32> = ids(before, &mut numbers);
    let after_ids: Vec<u32> = ids(after, &mut numbers);
    let mut hunks: Vec<Hunk> = Vec::new();
    for operation in capture_diff_slices(Algorithm::Histogram, &before_ids, &after_ids) {
        if matches!(operation, DiffOp::Equal { .. }) {
            continue;
        }
        let (old, new) = (operation.old_range(), operation.new_range());
        if let Some(last) = hunks.last_mut() {
            let gap = old.start - last.before.end;
            let joins =
                gap == 0 || (gap == 1 && before.leaves()[last.before.end].kind == LeafKind::Punctuation);
            if joins {
                last.before.end = old.end;
                last.after.end = new.end;
                continue;
            }
        }
        hunks.push(Hunk { before: old, after: new });
    }
    hunks
}

/// Numbers each distinct leaf text, so that the search compares integers.
fn ids<'text>(parsed: &'text Parsed, numbers: &mut HashMap<&'text str, u32>) -> Vec<u32> {
    (0..parsed.leaves().len())
        .map(|index| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(parsed.leaf_text(index)).or_insert(next)
        })
        .collect()
}

#[cfg(test)]
mod tests;
