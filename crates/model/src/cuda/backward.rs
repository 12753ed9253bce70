//! The head, forward and backward, and the way back through the whole decoder.

use super::array::{Array, View};
use super::driver::{Driver, Number};
use super::engine::{Engine, Pass};
use crate::device::DeviceError;

/// Scores of chosen rows, and what their gradient needs.
pub struct Scores<D: Driver> {
    /// ln p(target) of each row.
    pub log_prob: Vec<f32>,
    /// Entropy of each row's distribution, in nats.
    pub entropy: Vec<f32>,
    /// ln Σ exp(logit / temperature) of each row.
    pub log_sum_exp: Vec<f32>,
    rows: Vec<u32>,
    targets: Vec<u32>,
    inverse_temperature: f32,
    /// Tokens of the pass they are of.
    tokens: usize,
    saved: Array<D>,
}

/// Memory for one chunk of the head's rows.
struct HeadRoom<D: Driver> {
    rows: usize,
    /// `[rows, vocabulary]`
    logits: Array<D>,
    dlogits: Array<D>,
    /// `[rows, hidden]`
    gathered: Array<D>,
    dgathered: Array<D>,
}

fn check_rows<D: Driver>(pass: &Pass<D>, rows: &[u32]) -> Result<(), DeviceError> {
    match rows.iter().find(|&&row| row as usize >= pass.tokens()) {
        None => Ok(()),
        Some(row) => Err(DeviceError::input(format!("row {row} of {} tokens", pass.tokens()))),
    }
}

