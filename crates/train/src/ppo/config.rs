//! Settings of PPO.

use serde::{Deserialize, Serialize};

use crate::{
    OptimizerConfig, TrainError,
    math::{AdaptiveKl, Aggregation, KlEstimator, PolicyClip},
    optimizer::Schedule,
};

/// Settings of [`super::ppo`].
///
/// Bounds that can be turned off are turned off with `inf`, which TOML can say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PpoConfig {
    /// Number of updates: sample, score, train.
    pub updates: usize,
    /// Answers sampled in each update.
    pub rollouts_per_update: usize,
    /// Answers sampled to each prompt that is drawn.
    pub answers_per_prompt: usize,
    /// Longest answer, in tokens.
    pub maximum_new_tokens: usize,
    /// Ids that end an answer. They belong to the tokenizer, so that the caller sets them and no file names them.
    #[serde(skip)]
    pub stop_ids: Vec<u32>,
    /// γ: discount a token.
    pub gamma: f64,
    /// λ of GAE: 0.95 for rewards that stand on their tokens, 1 for one reward on the last token.
    pub lambda: f64,
    /// Where advantages come from.
    pub advantage: AdvantageKind,
    /// Scale the advantages of an update to mean 0 and variance 1 over all of its tokens.
    pub whiten_advantages: bool,
    /// Passes over the answers of an update.
    pub epochs: usize,
    /// Optimiser steps of one pass; the answers are split into this many parts of about as many tokens.
    pub minibatches: usize,
    /// Tokens of one forward and backward pass, at most, prompts included: bounds memory, changes nothing else.
    pub tokens_per_microbatch: usize,
    /// Compute each layer again in the backward pass instead of keeping what the forward pass saw: a third more work for a
    /// fraction of the memory; the numbers are the same to the bit.
    pub gradient_checkpointing: bool,
    /// ε_low of the policy clip.
    pub clip_low: f32,
    /// ε_high of the policy clip.
    pub clip_high: f32,
    /// ε_low of tokens that carry a reward, where it shall be another: PPO's clip takes the gradient first from the tokens
    /// that move most, and those are the rewarded ones.
    pub clip_low_rewarded: Option<f32>,
    /// ε_high of tokens that carry a reward.
    pub clip_high_rewarded: Option<f32>,
    /// c of the dual clip; `inf`: off.
    pub dual_clip: f32,
    /// How token losses are put together.
    pub aggregation: Aggregation,
    /// Weight of the entropy bonus, in nats.
    pub entropy_coefficient: f64,
    /// Stop the passes of an update once a minibatch's divergence from the sampling policy exceeds this many nats a token;
    /// `inf`: never.
    pub target_kl: f64,
    /// Divergence from the reference model.
    pub kl: KlConfig,
    /// The value head.
    pub value: ValueConfig,
    /// Optimiser of the actor. The schedule counts `epochs · minibatches` steps an update.
    pub optimizer: OptimizerConfig,
    /// Largest share of an update's answers that may come back unscored.
    pub maximum_unscored_share: f64,
    /// Stop with an error when the policy's mean entropy falls below this, in nats a token; 0: never.
    pub minimum_entropy: f64,
    /// Stop with an error when the answers of an update have fewer tokens than this on average; 0: never.
    pub minimum_response_length: f64,
    /// Stop with an error when the mean divergence from the reference exceeds this, in nats a token; `inf`: never.
    pub maximum_kl: f64,
    /// Hand the answers to the observer every so many updates (and after the last one); 0: only after the last one.
    pub sample_every: usize,
    /// Seed of prompts, answers, minibatches and value head.
    pub seed: u64,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            updates: 30,
            rollouts_per_update: 64,
            answers_per_prompt: 1,
            maximum_new_tokens: 256,
            stop_ids: Vec::new(),
            gamma: 1.0,
            lambda: 0.95,
            advantage: AdvantageKind::Gae,
            whiten_advantages: true,
            epochs: 2,
            minibatches: 2,
            tokens_per_microbatch: 1024,
            gradient_checkpointing: false,
            clip_low: 0.2,
            clip_high: 0.2,
            clip_low_rewarded: None,
            clip_high_rewarded: None,
            dual_clip: 3.0,
            aggregation: Aggregation::TokenMean,
            entropy_coefficient: 0.0,
            target_kl: f64::INFINITY,
            kl: KlConfig::default(),
            value: ValueConfig::default(),
            optimizer: OptimizerConfig {
                learning_rate: 1e-4,
                warmup_steps: 4,
                schedule: Schedule::Constant,
                weight_decay: 0.0,
                beta2: 0.999,
                ..OptimizerConfig::default()
            },
            maximum_unscored_share: 0.2,
            minimum_entropy: 1e-4,
            minimum_response_length: 0.0,
            maximum_kl: f64::INFINITY,
            sample_every: 10,
            seed: 0,
        }
    }
}

/// Where advantages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageKind {
    /// Rewards to go against the value head's estimate (GAE).
    #[default]
    Gae,
    /// GRPO: an answer's total against the other answers to its prompt; no value head.
    Group,
    /// GRPO with the rewarded tokens as steps: each token gets the normalised rewards from its place on; no value head.
    GroupToken,
}

/// Where the divergence from the reference model counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlacement {
    /// `−κ · k1` is added to the reward of every token.
    #[default]
    Reward,
    /// `κ · estimator` is added to the loss.
    Loss,
    /// It is measured only.
    Off,
}

