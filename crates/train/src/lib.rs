//! SRCode's training: next-token training, SFT, and PPO with one reward a token.
//!
//! The losses and advantages are pure functions over slices ([`math`]) that return their own gradients; the tape only
//! carries these from the log-probs to the parameters. [`AdamW`] works in place on the parameters.
//!
//! The crate refuses to know what a reward means, what code is and how an answer is judged: the [`Scorer`] of [`ppo()`] is
//! the caller's, and so is everything that watches a training. It does not decode ids and does not evaluate.
//!
//! ```
//! use vul2safe_train::math::{PolicyClip, PolicyTokens, gae, policy_loss};
//!
//! // A reward on the second of three tokens, with λ = 0.5: the first token gets half of the credit, the last none.
//! let result = gae(&[0.0, 1.0, 0.0], &[0.0, 0.0, 0.0], None, 1.0, 0.5);
//! assert_eq!(result.advantages, [0.5, 1.0, 0.0]);
//!
//! // On the policy that sampled, the ratio is 1 and the gradient pushes with the advantage.
//! let tokens = PolicyTokens {
//!     log_prob: &[-1.0, -2.0, -0.5],
//!     old_log_prob: &[-1.0, -2.0, -0.5],
//!     advantages: &result.advantages,
//!     weights: &[1.0, 1.0, 1.0],
//! };
//! let loss = policy_loss(&tokens, PolicyClip { low: 0.2, high: 0.2, dual: f32::INFINITY });
//! assert_eq!(loss.gradient, [-0.5, -1.0, 0.0]);
//! ```

mod batches;
mod checkpoint;
mod checkpointing;
mod error;
pub mod math;
pub mod optimizer;
pub mod ppo;
pub mod preference;
mod seeds;
pub mod supervised;
mod tensor_file;

pub use checkpoint::Checkpoint;
pub use error::{CallbackError, TrainError};
pub use optimizer::{AdamW, OptimizerConfig, Schedule};
pub use ppo::{
    AdvantageKind, Control, KlConfig, KlPlacement, PpoConfig, PpoEvent, PpoPrompt, PpoState, PpoSummary,
    Rollout, Scorer, ValueConfig, ValueStart, ppo, ppo_from, update_on,
};
pub use preference::{Preference, PreferenceConfig, prefer};
pub use supervised::{
    Example, PretrainConfig, SftConfig, TrainSummary, pretrain, pretrain_from, sft, sft_from,
};

/// Says which weight of a model is NaN or infinite, if one is.
fn broken_weight(model: &vul2safe_model::Model) -> Option<String> {
    match model.first_not_finite() {
        Ok(found) => found.map(|(name, place, value)| format!("number {place} of {name} is {value}")),
        Err(error) => Some(format!("the weights cannot be read: {error}")),
    }
}
