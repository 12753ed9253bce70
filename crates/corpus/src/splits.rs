//! Splits without leaks: what belongs together stays on one side.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use vul2safe_code::{normalised_leaves, parse};

use crate::{RepairPair, Split};

/// How pairs are dealt out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// Decides which groups go where.
    pub seed: u64,
    /// Share of pairs for validation, 0 to 1.
    pub validation: f64,
    /// Share of pairs for the test part, 0 to 1.
    pub test: f64,
    /// Leave every pair in the split its source gave it.
    pub keep: bool,
}

impl Default for SplitConfig {
    /// A tenth for validation, none for testing (held-out tasks do that), dealt anew.
    fn default() -> Self {
        Self { seed: 0, validation: 0.1, test: 0.0, keep: false }
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
}

/// Assigns every pair to a split.
///
/// Pairs that share a CVE, a project, or near-identical code (the same normalised leaf tokens on either side) form a
/// group, also through others (union–find). Groups are ordered by a seeded hash of their content and dealt to the
/// test part, then to validation, as long as they fit the wanted number of pairs; the rest is for training. The
/// result does not depend on the order of `pairs`. A part can stay smaller than asked when the groups are large.
pub fn assign_splits(pairs: &mut [RepairPair], config: &SplitConfig) -> SplitSummary {
    let group_of = group(pairs);
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
    let mut test_room = wanted(config.test);
    let mut validation_room = wanted(config.validation).min(pairs.len() - test_room);
    let mut assigned = Vec::with_capacity(pairs.len());
    for (_, group) in groups {
        let split = if group.len() <= test_room {
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

/// The group of each pair, named by one of its members.
fn group(pairs: &[RepairPair]) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..pairs.len()).collect();
    let mut first_with: HashMap<String, usize> = HashMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let mut keys = Vec::new();
        if let Some(cve) = &pair.cve {
            keys.push(format!("cve {}", cve.trim().to_ascii_uppercase()));
        }
        if let Some(project) = &pair.project {
            keys.push(format!("project {}", project.trim().to_ascii_lowercase()));
        }
        keys.extend([&pair.vulnerable, &pair.secure].map(|code| code_key(pair, code)));
        for key in keys {
            match first_with.get(&key) {
                Some(other) => {
                    let (a, b) = (root(&mut parent, index), root(&mut parent, *other));
                    parent[a.max(b)] = a.min(b);
                }
                None => {
                    first_with.insert(key, index);
                }
            }
        }
    }
    (0..pairs.len()).map(|index| root(&mut parent, index)).collect()
}

/// Code that differs in white space and comments only has the same key.
fn code_key(pair: &RepairPair, code: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    match parse(pair.language, code) {
        Ok(parsed) => {
            for leaf in normalised_leaves(&parsed) {
                hasher.update(leaf.as_bytes());
                hasher.update(&[0]);
            }
        }
        Err(_) => {
            hasher.update(code.as_bytes());
        }
    }
    format!("code {} {}", pair.language, hasher.finalize().to_hex())
}

fn root(parent: &mut [usize], mut index: usize) -> usize {
    while parent[index] != index {
        parent[index] = parent[parent[index]];
        index = parent[index];
    }
    index
}
