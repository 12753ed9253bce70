//! Sequences of different lengths laid end to end.

use crate::config::Config;
use crate::error::ModelError;

/// A batch of sequences without padding.
///
/// ```
/// let batch = vul2safe_model::Packed::new(&[&[5, 6, 7], &[8, 9]]);
/// assert_eq!(batch.ids, [5, 6, 7, 8, 9]);
/// assert_eq!(batch.offsets, [0, 3, 5]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Token ids of all sequences, one after the other.
    pub ids: Vec<u32>,
    /// Where each sequence starts, and at last where the final one ends (`cu_seqlens` elsewhere).
    pub offsets: Vec<u32>,
}

impl Packed {
    /// Lays `sequences` end to end.
    pub fn new(sequences: &[&[u32]]) -> Packed {
        let mut packed = Packed { ids: Vec::new(), offsets: vec![0] };
        for sequence in sequences {
            packed.ids.extend_from_slice(sequence);
            packed.offsets.push(packed.ids.len() as u32);
        }
        packed
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Checks that a model of this configuration can take the batch.
    ///
    /// # Errors
    /// Empty batch, offsets that do not partition the ids, an id outside the vocabulary, a sequence longer than the
    /// model's positions.
    pub fn check(&self, config: &Config) -> Result<(), ModelError> {
        if self.ids.is_empty() {
            return Err(ModelError::input("the batch holds no tokens"));
        }
        let partition = self.offsets.first() == Some(&0)
            && self.offsets.last().copied() == Some(self.ids.len() as u32)
            && self.offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if !partition {
            return Err(ModelError::input(format!(
                "the offsets {:?}… do not partition {} tokens",
                &self.offsets[..self.offsets.len().min(4)],
                self.ids.len()
            )));
        }
        check_ids(&self.ids, config)?;
        for (index, pair) in self.offsets.windows(2).enumerate() {
            let length = (pair[1] - pair[0]) as usize;
            if length > config.max_position_embeddings {
                return Err(ModelError::input(format!(
                    "sequence {index} has {length} tokens, the model has {} positions",
                    config.max_position_embeddings
                )));
            }
        }
        Ok(())
    }
}

/// Checks that every id lies in the vocabulary.
pub(crate) fn check_ids(ids: &[u32], config: &Config) -> Result<(), ModelError> {
    match ids.iter().position(|&id| id as usize >= config.vocab_size) {
        None => Ok(()),
        Some(place) => Err(ModelError::input(format!(
            "token id {} at place {place} lies outside the vocabulary of {}",
            ids[place], config.vocab_size
        ))),
    }
}
