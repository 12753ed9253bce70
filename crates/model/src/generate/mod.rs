//! Sampling without a tape: keys and values are cached, and all requests run together.
//!
//! Requests are dealt to shards that run independently on the threads. Inside a shard, the prompts are read packed, and then
//! every step computes one row for each request that is still running. All matrix products go through a kernel that adds up
//! each row in the same order whatever rows stand beside it, so that a request's answer does not depend on its companions.

mod sampling;

use std::sync::Arc;

use rayon::prelude::*;

use self::sampling::Sampler;
pub use self::sampling::{Finish, SamplingOptions};
use crate::decoder::Model;
use crate::error::ModelError;
use crate::kernels::attention::Heads;
use crate::kernels::cache::{Cache, attend};
use crate::kernels::panels::PackedMatrix;
use crate::kernels::rows::{Norm, Rotary, SwiGlu, run};
use crate::ops::attention::AttentionWeights;
use crate::ops::feed_forward::FeedForwardWeights;
use crate::ops::{numbers, with_numbers};
use crate::packed::check_ids;

/// Prompt tokens that one pass reads at most.
const PREFILL_ROWS: usize = 256;
/// Requests in a shard at most.
const SHARD: usize = 32;

/// One request's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The generated ids, the stop id included when it came.
    pub ids: Vec<u32>,
    /// Log-probability of each id under the model's unmodified distribution (temperature 1, nothing cut off).
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finished: Finish,
}

impl Model {
    /// Answers every prompt. The options stand one for each prompt.
    ///
    /// A request's answer depends on its prompt, its options and the weights alone: not on the other prompts, their order or
    /// the number of threads.
    ///
    /// # Errors
    /// Another number of options than prompts, options out of range, an empty prompt, an id outside the vocabulary, a
    /// prompt that leaves no position free.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        options: &[SamplingOptions],
    ) -> Result<Vec<Generation>, ModelError> {
        if prompts.len() != options.len() {
            return Err(ModelError::input(format!(
                "{} prompts but {} sampling options",
                prompts.len(),
                options.len()
            )));
        }
        let positions = self.config().max_position_embeddings;
        let mut longest = 0;
        for (index, (prompt, options)) in prompts.iter().zip(options).enumerate() {
            options.check()?;
            check_ids(prompt, self.config())?;
            if prompt.is_empty() {
                return Err(ModelError::input(format!("prompt {index} is empty")));
            }
            if prompt.len() >= positions {
                return Err(ModelError::input(format!(
                    "prompt {index} has {} tokens, the model has {positions} positions",
                    prompt.len()
                )));
            }
            longest = longest.max(prompt.len().saturating_add(options.maximum_new_tokens).min(positions));
        }
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let weights = DecodingWeights::read(self, longest)?;
        // Two shards a thread where there are enough requests, so that a thread whose answers end early takes another.
        let share = prompts.len().div_ceil(2 * rayon::current_num_threads().max(1)).clamp(1, SHARD);
        let shards: Vec<Vec<Generation>> = prompts
            .par_chunks(share)
            .zip(options.par_chunks(share))
            .map(|(prompts, options)| Shard::new(&weights, prompts, options, positions).finish())
            .collect();
        Ok(shards.into_iter().flatten().collect())
    }
}

struct DecodingLayer {
    attention_norm: Vec<f32>,
    qkv: PackedMatrix,
    bias: Vec<f32>,
    out: PackedMatrix,
    feed_forward_norm: Vec<f32>,
    gate_up: PackedMatrix,
    down: PackedMatrix,
}

/// The weights in the order in which the decoding kernel reads them.
struct DecodingWeights {
    heads: Heads,
    hidden: usize,
    feed: usize,
    vocabulary: usize,
    epsilon: f32,
    rotary: Arc<Rotary>,
    embedding: Vec<f32>,
    layers: Vec<DecodingLayer>,
    norm: Vec<f32>,
    head: PackedMatrix,
}

