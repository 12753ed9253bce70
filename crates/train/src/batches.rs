//! Sequences into batches of a number of tokens.

/// Fills batches in the given order: a batch is closed when the next sequence would take it above `tokens`.
///
/// A sequence longer than `tokens` gets a batch of its own. No batch is empty.
pub(crate) fn fill(order: &[usize], lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut filled = 0;
    for &index in order {
        match batches.last_mut() {
            Some(batch) if filled + lengths[index] <= tokens => {
                batch.push(index);
                filled += lengths[index];
            }
            _ => {
                batches.push(vec![index]);
                filled = lengths[index];
            }
        }
    }
    batches
}

/// Splits the given order into at most `parts` runs with about the same number of tokens; no run is empty.
pub(crate) fn split(order: &[usize], lengths: &[usize], parts: usize) -> Vec<Vec<usize>> {
    let total: usize = order.iter().map(|&index| lengths[index]).sum();
    let mut runs = vec![Vec::new(); parts.max(1)];
    let mut before = 0;
    for &index in order {
        // The run in which the sequence's middle falls. `before` never exceeds `total`, so the place is in range.
        let middle = before + lengths[index] / 2;
        let place = (middle * runs.len() / total.max(1)).min(runs.len() - 1);
        runs[place].push(index);
        before += lengths[index];
    }
    runs.retain(|run| !run.is_empty());
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn batches_by_hand() {
        assert_eq!(fill(&[2, 0, 1, 3], &[3, 4, 2, 9], 5), [vec![2, 0], vec![1], vec![3]]);
        assert_eq!(split(&[0, 1, 2, 3], &[5, 5, 5, 5], 2), [vec![0, 1], vec![2, 3]]);
        assert_eq!(split(&[0], &[5], 4), [vec![0]]);
        assert!(split(&[], &[], 3).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_order_is_kept(lengths in prop::collection::vec(1usize..50, 0..60), tokens in 1usize..100, parts in 1usize..9) {
            let order: Vec<usize> = (0..lengths.len()).rev().collect();
            for batches in [fill(&order, &lengths, tokens), split(&order, &lengths, parts)] {
                prop_assert!(batches.iter().all(|batch| !batch.is_empty()));
                prop_assert_eq!(batches.concat(), order.clone());
            }
            for batch in fill(&order, &lengths, tokens) {
                prop_assert!(batch.len() == 1 || batch.iter().map(|&index| lengths[index]).sum::<usize>() <= tokens);
            }
        }
    }
}
