//! The model: its parameters, and the forward pass that leaves a tape.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use candle_core::{Tensor, Var};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::checkpoint;
use crate::config::Config;
use crate::error::ModelError;
use crate::kernels::attention::Heads;
use crate::kernels::rows::Rotary;
use crate::ops::attention::{Attention, AttentionWeights, Places};
use crate::ops::embedding::Embedding;
use crate::ops::feed_forward::{FeedForward, FeedForwardWeights};
use crate::ops::norm::RmsNorm;
use crate::ops::score::Score;
use crate::ops::{Tray, numbers, tensor, tie, with_numbers};
use crate::packed::{Packed, check_ids};

/// Parameters of one layer, in the order of [`Config::parameter_shapes`].
const LAYER: usize = 12;

/// A Qwen2 decoder with its weights in memory.
pub struct Model {
    config: Config,
    parameters: Vec<(String, Var)>,
    /// The rotary table, made longer when a longer sequence comes.
    rotary: RwLock<Arc<Rotary>>,
}

/// What [`Model::score`] gives for each asked token.
#[derive(Debug, Clone)]
pub struct TokenScores {
    /// `[n]`: ln p(target), differentiable.
    pub log_prob: Tensor,
    /// `[n]`: entropy of the distribution that the target was drawn from, in nats, differentiable.
    pub entropy: Tensor,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Model {
    /// Loads a model folder: `config.json` and `model.safetensors`, or the index of shards. bf16 and f16 are widened.
    ///
    /// # Errors
    /// A missing or truncated file, and every tensor that is missing, extra, of another shape or of an unread number type,
    /// each with file, tensor, what was expected and what was found.
    pub fn load(folder: &Path) -> Result<Model, ModelError> {
        let config = Config::from_folder(folder)?;
        let parameters = checkpoint::load(folder, &config)?;
        Ok(Model::from_parameters(config, parameters))
    }

    /// A model with random weights: normal with the configuration's standard deviation, biases 0, norms 1.
    ///
    /// The two matrices of a layer that write to the residual stream are scaled down by √(2·layers), as in GPT-2, so that
    /// the stream's variance does not grow with depth. The same seed gives the same bits.
    ///
    /// # Errors
    /// A configuration that [`Config::check`] refuses.
    pub fn random(config: Config, seed: u64) -> Result<Model, ModelError> {
        config.check()?;
        let residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        let mut parameters = Vec::new();
        for (index, (name, shape)) in config.parameter_shapes().into_iter().enumerate() {
            let count: usize = shape.iter().product();
            let values = if name.ends_with("norm.weight") {
                vec![1.0; count]
            } else if name.ends_with(".bias") {
                vec![0.0; count]
            } else {
                let writes = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
                let deviation = config.initializer_range * if writes { residual } else { 1.0 };
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream(index as u64);
                normal(&mut random, deviation, count)
            };
            parameters.push((name, Var::from_tensor(&tensor(values, shape)?)?));
        }
        Ok(Model::from_parameters(config, parameters))
    }

    fn from_parameters(config: Config, parameters: Vec<(String, Var)>) -> Model {
        let rotary = RwLock::new(Arc::new(Rotary::new(1, config.head_width(), config.rotary_base())));
        Model { config, parameters, rotary }
    }

    /// Writes `config.json`, `model.safetensors` and `generation_config.json` with torch's names, so that transformers and
    /// vLLM load them. Each file is written beside its place and renamed, `config.json` last; a tied head is left out.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        checkpoint::save(folder, &self.config, &self.parameters)
    }

