//! Splits without leaks: what belongs together stays on one side.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::near::{Sketch, near_duplicates};
use crate::{RepairPair, Split};

/// How pairs are dealt out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// Decides which groups go where.
    pub seed: u64,
    /// Share of pairs for validation, 0 to 1.
    pub validation: f64,
    /// Share of pairs for the test part, 0 to 1; what is held out by project or date comes first.
    pub test: f64,
    /// Leave every pair in the split its source gave it.
    pub keep: bool,
    /// Similarity of code, 0 to 1, from which two pairs stay on one side: the Jaccard similarity of runs of five leaf
    /// tokens, on either side of the pairs. 1 joins what differs in comments and white space alone.
    pub near_duplicates: f64,
    /// These projects, and what belongs together with them, are the test part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hold_out_projects: Vec<String>,
    /// `YYYY-MM-DD`: pairs fixed on this day or later, and what belongs together with them, are the test part. Projects
    /// are then no reason to stay together, since most have fixes before and after. Pairs without a date go to
    /// validation: they might be of later days, so nothing may be learnt from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_out_from: Option<String>,
}

impl Default for SplitConfig {
    /// A tenth for validation, none for testing (held-out tasks do that), dealt anew.
    fn default() -> Self {
        Self {
            seed: 0,
            validation: 0.1,
            test: 0.0,
            keep: false,
            near_duplicates: 0.8,
            hold_out_projects: Vec::new(),
            hold_out_from: None,
        }
    }
}

/// What the dealing gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Groups of pairs that share a CVE, a project or near-identical code.
    pub groups: usize,
    /// Pairs for training.
    pub train: usize,
    /// Pairs for validation.
    pub validation: usize,
    /// Pairs for testing.
    pub test: usize,
    /// Groups that stand in more than one split. Only `keep` can leave any.
    pub leaking_groups: usize,
    /// Times that two pairs were joined for near-identical code alone.
    #[serde(default)]
    pub near_duplicates: usize,
    /// With `hold_out_from`: pairs without a date.
    #[serde(default)]
    pub undated: usize,
}

/// Assigns every pair to a split.
///
/// Pairs that share a CVE, a project, or near-identical code on either side form a group, also through others
/// (union–find). Groups that hold something held out by project or date are the test part. The others are ordered by a
/// seeded hash of their content and dealt to the test part, then to validation, as long as they fit the wanted number
/// of pairs; the rest is for training. The result does not depend on the order of `pairs`. A part can stay smaller
/// than asked when the groups are large.
pub fn assign_splits(pairs: &mut [RepairPair], config: &SplitConfig) -> SplitSummary {
    let (group_of, near) = group(pairs, config);
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    for (pair, group) in group_of.iter().enumerate() {
        members.entry(*group).or_default().push(pair);
    }
    if !config.keep {
        deal(pairs, &members, config);
    }
    let count = |split| pairs.iter().filter(|pair| pair.split == split).count();
    SplitSummary {
        groups: members.len(),
        train: count(Split::Train),
        validation: count(Split::Validation),
        test: count(Split::Test),
        leaking_groups: members
            .values()
            .filter(|group| group.iter().any(|pair| pairs[*pair].split != pairs[group[0]].split))
            .count(),
        near_duplicates: near,
        undated: match config.hold_out_from {
            Some(_) => pairs.iter().filter(|pair| pair.date.is_none()).count(),
            None => 0,
        },
    }
}

