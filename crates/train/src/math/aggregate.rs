//! From one loss a token to one loss a batch, as a weight for every token.

use serde::{Deserialize, Serialize};

/// How the losses of single tokens become one number.
///
/// The names are veRL's (`agg_loss`). `token_mean` is the default: a long answer counts for more than a short one, and
/// every token counts the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Mean over all tokens of the batch.
    #[default]
    TokenMean,
    /// Sum over all tokens of the batch.
    TokenSum,
    /// Sum over the tokens of a sequence, mean over sequences.
    SequenceMeanTokenSum,
    /// Mean over the tokens of a sequence, mean over sequences.
    SequenceMeanTokenMean,
}

/// Size of the whole batch of one optimiser step, over all of its micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchTotals {
    /// Tokens that count.
    pub tokens: usize,
    /// Sequences with at least one token that counts.
    pub sequences: usize,
}

impl BatchTotals {
    /// Totals of sequences with these numbers of counting tokens.
    pub fn of(lengths: impl IntoIterator<Item = usize>) -> Self {
        lengths.into_iter().filter(|length| *length > 0).fold(
            Self { tokens: 0, sequences: 0 },
            |totals, length| Self { tokens: totals.tokens + length, sequences: totals.sequences + 1 },
        )
    }
}

/// The weight `w_t` of every token, so that the batch's loss is `Σ w_t ℓ_t`.
///
/// `lengths` are the numbers of tokens of the sequences at hand, `totals` the size of the *global* batch: computed on
/// each micro-batch with the totals of all of them, the weights of all micro-batches together are those of one batch.
/// The result has `lengths.iter().sum()` entries.
pub fn token_weights(lengths: &[usize], aggregation: Aggregation, totals: BatchTotals) -> Vec<f32> {
    let tokens = totals.tokens.max(1) as f64;
    let sequences = totals.sequences.max(1) as f64;
    lengths
        .iter()
        .flat_map(|&length| {
            let weight = match aggregation {
                Aggregation::TokenMean => 1.0 / tokens,
                Aggregation::TokenSum => 1.0,
                Aggregation::SequenceMeanTokenSum => 1.0 / sequences,
                Aggregation::SequenceMeanTokenMean => 1.0 / (sequences * length.max(1) as f64),
            };
            std::iter::repeat_n(weight as f32, length)
        })
        .collect()
}

/// `Σ w_t x_t` in `f64`; places with weight 0 are left out whatever they hold.
pub fn weighted_sum(values: &[f32], weights: &[f32]) -> f64 {
    values
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight != 0.0)
        .map(|(value, weight)| f64::from(*value) * f64::from(*weight))
        .sum()
}
