//! The optimiser steps of one update.

use candle_core::{Device, Tensor};
use vul2safe_model::Model;

use super::{
    config::{KlPlacement, PpoConfig},
    experience::{Episode, Experience, Minibatch, Tape, forward, plan},
    state::PpoState,
};
use crate::{
    TrainError, broken_weight,
    math::{
        BatchTotals, PolicyTokens, ValueTokens, kl, kl_gradient, policy_loss, token_weights, value_loss,
        weighted_sum,
    },
    optimizer::gradients,
};

/// What the optimiser steps of one update saw.
#[derive(Debug, Default)]
pub(super) struct UpdateStatistics {
    pub steps: u64,
    pub policy_loss: Mean,
    pub value_loss: Mean,
    pub gradient_norm: Mean,
    pub value_gradient_norm: Mean,
    pub clipped: Mean,
    pub clipped_rewarded: Mean,
    /// Divergence from the sampling policy, nats a token (k3).
    pub kl_update: Mean,
    pub ratio_max: f64,
    /// Largest |ratio − 1| of the first minibatch.
    pub first_ratio_error: f64,
    pub stopped_early: bool,
    pub learning_rate: f64,
}

/// A running mean.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    /// The mean; `None` if nothing was added.
    pub fn value(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

/// Runs all passes over an update's answers.
pub(super) fn train(
    actor: &Model,
    experience: &Experience,
    state: &mut PpoState,
    config: &PpoConfig,
) -> Result<UpdateStatistics, TrainError> {
    let mut statistics = UpdateStatistics::default();
    let first_step = state.update * (config.epochs * config.minibatches) as u64;
    'passes: for epoch in 0..config.epochs {
        let later;
        let minibatches = if epoch == 0 {
            &experience.first_pass
        } else {
            later = plan(&experience.episodes, config, state.update, epoch);
            &later
        };
        for (place, minibatch) in minibatches.iter().enumerate() {
            let step = minibatch_gradients(actor, &experience.episodes, minibatch, state, config)?;
            if statistics.steps == 0 {
                statistics.first_ratio_error = step.ratio_error;
            }
            statistics.take(&step);
            let named = |what: &str, value: f64| TrainError::NotFinite {
                stage: "ppo",
                what: what.to_owned(),
                value,
                step: state.update,
                batch: format!(
                    "minibatch {place} of pass {epoch}, {} answers",
                    minibatch.iter().flatten().count()
                ),
            };
            if !step.policy_loss.is_finite() {
                return Err(named("the policy loss", step.policy_loss));
            }
            if !step.value_loss.is_finite() {
                return Err(named("the value loss", step.value_loss));
            }
            if step.kl_update > config.target_kl {
                statistics.stopped_early = true;
                break 'passes;
            }
            let number = first_step + (epoch * config.minibatches + place) as u64;
            let rate = config.optimizer.rate(number, config.steps() as u64);
            // Both norms are looked at before either optimiser moves anything.
            let (norm, value_norm) =
                (gradients::norm(actor.parameters()), gradients::norm(state.head.parameters()));
            for (what, norm) in
                [("the actor's gradient norm", norm), ("the value head's gradient norm", value_norm)]
            {
                if !norm.is_finite() {
                    let all = [actor.parameters(), state.head.parameters()].concat();
                    let place = broken_weight(actor).unwrap_or_else(|| {
                        format!("first in {}", gradients::first_not_finite(&all).unwrap_or_default())
                    });
                    return Err(named(&format!("{what} ({place})"), norm));
                }
            }
            state.actor_optimizer.step(rate)?;
            state.value_optimizer.step(config.value.learning_rate)?;
            statistics.steps += 1;
            statistics.learning_rate = rate;
            statistics.gradient_norm.add(norm);
            statistics.value_gradient_norm.add(value_norm);
        }
    }
    Ok(statistics)
}

impl UpdateStatistics {
    fn take(&mut self, step: &Step) {
        self.policy_loss.add(step.policy_loss);
        self.value_loss.add(step.value_loss);
        self.kl_update.add(step.kl_update);
        self.ratio_max = self.ratio_max.max(step.ratio_max);
        step.clipped.iter().for_each(|clipped| self.clipped.add(f64::from(u8::from(*clipped))));
        step.clipped_rewarded
            .iter()
            .for_each(|clipped| self.clipped_rewarded.add(f64::from(u8::from(*clipped))));
    }
}

/// Losses of one minibatch.
pub(super) struct Step {
    pub policy_loss: f64,
    pub value_loss: f64,
    pub kl_update: f64,
    pub ratio_max: f64,
    pub ratio_error: f64,
    clipped: Vec<bool>,
    clipped_rewarded: Vec<bool>,
}

