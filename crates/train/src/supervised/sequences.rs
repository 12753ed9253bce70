//! Documents and examples as sequences with weighted targets.

use std::{borrow::Cow, ops::Range};

use super::Example;
use crate::TrainError;

/// Ids, and which of them are learned.
pub(super) struct Sequence<'a> {
    /// Place of the document or example it came from.
    pub source: usize,
    /// All ids.
    pub ids: Cow<'a, [u32]>,
    /// The places that are targets; never place 0, which nothing predicts.
    pub targets: Range<usize>,
    /// Weight of each id from `weights_from` on; `None`: 1.
    weights: Option<&'a [f32]>,
    weights_from: usize,
}

impl Sequence<'_> {
    /// Weight of a target.
    pub fn weight(&self, place: usize) -> f32 {
        self.weights.map_or(1.0, |weights| weights[place - self.weights_from])
    }

    /// Sum of the sizes of the targets' weights.
    pub fn total_weight(&self) -> f64 {
        self.targets.clone().map(|place| f64::from(self.weight(place).abs())).sum()
    }
}

/// FNV-1a over ids, targets and weights, a word at a time: tells one list of sequences from another.
pub(super) fn hash(sequences: &[Sequence<'_>]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    for sequence in sequences {
        let numbers = [sequence.ids.len(), sequence.targets.start, sequence.targets.end];
        numbers.iter().for_each(|number| add(*number as u64));
        sequence.ids.iter().for_each(|id| add(u64::from(*id)));
        let weights = sequence.weights.unwrap_or_default();
        weights.iter().for_each(|weight| add(u64::from(weight.to_bits())));
    }
    hash
}

/// Documents in pieces of at most `longest` ids; pieces without a target are left out.
pub(super) fn of_documents(documents: &[Vec<u32>], longest: usize) -> Vec<Sequence<'_>> {
    let pieces = documents
        .iter()
        .enumerate()
        .flat_map(|(source, document)| document.chunks(longest.max(2)).map(move |piece| (source, piece)));
    pieces
        .filter(|(_, piece)| piece.len() > 1)
        .map(|(source, piece)| Sequence {
            source,
            ids: Cow::Borrowed(piece),
            targets: 1..piece.len(),
            weights: None,
            weights_from: 0,
        })
        .collect()
}

/// Examples whose completion can be learned; those that are too long or carry no weight are left out.
pub(super) fn of_examples(examples: &[Example], longest: usize) -> Result<Vec<Sequence<'_>>, TrainError> {
    let mut sequences = Vec::with_capacity(examples.len());
    for (source, example) in examples.iter().enumerate() {
        if let Some(weights) = &example.weights {
            let usable = weights.iter().all(|weight| weight.is_finite());
            if weights.len() != example.completion.len() || !usable {
                let problem = format!(
                    "example {source} has {} weights for {} completion tokens (each must be finite)",
                    weights.len(),
                    example.completion.len()
                );
                return Err(TrainError::NoData { stage: "sft", problem });
            }
        }
        let ids = [example.prompt.as_slice(), example.completion.as_slice()].concat();
        let first = example.prompt.len();
        let sequence = Sequence {
            source,
            targets: first.max(1)..ids.len().max(1),
            ids: Cow::Owned(ids),
            weights: example.weights.as_deref(),
            weights_from: first,
        };
        if sequence.ids.len() <= longest && sequence.total_weight() > 0.0 {
            sequences.push(sequence);
        }
    }
    Ok(sequences)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(prompt: &[u32], completion: &[u32], weights: Option<&[f32]>) -> Example {
        Example {
            prompt: prompt.to_vec(),
            completion: completion.to_vec(),
            weights: weights.map(<[f32]>::to_vec),
        }
    }

    #[test]
    fn only_completions_are_targets() {
        let examples = [
            example(&[5, 6, 7], &[8, 9], Some(&[0.5, 2.0])),
            example(&[], &[8, 9], None),
            example(&[5], &[], None),
            example(&[5], &[6], Some(&[0.0])),
            example(&[1, 2, 3, 4, 5, 6], &[7], None),
        ];
        let sequences = of_examples(&examples, 6).unwrap();
        assert_eq!(sequences.iter().map(|s| s.source).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(
            (sequences[0].targets.clone(), sequences[0].weight(3), sequences[0].weight(4)),
            (3..5, 0.5, 2.0)
        );
        // Without a prompt nothing predicts the first token.
        assert_eq!((sequences[1].targets.clone(), sequences[1].total_weight()), (1..2, 1.0));
        assert!(of_examples(&[example(&[1], &[2], Some(&[]))], 6).is_err());
        assert!(of_examples(&[example(&[1], &[2], Some(&[f32::NAN]))], 6).is_err());
    }

    #[test]
    fn long_documents_are_cut_and_single_tokens_left_out() {
        let documents = [vec![1, 2, 3, 4, 5], vec![9], vec![]];
        let pieces: Vec<Vec<u32>> =
            of_documents(&documents, 3).iter().map(|piece| piece.ids.to_vec()).collect();
        assert_eq!(pieces, [vec![1, 2, 3], vec![4, 5]]);
    }
}