    /// A copy that shares no memory with this model.
    ///
    /// # Errors
    /// Only where memory cannot be had.
    pub fn duplicate(&self) -> Result<Model, ModelError> {
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for (name, parameter) in &self.parameters {
            // Made from the numbers: candle's `Var::from_tensor` of a variable would share its storage.
            let copy = tensor(numbers(parameter)?, parameter.shape())?;
            parameters.push((name.clone(), Var::from_tensor(&copy)?));
        }
        Ok(Model::from_parameters(self.config.clone(), parameters))
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every trainable tensor under its Hugging Face name, in the order in which the forward pass meets them.
    pub fn parameters(&self) -> &[(String, Var)] {
        &self.parameters
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads {
            query: self.config.num_attention_heads,
            key: self.config.num_key_value_heads,
            width: self.config.head_width(),
        }
    }

    pub(crate) fn embedding_weight(&self) -> &Tensor {
        self.parameters[0].1.as_tensor()
    }

    fn layer_parameter(&self, layer: usize, index: usize) -> Tensor {
        self.parameters[1 + layer * LAYER + index].1.as_tensor().clone()
    }

    pub(crate) fn attention_parameters(&self, layer: usize) -> [Tensor; 8] {
        std::array::from_fn(|index| self.layer_parameter(layer, index))
    }

    pub(crate) fn feed_forward_parameters(&self, layer: usize) -> [Tensor; 4] {
        std::array::from_fn(|index| self.layer_parameter(layer, 8 + index))
    }

    pub(crate) fn norm_weight(&self) -> &Tensor {
        self.parameters[1 + self.config.num_hidden_layers * LAYER].1.as_tensor()
    }

    pub(crate) fn head_weight(&self) -> &Tensor {
        if self.config.tie_word_embeddings {
            self.embedding_weight()
        } else {
            self.parameters[2 + self.config.num_hidden_layers * LAYER].1.as_tensor()
        }
    }

    pub(crate) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    /// The rotary table for at least `positions` positions.
    pub(crate) fn rotary(&self, positions: usize) -> Arc<Rotary> {
        let table = self.rotary.read().unwrap_or_else(PoisonError::into_inner).clone();
        if table.positions() >= positions {
            return table;
        }
        let longer = Arc::new(Rotary::new(
            positions.next_power_of_two(),
            self.config.head_width(),
            self.config.rotary_base(),
        ));
        *self.rotary.write().unwrap_or_else(PoisonError::into_inner) = longer.clone();
        longer
    }

    fn places(&self, batch: &Packed) -> Places {
        let longest = batch.offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Places::new(&batch.offsets, self.rotary(longest as usize))
    }

    /// The residual stream after the final norm, `[tokens, hidden]`, differentiable in every parameter but an untied head's.
    ///
    /// # Errors
    /// A batch that [`Packed::check`] refuses.
    pub fn hidden(&self, batch: &Packed) -> Result<Tensor, ModelError> {
        batch.check(&self.config)?;
        let places = Arc::new(self.places(batch));
        let epsilon = self.epsilon();
        let mut x = self.embedding_weight().apply_op1(Embedding { ids: Arc::new(batch.ids.clone()) })?;
        for layer in 0..self.config.num_hidden_layers {
            let parameters = self.attention_parameters(layer);
            let tray = Tray::default();
            let thread = tie(&parameters.each_ref(), &tray)?;
            let block = Attention {
                parameters,
                heads: self.heads(),
                epsilon,
                places: places.clone(),
                tray,
                saved: Mutex::new(None),
                keep: true,
            };
            x = x.apply_op2(&thread, block)?;
            let parameters = self.feed_forward_parameters(layer);
            let tray = Tray::default();
            let thread = tie(&parameters.each_ref(), &tray)?;
            let block = FeedForward { parameters, epsilon, tray, saved: Mutex::new(None), keep: true };
            x = x.apply_op2(&thread, block)?;
        }
        Ok(x.apply_op2(self.norm_weight(), RmsNorm { epsilon })?)
    }

    /// The same numbers as [`Model::hidden`] without a tape and without keeping anything for a backward pass: for
    /// references, old policies and evaluation.
    ///
    /// # Errors
    /// A batch that [`Packed::check`] refuses.
    pub fn hidden_detached(&self, batch: &Packed) -> Result<Tensor, ModelError> {
        batch.check(&self.config)?;
        let places = self.places(batch);
        let width = self.config.hidden_size;
        let mut x = with_numbers(self.embedding_weight(), |weight| {
            Ok(Embedding::forward(weight, &batch.ids, width))
        })?;
        for layer in 0..self.config.num_hidden_layers {
            let weights = AttentionWeights::read(&self.attention_parameters(layer))?;
            x = Attention::forward(&x, &weights, self.heads(), self.epsilon(), &places).0;
            let weights = FeedForwardWeights::read(&self.feed_forward_parameters(layer))?;
            x = FeedForward::forward(&x, &weights, self.epsilon(), false).0;
        }
        let out =
            with_numbers(self.norm_weight(), |weight| Ok(RmsNorm::forward(&x, weight, self.epsilon())))?;
        Ok(tensor(out, (batch.tokens(), width))?)
    }

    /// Log-probability of `targets[i]` after the packed row `rows[i]` of `hidden`, and the entropy there, both under
    /// softmax(logits / temperature); differentiable in `hidden` and in the head.
    ///
    /// The logits exist for one chunk of rows at a time, forward and backward.
    ///
    /// # Errors
    /// Different numbers of rows and targets, none at all, a row or target out of range, a temperature that is not a positive number.
    pub fn score(
        &self,
        hidden: &Tensor,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<TokenScores, ModelError> {
        let (tokens, _) = hidden.dims2()?;
        self.check_score(tokens, rows, targets, temperature)?;
        let operation = Score {
            rows: rows.to_vec(),
            targets: targets.to_vec(),
            inverse_temperature: 1.0 / temperature,
            saved: Mutex::new(Vec::new()),
        };
        let both = hidden.contiguous()?.apply_op2(self.head_weight(), operation)?;
        Ok(TokenScores { log_prob: both.get(0)?, entropy: both.get(1)? })
    }

    /// Log-probabilities and entropies as [`Model::score`] gives them, without a tape: for references and evaluation.
    ///
    /// # Errors
    /// Those of [`Model::hidden`] and [`Model::score`].
    pub fn score_detached(
        &self,
        batch: &Packed,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        self.check_score(batch.tokens(), rows, targets, temperature)?;
        let hidden = self.hidden_detached(batch)?;
        let operation = Score {
            rows: rows.to_vec(),
            targets: targets.to_vec(),
            inverse_temperature: 1.0 / temperature,
            saved: Mutex::new(Vec::new()),
        };
        let scores = with_numbers(&hidden, |hidden| {
            with_numbers(self.head_weight(), |head| {
                Ok(operation.forward(hidden, head, self.config.hidden_size))
            })
        })?;
        Ok(scores.into_iter().map(|(log_prob, _, entropy)| (log_prob, entropy)).unzip())
    }

    fn check_score(
        &self,
        tokens: usize,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<(), ModelError> {
        if rows.len() != targets.len() || rows.is_empty() {
            return Err(ModelError::input(format!(
                "{} rows and {} targets: a score needs as many of both, and at least one",
                rows.len(),
                targets.len()
            )));
        }
        if let Some(row) = rows.iter().find(|&&row| row as usize >= tokens) {
            return Err(ModelError::input(format!("row {row} lies outside a batch of {tokens} tokens")));
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(ModelError::input(format!("temperature {temperature} is not a positive number")));
        }
        check_ids(targets, &self.config)
    }

    /// All logits, `[tokens, vocabulary]`; for tests and small batches, training uses [`Model::score`].
    ///
    /// # Errors
    /// A batch that [`Packed::check`] refuses.
    pub fn logits(&self, batch: &Packed) -> Result<Tensor, ModelError> {
        Ok(self.hidden(batch)?.matmul(&self.head_weight().t()?)?)
    }
}

/// `count` normally distributed numbers (Box and Muller).
fn normal(random: &mut ChaCha8Rng, deviation: f64, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt() * deviation;
        let angle = std::f64::consts::TAU * random.random::<f64>();
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(count);
    values
}