fn deal(pairs: &mut [RepairPair], members: &HashMap<usize, Vec<usize>>, config: &SplitConfig) {
    let mut groups: Vec<([u8; 32], &Vec<usize>)> = members
        .values()
        .map(|group| {
            let mut hashes: Vec<&str> = group.iter().map(|pair| pairs[*pair].hash.as_str()).collect();
            hashes.sort_unstable();
            let mut hasher = blake3::Hasher::new();
            hasher.update(&config.seed.to_le_bytes());
            for hash in hashes {
                hasher.update(hash.as_bytes());
            }
            (*hasher.finalize().as_bytes(), group)
        })
        .collect();
    groups.sort_unstable();
    let wanted = |share: f64| (pairs.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
    let any =
        |group: &[usize], test: &dyn Fn(&RepairPair) -> bool| group.iter().any(|pair| test(&pairs[*pair]));
    let undated = |pair: &RepairPair| config.hold_out_from.is_some() && pair.date.is_none();
    let held: usize = groups
        .iter()
        .filter(|(_, group)| any(group, &|pair| held_out(pair, config)))
        .map(|(_, group)| group.len())
        .sum();
    let mut test_room = wanted(config.test).saturating_sub(held);
    let mut validation_room = wanted(config.validation).min(pairs.len() - test_room);
    let mut assigned = Vec::with_capacity(pairs.len());
    for (_, group) in groups {
        let split = if any(group, &|pair| held_out(pair, config)) {
            Split::Test
        } else if any(group, &undated) {
            validation_room = validation_room.saturating_sub(group.len());
            Split::Validation
        } else if group.len() <= test_room {
            test_room -= group.len();
            Split::Test
        } else if group.len() <= validation_room {
            validation_room -= group.len();
            Split::Validation
        } else {
            Split::Train
        };
        assigned.extend(group.iter().map(|pair| (*pair, split)));
    }
    for (pair, split) in assigned {
        pairs[pair].split = split;
    }
}

fn held_out(pair: &RepairPair, config: &SplitConfig) -> bool {
    let by_project = pair.project.as_deref().is_some_and(|project| {
        config.hold_out_projects.iter().any(|held| held.trim().eq_ignore_ascii_case(project.trim()))
    });
    // Days written as YYYY-MM-DD stand in the order of their texts.
    let by_date = matches!((&pair.date, &config.hold_out_from), (Some(date), Some(from)) if date >= from);
    by_project || by_date
}

/// The group of each pair, named by one of its members, and how often near-identical code alone joined two.
fn group(pairs: &[RepairPair], config: &SplitConfig) -> (Vec<usize>, usize) {
    // Both sides of pair `i` are sketches `2i` and `2i + 1`.
    let sketches: Vec<Sketch> = pairs
        .par_iter()
        .flat_map_iter(|pair| [&pair.vulnerable, &pair.secure].map(|code| Sketch::of(pair.language, code)))
        .collect();
    let mut groups = Groups((0..pairs.len()).collect());
    let mut first_with: HashMap<String, usize> = HashMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let mut keys = Vec::new();
        if let Some(cve) = &pair.cve {
            keys.push(format!("cve {}", cve.trim().to_ascii_uppercase()));
        }
        if let Some(project) = pair.project.as_ref().filter(|_| config.hold_out_from.is_none()) {
            keys.push(format!("project {}", project.trim().to_ascii_lowercase()));
        }
        for sketch in &sketches[2 * index..2 * index + 2] {
            keys.push(format!("code {}", sketch.exact));
        }
        for key in keys {
            match first_with.get(&key) {
                Some(other) => groups.join(index, *other),
                None => {
                    first_with.insert(key, index);
                }
            }
        }
    }
    let mut near = 0;
    if config.near_duplicates < 1.0 {
        let groups = std::cell::RefCell::new(&mut groups);
        near_duplicates(
            &sketches,
            config.near_duplicates,
            |first, second| {
                near += 1;
                groups.borrow_mut().join(first / 2, second / 2);
            },
            |first, second| groups.borrow_mut().joined(first / 2, second / 2),
        );
    }
    ((0..pairs.len()).map(|index| groups.root(index)).collect(), near)
}

/// Union–find.
struct Groups(Vec<usize>);

impl Groups {
    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, first: usize, second: usize) {
        let (first, second) = (self.root(first), self.root(second));
        self.0[first.max(second)] = first.min(second);
    }

    fn joined(&mut self, first: usize, second: usize) -> bool {
        self.root(first) == self.root(second)
    }
}
