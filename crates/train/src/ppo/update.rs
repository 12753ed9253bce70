//! The optimiser steps of one update.

use candle_core::{Tensor, Var};
use vul2safe_model::{Gradients, Model};

use super::{
    classes::Classes,
    config::{KlPlacement, PpoConfig},
    experience::{Episode, Experience, Minibatch, forward, plan},
    state::PpoState,
};
use crate::{
    TrainError, broken_weight,
    math::{
        BatchTotals, PolicyTokens, ValueTokens, kl, kl_gradient, policy_loss_by, token_weights, value_loss,
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
    pub classes: Classes,
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

    /// Adds all that was added to another.
    pub fn merge(&mut self, other: Mean) {
        self.sum += other.sum;
        self.count += other.count;
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
    let actor_trainable = actor.trainable();
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
            let trained = [&actor_trainable, state.value_optimizer.trainable()];
            let [norm, value_norm] = [gradients::norm(trained[0])?, gradients::norm(trained[1])?];
            for (what, norm, trained) in [
                ("the actor's gradient norm", norm, trained[0]),
                ("the value head's gradient norm", value_norm, trained[1]),
            ] {
                if !norm.is_finite() {
                    let place = broken_weight(actor).unwrap_or_else(|| gradients::place_of_break(trained));
                    return Err(named(&format!("{what} ({place})"), norm));
                }
            }
            state.actor_optimizer.step(rate)?;
            if config.has_critic() {
                state.value_optimizer.step(config.value.learning_rate)?;
            }
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
        self.clipped.merge(step.clipped);
        self.classes.merge(&step.classes);
    }
}

/// Losses of one minibatch.
pub(super) struct Step {
    pub policy_loss: f64,
    pub value_loss: f64,
    pub kl_update: f64,
    pub ratio_max: f64,
    pub ratio_error: f64,
    clipped: Mean,
    classes: Classes,
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
        clipped: Mean::default(),
        classes: Classes::default(),
    };
    gradients::clear(&actor.trainable())?;
    gradients::clear(&state.head.trainable())?;
    for micro in minibatch {
        let batch: Vec<&Episode> = micro.iter().map(|&index| &episodes[index]).collect();
        microbatch_gradients(actor, &batch, totals, state, config, &mut step)?;
    }
    step.kl_update /= totals.tokens as f64;
    Ok(step)
}

/// Adds the gradients of the micro-batch's share of the loss to those of the actor and of the value head.
///
/// The losses are pure functions that return their gradient with respect to log-probs, entropies and values. The value head is
/// small: its own tape goes from the values to the hidden states, on the processor, and the actor's pass takes all gradients on
/// from there.
fn microbatch_gradients(
    actor: &Model,
    batch: &[&Episode],
    totals: BatchTotals,
    state: &PpoState,
    config: &PpoConfig,
    step: &mut Step,
) -> Result<(), TrainError> {
    let gathered = |part: fn(&Episode) -> &Vec<f32>| -> Vec<f32> {
        batch.iter().flat_map(|episode| part(episode).iter().copied()).collect()
    };
    let lengths: Vec<usize> = batch.iter().map(|episode| episode.length()).collect();
    let weights = token_weights(&lengths, config.aggregation, totals);
    let pass = forward(actor, batch, true)?;
    let log_prob = pass.log_prob.clone();
    let old_log_prob = gathered(|episode| &episode.old_log_prob);
    let reference = gathered(|episode| &episode.reference_log_prob);

    let tokens = PolicyTokens {
        log_prob: &log_prob,
        old_log_prob: &old_log_prob,
        advantages: &gathered(|episode| &episode.advantages),
        weights: &weights,
    };
    let rewards = gathered(|episode| &episode.rewards);
    let policy = policy_loss_by(&tokens, |place| config.policy_clip(rewards[place]));
    step.policy_loss += policy.loss;
    let policy_gradient = policy.gradient;
    let mut gradient = policy_gradient.clone();
    if config.kl.placement == KlPlacement::Loss {
        let estimator = config.kl.estimator;
        let pairs = || log_prob.iter().zip(&reference);
        let divergence: Vec<f32> = pairs().map(|(new, reference)| kl(*new, *reference, estimator)).collect();
        step.policy_loss += state.kl_coefficient * weighted_sum(&divergence, &weights);
        for ((gradient, weight), (new, reference)) in gradient.iter_mut().zip(&weights).zip(pairs()) {
            *gradient += state.kl_coefficient as f32 * weight * kl_gradient(*new, *reference, estimator);
        }
    }
    for (place, reward) in rewards.iter().enumerate() {
        let ratio = f64::from(policy.ratios[place]);
        let log_ratio = f64::from(log_prob[place]) - f64::from(old_log_prob[place]);
        let clipped = policy.clipped[place] || policy.dual_clipped[place];
        step.kl_update += ratio - 1.0 - log_ratio;
        step.ratio_max = step.ratio_max.max(ratio);
        step.ratio_error = step.ratio_error.max((ratio - 1.0).abs());
        step.clipped.add(f64::from(u8::from(clipped)));
        let size = f64::from(policy_gradient[place].abs());
        step.classes.add(*reward, clipped, ratio, size, f64::from(policy.lost[place]));
    }

    let mut bonus = None;
    if config.entropy_coefficient > 0.0 {
        step.policy_loss -= config.entropy_coefficient * weighted_sum(&pass.entropy, &weights);
        let slope = |weight: &f32| -(config.entropy_coefficient as f32) * weight;
        bonus = Some(weights.iter().map(slope).collect::<Vec<f32>>());
    }

    if !config.has_critic() {
        pass.backward(Gradients { log_prob: &gradient, entropy: bonus.as_deref(), hidden: None })?;
        return Ok(());
    }
    let hidden = pass.hidden()?;
    // A variable, so that the tape keeps its gradient; where the trunk wants none, none is computed.
    let trunk = if config.value.gradient_to_trunk { Some(Var::from_tensor(&hidden)?) } else { None };
    let values = state.head.forward(trunk.as_ref().map_or(&hidden, |trunk| trunk.as_tensor()))?;
    let tokens = ValueTokens {
        values: &values.to_vec1::<f32>()?,
        old_values: &gathered(|episode| &episode.old_values),
        returns: &gathered(|episode| &episode.returns),
        weights: &weights,
    };
    let value = value_loss(&tokens, config.value.clip);
    step.value_loss += value.loss;
    let slopes: Vec<f32> =
        value.gradient.iter().map(|gradient| gradient * config.value.coefficient as f32).collect();
    // A number whose gradient with respect to the values is the one just computed.
    let slopes = Tensor::from_vec(slopes, values.shape(), values.device())?;
    let mut store = (values * slopes)?.sum_all()?.backward()?;
    for parameter in state.head.parameters() {
        parameter.take_from(&mut store)?;
    }
    let mut to_trunk = None;
    if let Some(gradient) = trunk.and_then(|trunk| store.remove(&trunk)) {
        to_trunk = Some(gradient.flatten_all()?.to_vec1::<f32>()?);
    }
    pass.backward(Gradients { log_prob: &gradient, entropy: bonus.as_deref(), hidden: to_trunk.as_deref() })?;
    Ok(())
}