/// The penalty on divergence from the reference model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KlConfig {
    /// Where it counts.
    pub placement: KlPlacement,
    /// Estimator of the loss (k2 or k3 make sense there; the reward always uses k1).
    pub estimator: KlEstimator,
    /// κ at the start.
    pub coefficient: f64,
    /// Let κ follow a target divergence, in nats an *answer*; absent: κ stays.
    pub adaptive: Option<AdaptiveKl>,
}

impl Default for KlConfig {
    fn default() -> Self {
        Self { placement: KlPlacement::Reward, estimator: KlEstimator::K2, coefficient: 0.02, adaptive: None }
    }
}

/// What the value head says before it has learned anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueStart {
    /// 0 everywhere.
    Zero,
    /// The mean return of the first update's tokens, so that the first advantages are centred.
    #[default]
    MeanReturn,
}

/// The value head and its loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueConfig {
    /// Width of the hidden layer (tanh); 0: a linear head.
    pub width: usize,
    /// Learning rate of the head, constant.
    pub learning_rate: f64,
    /// The head's output at the start.
    pub start: ValueStart,
    /// Largest change of a value within an update; `inf`: no clip.
    pub clip: f32,
    /// Let the value loss train the actor's trunk as well.
    pub gradient_to_trunk: bool,
    /// Weight of the value loss in the trunk; without `gradient_to_trunk` it only scales the head's gradient.
    pub coefficient: f64,
}

impl Default for ValueConfig {
    fn default() -> Self {
        Self {
            width: 64,
            learning_rate: 1e-3,
            start: ValueStart::MeanReturn,
            clip: 0.5,
            gradient_to_trunk: false,
            coefficient: 0.5,
        }
    }
}

impl PpoConfig {
    /// The clip of a token with this reward.
    pub(super) fn policy_clip(&self, reward: f32) -> PolicyClip {
        let own = |own: Option<f32>, common: f32| if reward == 0.0 { common } else { own.unwrap_or(common) };
        PolicyClip {
            low: own(self.clip_low_rewarded, self.clip_low),
            high: own(self.clip_high_rewarded, self.clip_high),
            dual: self.dual_clip,
        }
    }

    /// Whether a value head takes part.
    pub(super) fn has_critic(&self) -> bool {
        self.advantage == AdvantageKind::Gae
    }

    /// Optimiser steps of all updates, if none is cut short by `target_kl`.
    pub fn steps(&self) -> usize {
        self.updates * self.epochs * self.minibatches
    }

    /// Refuses values with which PPO makes no sense.
    ///
    /// # Errors
    /// [`TrainError::Config`] names the field.
    pub fn check(&self) -> Result<(), TrainError> {
        self.optimizer.check()?;
        let counts = [
            ("rollouts_per_update", self.rollouts_per_update),
            ("answers_per_prompt", self.answers_per_prompt),
            ("maximum_new_tokens", self.maximum_new_tokens),
            ("epochs", self.epochs),
            ("minibatches", self.minibatches),
        ];
        let shares = [
            ("gamma", self.gamma),
            ("lambda", self.lambda),
            ("clip_low", f64::from(self.clip_low)),
            ("clip_low_rewarded", f64::from(self.clip_low_rewarded.unwrap_or(0.0))),
            ("maximum_unscored_share", self.maximum_unscored_share),
        ];
        let not_negative = [
            ("clip_high", f64::from(self.clip_high)),
            ("clip_high_rewarded", f64::from(self.clip_high_rewarded.unwrap_or(0.0))),
            ("minimum_response_length", self.minimum_response_length),
            ("maximum_kl", self.maximum_kl),
            ("entropy_coefficient", self.entropy_coefficient),
            ("target_kl", self.target_kl),
            ("kl.coefficient", self.kl.coefficient),
            ("value.learning_rate", self.value.learning_rate),
            ("value.clip", f64::from(self.value.clip)),
            ("value.coefficient", self.value.coefficient),
            ("minimum_entropy", self.minimum_entropy),
        ];
        let refuse = |field, problem: String| Err(TrainError::Config { field, problem });
        if let Some((field, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return refuse(field, "is 0, but must be at least 1".to_owned());
        }
        if let Some((field, value)) = shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return refuse(field, format!("is {value}, but must lie in 0..1"));
        }
        if let Some((field, value)) =
            not_negative.into_iter().find(|(_, value)| value.is_nan() || *value < 0.0)
        {
            return refuse(field, format!("is {value}, but must be 0 or more"));
        }
        if !self.has_critic()
            && (self.answers_per_prompt < 2
                || !self.rollouts_per_update.is_multiple_of(self.answers_per_prompt))
        {
            return refuse(
                "answers_per_prompt",
                format!(
                    "is {}: without a critic answers are compared with others to the same prompt, so that there must be at \
                     least 2, and `rollouts_per_update` ({}) a multiple",
                    self.answers_per_prompt, self.rollouts_per_update
                ),
            );
        }
        if self.dual_clip.is_nan() || self.dual_clip <= 1.0 {
            return refuse("dual_clip", format!("is {}, but must be above 1 (inf: off)", self.dual_clip));
        }
        match self.kl.adaptive {
            Some(adaptive) if !(adaptive.target > 0.0 && adaptive.horizon > 0.0) => {
                refuse("kl.adaptive", "needs a target and a horizon above 0".to_owned())
            }
            // The controller moves by at most 20 % an answer and horizon: beyond five horizons κ would turn negative
            // and pay for divergence.
            Some(adaptive) if 0.2 * self.rollouts_per_update as f64 >= adaptive.horizon => refuse(
                "kl.adaptive",
                format!(
                    "has a horizon of {} answers, but must have more than a fifth of `rollouts_per_update`",
                    adaptive.horizon
                ),
            ),
            _ => Ok(()),
        }
    }
}