impl DecodingWeights {
    fn read(model: &Model, positions: usize) -> Result<DecodingWeights, ModelError> {
        let config = model.config();
        let (hidden, feed) = (config.hidden_size, config.intermediate_size);
        let heads = model.heads();
        let layers = (0..config.num_hidden_layers)
            .into_par_iter()
            .map(|layer| {
                let attention = AttentionWeights::read(&model.attention_parameters(layer))?;
                let feed_forward = FeedForwardWeights::read(&model.feed_forward_parameters(layer))?;
                Ok(DecodingLayer {
                    attention_norm: attention.norm,
                    qkv: PackedMatrix::new(&attention.qkv, hidden),
                    bias: attention.bias,
                    out: PackedMatrix::new(&attention.out, heads.out()),
                    feed_forward_norm: feed_forward.norm,
                    gate_up: PackedMatrix::new(&feed_forward.gate_up, hidden),
                    down: PackedMatrix::new(&feed_forward.down, feed),
                })
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(DecodingWeights {
            heads,
            hidden,
            feed,
            vocabulary: config.vocab_size,
            epsilon: model.epsilon(),
            rotary: model.rotary(positions),
            embedding: numbers(model.embedding_weight())?,
            layers,
            norm: numbers(model.norm_weight())?,
            head: with_numbers(model.head_weight(), |head| Ok(PackedMatrix::new(head, hidden)))?,
        })
    }
}

/// One row to compute: a token of a request at its position.
#[derive(Clone, Copy)]
struct Row {
    request: usize,
    id: u32,
    position: usize,
}

struct Request<'a> {
    prompt: &'a [u32],
    limit: usize,
    stop_ids: &'a [u32],
    sampler: Sampler,
    answer: Generation,
    running: bool,
}

struct Shard<'a> {
    weights: &'a DecodingWeights,
    requests: Vec<Request<'a>>,
    /// Cached keys and values: `[layer][request]`.
    caches: Vec<Vec<Cache>>,
}