/// Runs the micro-batches of one optimiser step; their gradients add up at the parameters.
pub(super) fn minibatch_gradients(
    actor: &Model,
    episodes: &[Episode],
    minibatch: &Minibatch,
    state: &PpoState,
    config: &PpoConfig,
) -> Result<Step, TrainError> {
    let totals = BatchTotals::of(minibatch.iter().flatten().map(|&index| episodes[index].length()));
    let mut step = Step {
        policy_loss: 0.0,
        value_loss: 0.0,
        kl_update: 0.0,
        ratio_max: 0.0,
        ratio_error: 0.0,
        clipped: Vec::new(),
        clipped_rewarded: Vec::new(),
    };
    gradients::clear(actor.parameters());
    gradients::clear(state.head.parameters());
    for micro in minibatch {
        let batch: Vec<&Episode> = micro.iter().map(|&index| &episodes[index]).collect();
        let loss = microbatch_loss(actor, &batch, totals, state, config, &mut step)?;
        let mut store = loss.backward()?;
        for parameter in state.head.parameters() {
            parameter.take_from(&mut store)?;
        }
    }
    step.kl_update /= totals.tokens as f64;
    Ok(step)
}

/// A number whose gradient is that of the micro-batch's share of the loss.
///
/// The losses are pure functions that return their gradient with respect to log-probs, entropies and values; the tape
/// only has to carry these to the parameters, as `Σ constant · output`.
fn microbatch_loss(
    actor: &Model,
    batch: &[&Episode],
    totals: BatchTotals,
    state: &PpoState,
    config: &PpoConfig,
    step: &mut Step,
) -> Result<Tensor, TrainError> {
    let gathered = |part: fn(&Episode) -> &Vec<f32>| -> Vec<f32> {
        batch.iter().flat_map(|episode| part(episode).iter().copied()).collect()
    };
    let lengths: Vec<usize> = batch.iter().map(|episode| episode.length()).collect();
    let weights = token_weights(&lengths, config.aggregation, totals);
    let tape = Tape::On { values_to_trunk: config.value.gradient_to_trunk };
    let outputs = forward(actor, Some(&state.head), batch, tape)?;
    let log_prob: Vec<f32> = outputs.log_prob.to_vec1()?;
    let old_log_prob = gathered(|episode| &episode.old_log_prob);
    let reference = gathered(|episode| &episode.reference_log_prob);

    let tokens = PolicyTokens {
        log_prob: &log_prob,
        old_log_prob: &old_log_prob,
        advantages: &gathered(|episode| &episode.advantages),
        weights: &weights,
    };
    let policy = policy_loss(&tokens, config.policy_clip());
    step.policy_loss += policy.loss;
    let mut gradient = policy.gradient;
    if config.kl.placement == KlPlacement::Loss {
        let estimator = config.kl.estimator;
        let pairs = || log_prob.iter().zip(&reference);
        let divergence: Vec<f32> = pairs().map(|(new, reference)| kl(*new, *reference, estimator)).collect();
        step.policy_loss += state.kl_coefficient * weighted_sum(&divergence, &weights);
        for ((gradient, weight), (new, reference)) in gradient.iter_mut().zip(&weights).zip(pairs()) {
            *gradient += state.kl_coefficient as f32 * weight * kl_gradient(*new, *reference, estimator);
        }
    }
    for (place, reward) in batch.iter().flat_map(|episode| &episode.rewards).enumerate() {
        let ratio = f64::from(policy.ratios[place]);
        let log_ratio = f64::from(log_prob[place]) - f64::from(old_log_prob[place]);
        let clipped = policy.clipped[place] || policy.dual_clipped[place];
        step.kl_update += ratio - 1.0 - log_ratio;
        step.ratio_max = step.ratio_max.max(ratio);
        step.ratio_error = step.ratio_error.max((ratio - 1.0).abs());
        step.clipped.push(clipped);
        if *reward != 0.0 {
            step.clipped_rewarded.push(clipped);
        }
    }

    let constant = |values: Vec<f32>| Tensor::from_vec(values, log_prob.len(), &Device::Cpu);
    let mut loss = (outputs.log_prob * constant(gradient)?)?.sum_all()?;
    if config.entropy_coefficient > 0.0 {
        let entropies: Vec<f32> = outputs.entropy.to_vec1()?;
        step.policy_loss -= config.entropy_coefficient * weighted_sum(&entropies, &weights);
        let bonus = weights.iter().map(|weight| -(config.entropy_coefficient as f32) * weight).collect();
        loss = (loss + (outputs.entropy * constant(bonus)?)?.sum_all()?)?;
    }
    if let Some(values) = outputs.values {
        let tokens = ValueTokens {
            values: &values.to_vec1::<f32>()?,
            old_values: &gathered(|episode| &episode.old_values),
            returns: &gathered(|episode| &episode.returns),
            weights: &weights,
        };
        let value = value_loss(&tokens, config.value.clip);
        step.value_loss += value.loss;
        let gradient =
            value.gradient.iter().map(|gradient| gradient * config.value.coefficient as f32).collect();
        loss = (loss + (values * constant(gradient)?)?.sum_all()?)?;
    }
    Ok(loss)
}
