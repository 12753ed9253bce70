//! Pairs of the range's records of which everything is known, for the tests of where rewards land.

use vul2safe_corpus::{RepairPair, Split};
use vul2safe_range::KnownRecord;
use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};

/// The pairs that the records become, for training; a record that is rejected is left out.
pub fn pairs(known: Vec<KnownRecord>, config: &RepairConfig) -> Vec<(RepairPair, KnownRecord)> {
    let records: Vec<_> = known.iter().map(|known| known.record.clone()).collect();
    repair(&records, &OfflineTeacher, None, config, &|_| {})
        .into_iter()
        .zip(known)
        .filter_map(|(decision, known)| match decision {
            Decision::Accepted(pair) => Some((RepairPair { split: Split::Train, ..*pair }, known)),
            _ => None,
        })
        .collect()
}

/// `count` of so many; 0 of none.
pub fn share(count: usize, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}