impl<'a> Shard<'a> {
    fn new(
        weights: &'a DecodingWeights,
        prompts: &'a [Vec<u32>],
        options: &'a [SamplingOptions],
        positions: usize,
    ) -> Shard<'a> {
        let requests: Vec<Request<'_>> = prompts
            .iter()
            .zip(options)
            .map(|(prompt, options)| Request {
                prompt,
                limit: options.maximum_new_tokens.min(positions - prompt.len()),
                stop_ids: &options.stop_ids,
                sampler: Sampler::new(options),
                answer: Generation { ids: Vec::new(), log_probs: Vec::new(), finished: Finish::Length },
                running: options.maximum_new_tokens > 0,
            })
            .collect();
        let caches = (0..weights.layers.len())
            .map(|_| requests.iter().map(|_| Cache::new(weights.heads)).collect())
            .collect();
        Shard { weights, requests, caches }
    }

    fn finish(mut self) -> Vec<Generation> {
        let prompt_rows: Vec<Row> = self
            .requests
            .iter()
            .enumerate()
            .filter(|(_, request)| request.running)
            .flat_map(|(index, request)| {
                let row = move |(position, &id): (usize, &u32)| Row { request: index, id, position };
                request.prompt.iter().enumerate().map(row)
            })
            .collect();
        for rows in prompt_rows.chunks(PREFILL_ROWS) {
            let hidden = self.forward(rows);
            let last: Vec<usize> = (0..rows.len())
                .filter(|&at| rows[at].position + 1 == self.requests[rows[at].request].prompt.len())
                .collect();
            self.sample(rows, &last, &hidden);
        }
        loop {
            let rows: Vec<Row> = self
                .requests
                .iter()
                .enumerate()
                .filter(|(_, request)| request.running)
                .filter_map(|(index, request)| {
                    let position = request.prompt.len() + request.answer.ids.len() - 1;
                    request.answer.ids.last().map(|&id| Row { request: index, id, position })
                })
                .collect();
            if rows.is_empty() {
                break;
            }
            let hidden = self.forward(&rows);
            let all: Vec<usize> = (0..rows.len()).collect();
            self.sample(&rows, &all, &hidden);
        }
        self.requests.into_iter().map(|request| request.answer).collect()
    }

    /// The final residual stream of `rows`, `[rows, hidden]`, before the final norm. Extends the caches.
    fn forward(&mut self, rows: &[Row]) -> Vec<f32> {
        let weights = self.weights;
        let (hidden, heads, count) = (weights.hidden, weights.heads, rows.len());
        let mut x = Vec::with_capacity(count * hidden);
        for row in rows {
            x.extend_from_slice(&weights.embedding[row.id as usize * hidden..(row.id as usize + 1) * hidden]);
        }
        let mut normed = vec![0.0; count * hidden];
        let mut qkv = vec![0.0; count * heads.row()];
        let mut attended = vec![0.0; count * heads.out()];
        let mut gate_up = vec![0.0; count * 2 * weights.feed];
        let mut active = vec![0.0; count * weights.feed];
        for (layer, caches) in weights.layers.iter().zip(&mut self.caches) {
            run(Norm { x: &x, weight: &layer.attention_norm, epsilon: weights.epsilon, out: &mut normed });
            for row in qkv.chunks_exact_mut(heads.row()) {
                row.copy_from_slice(&layer.bias);
            }
            layer.qkv.multiply(&normed, &mut qkv, true);
            for (qkv, row) in qkv.chunks_exact_mut(heads.row()).zip(rows) {
                weights.rotary.turn(qkv, heads.query + heads.key, row.position, 1.0);
                caches[row.request].push(heads, qkv);
            }
            for ((qkv, out), row) in
                qkv.chunks_exact(heads.row()).zip(attended.chunks_exact_mut(heads.out())).zip(rows)
            {
                attend(&caches[row.request], heads, qkv, row.position + 1, out);
            }
            layer.out.multiply(&attended, &mut x, true);
            run(Norm { x: &x, weight: &layer.feed_forward_norm, epsilon: weights.epsilon, out: &mut normed });
            layer.gate_up.multiply(&normed, &mut gate_up, false);
            run(SwiGlu { gate_up: &gate_up, width: weights.feed, out: &mut active });
            layer.down.multiply(&active, &mut x, true);
        }
        x
    }

    /// Chooses the next id of the requests at `chosen` rows.
    fn sample(&mut self, rows: &[Row], chosen: &[usize], hidden: &[f32]) {
        if chosen.is_empty() {
            return;
        }
        let weights = self.weights;
        let width = weights.hidden;
        let mut normed = vec![0.0; chosen.len() * width];
        for (&at, normed) in chosen.iter().zip(normed.chunks_exact_mut(width)) {
            let x = &hidden[at * width..(at + 1) * width];
            run(Norm { x, weight: &weights.norm, epsilon: weights.epsilon, out: normed });
        }
        let mut logits = vec![0.0; chosen.len() * weights.vocabulary];
        weights.head.multiply(&normed, &mut logits, false);
        for (&at, logits) in chosen.iter().zip(logits.chunks_exact_mut(weights.vocabulary)) {
            let request = &mut self.requests[rows[at].request];
            let (id, log_prob) = request.sampler.choose(logits);
            request.answer.ids.push(id);
            request.answer.log_probs.push(log_prob);
            if request.stop_ids.contains(&id) {
                request.answer.finished = Finish::Stop;
                request.running = false;
            } else if request.answer.ids.len() >= request.limit {
                request.running = false;
            }
            if !request.running {
                for caches in &mut self.caches {
                    caches[rows[at].request] = Cache::new(weights.heads);
                }
            }
        }
    }
}
