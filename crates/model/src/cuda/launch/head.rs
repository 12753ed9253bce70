//! The rows of logits, and the optimiser.

use super::{BLOCKS, Done, FLAT, Kernels, word};
use crate::cuda::array::View;
use crate::cuda::driver::{Argument, Driver, Number};
use crate::device::DeviceError;

/// The numbers of one AdamW step.
pub(crate) struct Update {
    pub(crate) clip: f32,
    pub(crate) keep: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) step_size: f32,
    pub(crate) root2: f32,
    pub(crate) epsilon: f32,
}

impl<D: Driver> Kernels<D> {
    /// `scores [rows, 3]` of `logits [rows, vocabulary]`; every target lies in the vocabulary.
    pub(crate) fn score(
        &self,
        scores: View<'_, D>,
        logits: View<'_, D>,
        targets: View<'_, D>,
        vocabulary: usize,
    ) -> Done {
        let rows = targets.length;
        let arguments = [
            scores.argument(Number::F32, 3 * rows)?,
            logits.argument(Number::F32, rows * vocabulary)?,
            targets.argument(Number::U32, rows)?,
            Argument::U32(word(vocabulary)?),
        ];
        self.run("score", [rows, 1, 1], FLAT, 0, &arguments)
    }

    pub(crate) fn score_backward(
        &self,
        out: View<'_, D>,
        logits: View<'_, D>,
        (scores, slopes, targets): (View<'_, D>, View<'_, D>, View<'_, D>),
        vocabulary: usize,
        inverse_temperature: f32,
    ) -> Done {
        let rows = targets.length;
        let arguments = [
            self.real(out, rows * vocabulary)?,
            logits.argument(Number::F32, rows * vocabulary)?,
            scores.argument(Number::F32, 3 * rows)?,
            slopes.argument(Number::F32, 2 * rows)?,
            targets.argument(Number::U32, rows)?,
            Argument::U32(word(vocabulary)?),
            Argument::F32(inverse_temperature),
        ];
        self.run("score_backward", [rows, vocabulary.div_ceil(FLAT as usize), 1], FLAT, 0, &arguments)
    }

    /// Draws an id from each row of logits; `settings` holds the inverse temperature's bits and the seed's halves of each.
    pub(crate) fn sample(
        &self,
        (drawn, log_prob): (View<'_, D>, View<'_, D>),
        logits: View<'_, D>,
        settings: View<'_, D>,
        vocabulary: usize,
    ) -> Done {
        let rows = drawn.length;
        let arguments = [
            drawn.argument(Number::U32, rows)?,
            log_prob.argument(Number::F32, rows)?,
            logits.argument(Number::F32, rows * vocabulary)?,
            settings.argument(Number::U32, 3 * rows)?,
            Argument::U32(word(vocabulary)?),
        ];
        self.run("sample", [rows, 1, 1], FLAT, 0, &arguments)
    }

    /// Σ x², added up in f64 over blocks of a fixed grid.
    pub(crate) fn sum_squares(&self, x: View<'_, D>) -> Result<f64, DeviceError> {
        let blocks = x.length.div_ceil(FLAT as usize).min(8 * BLOCKS);
        let partial = self.floats(blocks)?;
        let arguments = [
            partial.view().argument(Number::F32, blocks)?,
            x.argument(Number::F32, x.length)?,
            Argument::U64(x.length as u64),
        ];
        self.run("sum_squares", [blocks, 1, 1], FLAT, 0, &arguments)?;
        Ok(self.read(partial.view())?.iter().map(|&sum| f64::from(sum)).sum())
    }

    /// One step on the numbers `first..first + length` of arrays that lie side by side.
    pub(crate) fn adamw(
        &self,
        (master, working): (View<'_, D>, Option<View<'_, D>>),
        (gradient, mean, square): (View<'_, D>, View<'_, D>, View<'_, D>),
        (first, length): (usize, usize),
        update: &Update,
    ) -> Done {
        let end = first + length;
        let arguments = [
            master.argument(Number::F32, end)?,
            self.maybe(working, end)?,
            gradient.argument(Number::F32, end)?,
            mean.argument(Number::F32, end)?,
            square.argument(Number::F32, end)?,
            Argument::U64(first as u64),
            Argument::U64(length as u64),
            Argument::F32(update.clip),
            Argument::F32(update.keep),
            Argument::F32(update.beta1),
            Argument::F32(update.beta2),
            Argument::F32(update.step_size),
            Argument::F32(update.root2),
            Argument::F32(update.epsilon),
        ];
        self.run("adamw", self.flat_blocks(length), FLAT, 0, &arguments)
    }
}
