//! The range: this project's own tasks with functional and exploit tests. They come out of a generator, not out of a file.

use std::collections::BTreeMap;

use super::Suite;
use crate::items_from_tasks;
use vul2safe_range::{Level, Selection};

/// The held-out levels of the range with `per_family` tasks of each family and level.
pub fn range(per_family: usize, seed: u64) -> Suite {
    range_of(&Selection::default(), per_family, seed)
}

/// As [`range`], of these families alone.
pub fn range_of(selection: &Selection, per_family: usize, seed: u64) -> Suite {
    let items = Level::HELD_OUT
        .into_iter()
        .flat_map(|level| items_from_tasks(&selection.tasks(level, per_family, seed)))
        .collect();
    Suite {
        name: "range: held-out tasks with functional and exploit tests".to_owned(),
        items,
        left_out: BTreeMap::new(),
    }
}
