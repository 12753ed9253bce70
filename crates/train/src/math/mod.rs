//! Losses, advantages and their gradients: pure functions over slices.
//!
//! Everything here works on *flat* token slices: the response tokens of all answers of a batch one after another.
//! Sequence boundaries, where they matter, are offsets in the style of `cu_seqlens` (starts and the end). Sums run in
//! `f64` in slice order, so that the same input gives the same bits; inputs and outputs are `f32`.
//!
//! Padded layouts are served as well: a masked place takes part in nothing and gets 0.
//!
//! Golden numbers: veRL 0.9.1's `core_algos` and `torch_functional` (see `tests/golden_ppo.rs`).

mod advantage;
mod aggregate;
mod group;
mod kl;
mod policy;
mod preference;
mod statistics;
mod unlikelihood;
mod value;

pub use advantage::{Advantages, gae};
pub use aggregate::{Aggregation, BatchTotals, token_weights, weighted_sum};
pub use group::{group_advantages, group_token_advantages};
pub use kl::{AdaptiveKl, KlEstimator, kl, kl_gradient};
pub use policy::{PolicyClip, PolicyLoss, PolicyTokens, policy_loss, policy_loss_by};
pub use preference::{PreferenceSums, preference_loss};
pub use statistics::{explained_variance, masked_mean, masked_whiten};
pub use unlikelihood::likelihood_loss;
pub use value::{ValueLoss, ValueTokens, value_loss};

#[cfg(test)]
mod tests;
