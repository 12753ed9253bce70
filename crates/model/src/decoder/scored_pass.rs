//! A forward pass with its scores, and the way back from a caller's gradients: the same on the processor and on a device.

use candle_core::{Device, Tensor};

use super::place::Place;
use super::{Model, Pass, TokenScores};
use crate::device::DevicePass;
use crate::error::ModelError;
use crate::ops::tensor;
use crate::packed::Packed;

/// A forward pass over a packed batch with the scores of chosen rows, from [`Model::scored_pass`].
///
/// A loss is computed outside, as a function of the scores and of the hidden states, which gives its gradients with respect to
/// these; [`ScoredPass::backward`] takes them to the parameters.
pub struct ScoredPass {
    /// ln p(target) of each row.
    pub log_prob: Vec<f32>,
    /// Entropy of the distribution that the target is drawn from, in nats.
    pub entropy: Vec<f32>,
    rows: Vec<u32>,
    width: usize,
    way: Way,
}

/// How the pass goes back.
enum Way {
    Host { hidden: Tensor, scores: TokenScores },
    Device(Box<dyn DevicePass>),
}

/// Gradients of a loss with respect to what a [`ScoredPass`] gave, a number or a row for each of its rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gradients<'a> {
    /// Of the log-probabilities.
    pub log_prob: &'a [f32],
    /// Of the entropies; none where the loss does not look at them.
    pub entropy: Option<&'a [f32]>,
    /// Of the hidden states, `[rows, hidden]`; none where the loss does not look at them.
    pub hidden: Option<&'a [f32]>,
}

impl Model {
    /// Runs a packed batch and scores rows of it: log-probability of `targets[i]` after the packed row `rows[i]`, and the entropy
    /// there, under softmax(logits / temperature). With `pass` everything is kept for [`ScoredPass::backward`]; without, the
    /// same numbers come without the memory of a way back.
    ///
    /// # Errors
    /// A batch that [`Packed::check`] refuses; what [`Model::score`] refuses; with `pass`, a model without trainable weights.
    pub fn scored_pass(
        &self,
        batch: &Packed,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
        pass: Option<Pass>,
    ) -> Result<ScoredPass, ModelError> {
        batch.check(self.config())?;
        self.check_score(batch.tokens(), rows, targets, temperature)?;
        if pass.is_some() {
            self.check_trainable()?;
        }
        let (log_prob, entropy, way) = match &self.place {
            Place::Host(_) => {
                let hidden = match pass {
                    Some(pass) => self.hidden_in(batch, pass)?,
                    None => self.hidden_detached(batch)?,
                };
                let scores = self.score(&hidden, rows, targets, temperature)?;
                let (log_prob, entropy) = (scores.log_prob.to_vec1()?, scores.entropy.to_vec1()?);
                (log_prob, entropy, Way::Host { hidden, scores })
            }
            Place::Device(device) => {
                let mut way = device.model.pass(batch, pass.map(|pass| self.keep(pass)))?;
                let (log_prob, entropy) = way.score(rows, targets, temperature)?;
                (log_prob, entropy, Way::Device(way))
            }
        };
        Ok(ScoredPass { log_prob, entropy, rows: rows.to_vec(), width: self.config().hidden_size, way })
    }
}

impl ScoredPass {
    /// The hidden states after the final norm of the scored rows, `[rows, hidden]`, on the processor and off the tape.
    ///
    /// # Errors
    /// A failed copy from a device.
    pub fn hidden(&self) -> Result<Tensor, ModelError> {
        match &self.way {
            Way::Host { hidden, .. } => Ok(hidden.detach().index_select(&self.places()?, 0)?),
            Way::Device(pass) => Ok(tensor(pass.hidden(&self.rows)?, (self.rows.len(), self.width))?),
        }
    }

    fn places(&self) -> Result<Tensor, ModelError> {
        Ok(Tensor::from_vec(self.rows.clone(), self.rows.len(), &Device::Cpu)?)
    }

    /// Goes back from the gradients of a loss and adds the parameters' to those of [`Model::trainable`].
    ///
    /// # Errors
    /// Other numbers of gradients than of scored rows; a pass that kept nothing; on a device, failed calls.
    pub fn backward(self, gradients: Gradients<'_>) -> Result<(), ModelError> {
        let count = self.rows.len();
        let entropy = gradients.entropy.map_or(count, <[f32]>::len);
        let hidden = gradients.hidden.map_or(count * self.width, <[f32]>::len);
        if gradients.log_prob.len() != count || entropy != count || hidden != count * self.width {
            return Err(ModelError::input(format!(
                "gradients of {} log-probabilities, {entropy} entropies and {hidden} hidden numbers for {count} rows of {}",
                gradients.log_prob.len(),
                self.width
            )));
        }
        match self.way {
            Way::Device(pass) => {
                let zeros;
                let entropy = match gradients.entropy {
                    Some(entropy) => entropy,
                    None => {
                        zeros = vec![0.0; count];
                        &zeros
                    }
                };
                Ok(pass.backward(gradients.log_prob, entropy, gradients.hidden)?)
            }
            Way::Host { ref hidden, ref scores } => {
                if !hidden.track_op() {
                    return Err(ModelError::input("a way back needs a pass that keeps what it saw"));
                }
                // A number whose gradient with respect to the outputs is the one that is given.
                let constant = |numbers: &[f32]| tensor(numbers.to_vec(), numbers.len());
                let mut loss = (&scores.log_prob * constant(gradients.log_prob)?)?.sum_all()?;
                if let Some(entropy) = gradients.entropy {
                    loss = (loss + (&scores.entropy * constant(entropy)?)?.sum_all()?)?;
                }
                if let Some(numbers) = gradients.hidden {
                    let rows = hidden.index_select(&self.places()?, 0)?;
                    let numbers = tensor(numbers.to_vec(), (count, self.width))?;
                    loss = (loss + (rows * numbers)?.sum_all()?)?;
                }
                loss.backward()?;
                Ok(())
            }
        }
    }
}
