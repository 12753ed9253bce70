//! What can go wrong in training, as data.

use std::path::PathBuf;

use vul2safe_model::ModelError;

/// An error of the caller's own closures (logging, scoring, saving), passed through unchanged.
pub type CallbackError = Box<dyn std::error::Error + Send + Sync>;

/// Errors of this crate. `Display` says what is wrong and where, [`TrainError::hint`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model failed (shapes, files).
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor operation failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A value of the configuration cannot be used.
    #[error("configuration: `{field}` {problem}")]
    Config {
        /// Name of the field, with dots.
        field: &'static str,
        /// What is wrong with it, a sentence part after the name.
        problem: String,
    },
    /// There is nothing to train on.
    #[error("{stage}: nothing to train on: {problem}")]
    NoData {
        /// The stage that found nothing.
        stage: &'static str,
        /// Why there is nothing.
        problem: String,
    },
    /// A loss, a gradient or a reward is NaN or infinite. The parameters are those before the step.
    #[error("{stage}: {what} is {value} at step {step}, batch {batch}")]
    NotFinite {
        /// `pretrain`, `sft` or `ppo`.
        stage: &'static str,
        /// What is not finite.
        what: String,
        /// The value itself, as text.
        value: f64,
        /// Optimiser step (for PPO: the update), from 0.
        step: u64,
        /// What stood in the batch.
        batch: String,
    },
    /// The policy collapsed.
    #[error("ppo: the policy collapsed at update {update}: {what} is {value:.6}, the limit is {limit:.6}")]
    Collapsed {
        /// The update, from 0.
        update: u64,
        /// The measure.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The configured limit.
        limit: f64,
    },
    /// The policy went too far from the reference.
    #[error(
        "ppo: the policy went too far at update {update}: its divergence from the reference is {value:.4} nats a token, the \
         limit is {limit:.4}"
    )]
    Diverged {
        /// The update, from 0.
        update: u64,
        /// The divergence.
        value: f64,
        /// The configured limit.
        limit: f64,
    },
    /// Too many answers could not be scored.
    #[error(
        "ppo: {unscored} of {of} answers of update {update} could not be scored; the first because: {why}"
    )]
    TooManyUnscored {
        /// The update, from 0.
        update: u64,
        /// Answers without a score.
        unscored: usize,
        /// All answers.
        of: usize,
        /// The reason given for the first.
        why: String,
    },
    /// The scorer's answer does not fit the rollouts.
    #[error("ppo: the scorer returned {found} {what} for {expected} at update {update}")]
    ScoreShape {
        /// The update, from 0.
        update: u64,
        /// `scores` or `token rewards`.
        what: &'static str,
        /// Number wanted.
        expected: usize,
        /// Number that came.
        found: usize,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written whole.
    #[error(transparent)]
    Run(#[from] vul2safe_run::RunError),
    /// A checkpoint is incomplete, cut short or of another model.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A checkpoint was made with other settings, other data or another model than it is to go on with.
    #[error("checkpoint {}: {difference}", path.display())]
    OtherCheckpoint {
        /// The folder.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// A closure of the caller failed.
    #[error("{0}")]
    Callback(#[source] CallbackError),
}

impl TrainError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Model(error) => return error.hint(),
            Self::Run(error) => return error.hint(),
            Self::NotFinite { .. } => {
                "lower the learning rate or lengthen the warm-up; if it comes at step 0, look at the data named above"
            }
            Self::Collapsed { .. } => {
                "go back to the last checkpoint with a lower learning rate, a higher kl.coefficient or a higher entropy_coefficient"
            }
            Self::Diverged { .. } => {
                "go back to the last checkpoint with a lower learning rate or a higher kl.coefficient, or raise maximum_kl"
            }
            Self::TooManyUnscored { .. } => {
                "mend what keeps the scorer from working, or raise maximum_unscored_share if such a loss is expected"
            }
            Self::NoData { .. } => {
                "check the data path and the length limits; `data show` prints what was imported"
            }
            Self::Checkpoint { .. } => {
                "remove this checkpoint and resume from the one before it, or start the stage again"
            }
            Self::OtherCheckpoint { .. } => {
                "go on with the settings, the data and the model it was made with, or remove it to start the stage again"
            }
            Self::Io { .. } => "check that the folder exists, may be written and has space left",
            Self::Tensor(_) | Self::Config { .. } | Self::ScoreShape { .. } | Self::Callback(_) => {
                return None;
            }
        };
        Some(hint.to_owned())
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