impl<D: Driver> Engine<D> {
    fn head_weight(&self) -> View<'_, D> {
        self.base.value(self.head, self.sizes.vocabulary * self.sizes.hidden)
    }

    /// f32 logits of rows of hidden states, times `factor`.
    pub(crate) fn logits_into(
        &self,
        out: View<'_, D>,
        hidden: View<'_, D>,
        rows: usize,
        factor: f32,
    ) -> Result<(), DeviceError> {
        let (vocabulary, width) = (self.sizes.vocabulary, self.sizes.hidden);
        let head = self.head_weight().matrix(vocabulary, width).transposed();
        self.kernels.product(out.matrix(rows, vocabulary), hidden.matrix(rows, width), head, factor, 0.0)
    }

    /// Log-probability of `targets[i]` after the packed row `rows[i]`, and the entropy there, both under
    /// softmax(logits / temperature). Logits exist for one chunk of rows at a time.
    ///
    /// # Errors
    /// Different numbers of rows and targets, none at all, a row or target out of range, a temperature that is not a
    /// positive number; failed calls.
    pub fn score(
        &self,
        pass: &Pass<D>,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<Scores<D>, DeviceError> {
        self.check_score(pass, rows, targets, temperature)?;
        let (vocabulary, width, kernels) = (self.sizes.vocabulary, self.sizes.hidden, &self.kernels);
        let inverse_temperature = 1.0 / temperature;
        let saved = kernels.floats(3 * rows.len())?;
        let chunk = self.sizes.chunk(&self.settings).min(rows.len());
        let logits = kernels.floats(chunk * vocabulary)?;
        let gathered = kernels.reals(chunk * width)?;
        for first in (0..rows.len()).step_by(chunk) {
            let count = chunk.min(rows.len() - first);
            let list = kernels.words(&rows[first..first + count])?;
            kernels.gather(gathered.view(), pass.hidden.view(), list.view(), width)?;
            let logits = logits.part(0, count * vocabulary);
            self.logits_into(logits, gathered.view(), count, inverse_temperature)?;
            let targets = kernels.words(&targets[first..first + count])?;
            kernels.score(saved.part(3 * first, 3 * count), logits, targets.view(), vocabulary)?;
        }
        let values = kernels.read(saved.view())?;
        let column = |at: usize| values.iter().skip(at).step_by(3).copied().collect();
        Ok(Scores {
            log_prob: column(0),
            log_sum_exp: column(1),
            entropy: column(2),
            rows: rows.to_vec(),
            targets: targets.to_vec(),
            inverse_temperature,
            tokens: pass.tokens(),
            saved,
        })
    }

    fn check_score(
        &self,
        pass: &Pass<D>,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<(), DeviceError> {
        if rows.len() != targets.len() || rows.is_empty() {
            return Err(DeviceError::input(format!(
                "{} rows and {} targets to score",
                rows.len(),
                targets.len()
            )));
        }
        check_rows(pass, rows)?;
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(DeviceError::input(format!("a temperature of {temperature}")));
        }
        self.check_ids(targets)
    }

    /// Adds to the gradient of the pass's hidden states, and of the head, what follows from the gradients of each score's
    /// log-probability and entropy.
    ///
    /// # Errors
    /// Another number of gradients than of scores; failed calls.
    pub fn score_backward(
        &self,
        pass: &mut Pass<D>,
        scores: &Scores<D>,
        d_log_prob: &[f32],
        d_entropy: &[f32],
    ) -> Result<(), DeviceError> {
        let count = scores.rows.len();
        if d_log_prob.len() != count || d_entropy.len() != count {
            return Err(DeviceError::input(format!(
                "{} and {} gradients for {count} scores",
                d_log_prob.len(),
                d_entropy.len()
            )));
        }
        if scores.tokens != pass.tokens() {
            return Err(DeviceError::input(format!(
                "scores of a pass of {} tokens, for one of {}",
                scores.tokens,
                pass.tokens()
            )));
        }
        self.begin_gradient()?;
        self.begin_hidden_gradient(pass)?;
        let slopes = self.slopes(d_log_prob, d_entropy)?;
        let room = self.head_room(count)?;
        for first in (0..count).step_by(room.rows) {
            let count = room.rows.min(count - first);
            let rows = &scores.rows[first..first + count];
            self.chunk_logits(&room, pass, rows, scores.inverse_temperature)?;
            let targets = self.kernels.words(&scores.targets[first..first + count])?;
            let given = (scores.saved.part(3 * first, 3 * count), slopes.part(2 * first, 2 * count));
            self.chunk_backward(&room, pass, rows, targets.view(), given, scores.inverse_temperature)?;
        }
        Ok(())
    }

    /// Scores at temperature 1 and goes back at once for a loss `Σ gᵢ · log pᵢ` whose `gᵢ` are known beforehand: the logits of each
    /// chunk are computed a single time. Gives the log-probabilities.
    ///
    /// # Errors
    /// Those of [`Engine::score`] and [`Engine::score_backward`].
    pub fn cross_entropy(
        &self,
        pass: &mut Pass<D>,
        rows: &[u32],
        targets: &[u32],
        d_log_prob: &[f32],
    ) -> Result<Vec<f32>, DeviceError> {
        self.check_score(pass, rows, targets, 1.0)?;
        if d_log_prob.len() != rows.len() {
            return Err(DeviceError::input(format!(
                "{} gradients for {} scores",
                d_log_prob.len(),
                rows.len()
            )));
        }
        self.begin_gradient()?;
        self.begin_hidden_gradient(pass)?;
        let slopes = self.slopes(d_log_prob, &vec![0.0; rows.len()])?;
        let saved = self.kernels.floats(3 * rows.len())?;
        let room = self.head_room(rows.len())?;
        for first in (0..rows.len()).step_by(room.rows) {
            let count = room.rows.min(rows.len() - first);
            let rows = &rows[first..first + count];
            let logits = self.chunk_logits(&room, pass, rows, 1.0)?;
            let targets = self.kernels.words(&targets[first..first + count])?;
            let saved = saved.part(3 * first, 3 * count);
            self.kernels.score(saved, logits, targets.view(), self.sizes.vocabulary)?;
            let given = (saved, slopes.part(2 * first, 2 * count));
            self.chunk_backward(&room, pass, rows, targets.view(), given, 1.0)?;
        }
        Ok(self.kernels.read(saved.view())?.into_iter().step_by(3).collect())
    }

    /// The gradients of each score's log-probability and entropy, side by side.
    fn slopes(&self, d_log_prob: &[f32], d_entropy: &[f32]) -> Result<Array<D>, DeviceError> {
        let slopes: Vec<f32> =
            d_log_prob.iter().zip(d_entropy).flat_map(|(&log, &entropy)| [log, entropy]).collect();
        let array = self.kernels.floats(slopes.len())?;
        self.kernels.write(array.view(), &slopes)?;
        Ok(array)
    }

    fn head_room(&self, count: usize) -> Result<HeadRoom<D>, DeviceError> {
        let (vocabulary, width, kernels) = (self.sizes.vocabulary, self.sizes.hidden, &self.kernels);
        let rows = self.sizes.chunk(&self.settings).min(count);
        Ok(HeadRoom {
            rows,
            logits: kernels.floats(rows * vocabulary)?,
            dlogits: kernels.reals(rows * vocabulary)?,
            gathered: kernels.reals(rows * width)?,
            dgathered: kernels.floats(rows * width)?,
        })
    }

    /// The logits of a chunk's rows.
    fn chunk_logits<'a>(
        &self,
        room: &'a HeadRoom<D>,
        pass: &Pass<D>,
        rows: &[u32],
        factor: f32,
    ) -> Result<View<'a, D>, DeviceError> {
        let list = self.kernels.words(rows)?;
        self.kernels.gather(room.gathered.view(), pass.hidden.view(), list.view(), self.sizes.hidden)?;
        let logits = room.logits.part(0, rows.len() * self.sizes.vocabulary);
        self.logits_into(logits, room.gathered.view(), rows.len(), factor)?;
        Ok(logits)
    }

    /// From a chunk's logits, scores and slopes to the gradients of its hidden states and of the head.
    fn chunk_backward(
        &self,
        room: &HeadRoom<D>,
        pass: &Pass<D>,
        rows: &[u32],
        targets: View<'_, D>,
        (saved, slopes): (View<'_, D>, View<'_, D>),
        factor: f32,
    ) -> Result<(), DeviceError> {
        let (vocabulary, width, kernels) = (self.sizes.vocabulary, self.sizes.hidden, &self.kernels);
        let count = rows.len();
        let logits = room.logits.part(0, count * vocabulary);
        let dlogits = room.dlogits.part(0, count * vocabulary);
        kernels.score_backward(dlogits, logits, (saved, slopes, targets), vocabulary, factor)?;
        let dlogits = dlogits.matrix(count, vocabulary);
        let dgathered = room.dgathered.part(0, count * width);
        let head = self.head_weight().matrix(vocabulary, width);
        kernels.product(dgathered.matrix(count, width), dlogits, head, 1.0, 0.0)?;
        if let Some(dhidden) = &pass.dhidden {
            kernels.scatter_add(dhidden.view(), dgathered, rows, width)?;
        }
        if let Some(dhead) = self.base_gradient(self.head, vocabulary * width) {
            let gathered = room.gathered.part(0, count * width).matrix(count, width);
            kernels.product(dhead.matrix(vocabulary, width), dlogits.transposed(), gathered, 1.0, 1.0)?;
        }
        Ok(())
    }

    /// Hidden states after the final norm of some rows, on the host, `[rows, hidden]`.
    ///
    /// # Errors
    /// A row out of range; failed calls.
    pub fn hidden_rows(&self, pass: &Pass<D>, rows: &[u32]) -> Result<Vec<f32>, DeviceError> {
        check_rows(pass, rows)?;
        let gathered = self.kernels.reals(rows.len() * self.sizes.hidden)?;
        let list = self.kernels.words(rows)?;
        self.kernels.gather(gathered.view(), pass.hidden.view(), list.view(), self.sizes.hidden)?;
        self.kernels.read(gathered.view())
    }

    /// As [`Engine::add_hidden_gradient`], for some rows alone, `[rows, hidden]`.
    ///
    /// # Errors
    /// A row out of range, another number of numbers; failed calls.
    pub fn add_hidden_gradient_rows(
        &self,
        pass: &mut Pass<D>,
        rows: &[u32],
        gradient: &[f32],
    ) -> Result<(), DeviceError> {
        check_rows(pass, rows)?;
        self.begin_hidden_gradient(pass)?;
        let given = self.kernels.floats(rows.len() * self.sizes.hidden)?;
        self.kernels.write(given.view(), gradient)?;
        pass.dhidden.as_ref().map_or(Ok(()), |dhidden| {
            self.kernels.scatter_add(dhidden.view(), given.view(), rows, self.sizes.hidden)
        })
    }

    /// Adds a gradient of the hidden states that the host computed, such as that of a value head, `[tokens, hidden]`.
    ///
    /// # Errors
    /// Another number of numbers; failed calls.
    pub fn add_hidden_gradient(&self, pass: &mut Pass<D>, gradient: &[f32]) -> Result<(), DeviceError> {
        self.begin_hidden_gradient(pass)?;
        let given = self.kernels.floats(pass.hidden.length())?;
        self.kernels.write(given.view(), gradient)?;
        pass.dhidden.as_ref().map_or(Ok(()), |dhidden| self.kernels.add(dhidden.view(), given.view()))
    }

    fn begin_hidden_gradient(&self, pass: &mut Pass<D>) -> Result<(), DeviceError> {
        if pass.dhidden.is_none() {
            pass.dhidden = Some(self.kernels.zeros(pass.hidden.length())?);
        }
        Ok(())
    }

    fn begin_gradient(&self) -> Result<(), DeviceError> {
        self.trained_parameters().map_or(Ok(()), |parameters| parameters.begin_gradient(&self.kernels))
    }

    /// Goes back through the decoder from what was added to the gradient of the pass's hidden states, and adds to the gradients
    /// of what is trained. They add up over passes until [`Engine::zero_gradients`].
    ///
    /// # Errors
    /// A pass that kept nothing or that got no gradient; failed calls.
    pub fn backward(&self, pass: Pass<D>) -> Result<(), DeviceError> {
        let Pass { context, ids, saved, last, hidden, dhidden } = pass;
        if saved.len() != self.layers.len() {
            return Err(DeviceError::input(
                "a backward pass needs a forward pass that keeps (PassOptions::keep)",
            ));
        }
        let Some(dhidden) = dhidden else {
            return Err(DeviceError::input("a backward pass without any gradient of the hidden states"));
        };
        self.begin_gradient()?;
        drop(hidden);
        let (kernels, width) = (&self.kernels, self.sizes.hidden);
        let dx = kernels.reals(context.tokens * width)?;
        let dnormed = kernels.reals(context.tokens * width)?;
        kernels.narrow(dnormed.view(), dhidden.view())?;
        drop(dhidden);
        kernels.rms_norm_backward(
            dx.view(),
            None,
            self.base_gradient(self.final_norm, width),
            (last.view(), self.norm(self.final_norm), dnormed.view()),
            self.sizes.epsilon,
        )?;
        drop((last, dnormed));
        for (layer, saved) in self.layers.iter().zip(saved).rev() {
            self.layer_backward(layer, &context, &saved.x, saved.activations, &dx)?;
        }
        let length = self.sizes.vocabulary * width;
        let embedding = self.base.offset("model.embed_tokens.weight")?;
        match self.base_gradient(embedding, length) {
            Some(gradient) => kernels.scatter_add(gradient, dx.view(), &ids, width),
            None => Ok(()),
        }
    }

    /// Logits of every row of a pass, `[tokens, vocabulary]`, on the host: for tests and small inputs.
    ///
    /// # Errors
    /// Failed calls.
    pub fn logits(&self, pass: &Pass<D>) -> Result<Vec<f32>, DeviceError> {
        let out = Array::new(&self.kernels.driver, Number::F32, pass.tokens() * self.sizes.vocabulary)?;
        self.logits_into(out.view(), pass.hidden.view(), pass.tokens(), 1.0)?;
        self.kernels.read(out.view())
    }
}
