//! How much memory a model will take, computed from its shape before anything is loaded.
//!
//! The figures follow what the passes of this crate allocate, size by size; `crates/vul2safe/tests/memory.rs` holds them
//! against the measured peaks of real runs.

use serde::Serialize;

use crate::config::Config;
use crate::generate::{DecodePrecision, PANEL_INPUTS, SMALL_RUNNING, cache_bytes_per_token};
use crate::kernels::matmul::ROW_BLOCK;
use crate::lora::{LoraConfig, Target};
use crate::parameter::Precision;

const FLOAT: usize = 4;
/// The program itself, its libraries and what a run holds beside the model (measured).
const PROGRAM: usize = 14 << 20;
/// Each thread's stack and corner of the allocator (measured).
const THREAD: usize = 1 << 20;
/// Scratch slices that wait to be used again, at most.
const SCRATCH: usize = 16 << 20;
/// Logits of the head's chunks in numbers: 16 MiB.
const HEAD_CHUNK: usize = 1 << 22;
/// Rows of the head's backward pass.
const HEAD_ROWS: usize = 2048;
/// Queries of one task of attention's backward pass.
const ATTENTION_TASK: usize = 256;
/// Prompt tokens that one pass of sampling reads.
const PREFILL: usize = 256;

/// What is going to be done with a model.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The model's shape.
    pub config: Config,
    /// How the base's weights are kept.
    pub precision: Precision,
    /// The adapter that is on it, if there is one; it is what is trained then.
    pub lora: Option<LoraConfig>,
    /// Models in memory beside this one, such as the reference of PPO. With an adapter they share the base and have a
    /// set of adapter matrices each; without, each is a whole copy.
    pub further_models: usize,
    /// Bytes of the files that the weights are read from; 0 for a model made from nothing.
    pub file_bytes: usize,
    /// Threads of the pool.
    pub threads: usize,
    /// What training does; `None`: nothing is trained.
    pub training: Option<TrainingLoad>,
    /// What sampling does; `None`: nothing is sampled.
    pub sampling: Option<SamplingLoad>,
}

/// One forward and backward pass, and what is held beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingLoad {
    /// Tokens of a micro-batch.
    pub tokens: usize,
    /// Its longest sequence.
    pub longest: usize,
    /// Rows of it that are scored by the head.
    pub rows: usize,
    /// Whether layers are computed again instead of kept ([`crate::Model::set_checkpointing`]).
    pub checkpointing: bool,
    /// Whether a step has more than one micro-batch, so that gradients wait while the next one is read.
    pub accumulation: bool,
    /// Whether an optimiser keeps two moments of every trainable number.
    pub moments: bool,
}

/// Requests that run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplingLoad {
    /// How many run at a time, at most. Of a small model fewer do.
    pub running: usize,
    /// Tokens of the longest, prompt and answer.
    pub length: usize,
    /// The weights' number type.
    pub precision: DecodePrecision,
}

/// Bytes, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryEstimate {
    /// The weights, those of the adapter and of further models included.
    pub weights: usize,
    /// One number for each trainable one, between a backward pass and the step.
    pub gradients: usize,
    /// The optimiser's two numbers for each trainable one.
    pub moments: usize,
    /// What the layers keep of a micro-batch from the forward to the backward pass.
    pub activations: usize,
    /// What the head needs for its rows.
    pub head: usize,
    /// What one layer's backward pass needs on top.
    pub scratch: usize,
    /// Cached keys and values of the requests that run.
    pub cache: usize,
    /// Weights laid out anew for sampling, and one pass through them.
    pub decoding: usize,
    /// The program, its threads and the scratch that waits to be used again.
    pub other: usize,
    /// Weight files that are mapped while they are read. The system takes these pages back where memory is short.
    pub mapped: usize,
    /// The peak over loading, training and sampling, without mapped files: what has to be free.
    pub needed: usize,
    /// The peak with mapped files, as the system's own figure (`VmHWM`) has it.
    pub total: usize,
}

/// A change that lowers the peak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What to change, in words.
    pub what: &'static str,
    /// What has to be free then, in bytes.
    pub needed: usize,
    /// Whether that is there.
    pub fits: bool,
}

/// Sizes of one layer, in numbers.
struct Sizes {
    hidden: usize,
    feed: usize,
    /// Query, key and value of a token.
    row: usize,
    /// Query of a token.
    query: usize,
    /// Key of a token.
    key: usize,
    heads: usize,
    /// Query and key before their norms, where they have norms.
    raw: usize,
}

impl Sizes {
    fn of(config: &Config) -> Sizes {
        let query = config.num_attention_heads * config.head_width();
        let key = config.num_key_value_heads * config.head_width();
        let norms = config.architecture().is_some_and(|architecture| architecture.has_head_norms());
        Sizes {
            hidden: config.hidden_size,
            feed: config.intermediate_size,
            row: query + 2 * key,
            query,
            key,
            heads: config.num_attention_heads,
            raw: if norms { query + key } else { 0 },
        }
    }

    /// Numbers that a layer keeps of each token beside its output.
    fn kept(&self) -> usize {
        self.row + self.raw + self.query + self.heads + self.hidden + 2 * self.feed
    }
}

impl Workload {
    /// The estimate.
    pub fn estimate(&self) -> MemoryEstimate {
        let config = &self.config;
        let base = config.parameters() * self.precision.bytes();
        let adapter = self.lora.as_ref().map_or(0, |lora| FLOAT * lora.parameters(config));
        let one = if self.lora.is_some() { adapter } else { base };
        let trainable = if self.lora.is_some() { adapter } else { FLOAT * config.parameters() };
        let weights = base + adapter + self.further_models * one;
        let program = PROGRAM + self.threads * THREAD;

        let mut estimate = MemoryEstimate { weights, mapped: self.file_bytes, ..MemoryEstimate::default() };
        // Weights are read one tensor at a time; those of other number types go through f32.
        let largest = self.largest_matrix() * FLOAT;
        let passing = if self.precision == Precision::Float32 { 0 } else { largest };
        let mut needed = program + weights + passing;
        let mut held = weights;
        if let Some(load) = self.training {
            let passes = self.training_peak(load, trainable, &mut estimate);
            estimate.moments = if load.moments { 2 * trainable } else { 0 };
            held += estimate.moments;
            needed = needed.max(program + SCRATCH + held + passes);
        }
        if let Some(load) = self.sampling {
            let peak = self.sampling_peak(load, &mut estimate);
            let scratch = if self.training.is_some() { SCRATCH } else { 0 };
            needed = needed.max(program + scratch + held + peak);
        }
        estimate.other = program + if self.training.is_some() { SCRATCH } else { 0 };
        estimate.needed = needed;
        estimate.total = needed.max(program + weights + self.file_bytes);
        estimate
    }

    fn largest_matrix(&self) -> usize {
        let shapes = self.config.parameter_shapes();
        shapes.into_iter().map(|(_, shape)| shape.iter().product()).max().unwrap_or(0)
    }

    /// Activations, gradients, head and scratch, and the most of them that exists at a time.
    fn training_peak(&self, load: TrainingLoad, trainable: usize, estimate: &mut MemoryEstimate) -> usize {
        let (config, sizes) = (&self.config, Sizes::of(&self.config));
        let TrainingLoad { tokens, rows, .. } = load;
        let train_base = self.lora.is_none();
        let (hidden, layers) = (sizes.hidden, config.num_hidden_layers);
        // The tape keeps every node's output to the end of the backward pass.
        let tape = FLOAT * tokens * hidden * (layers + 2);
        let layer = FLOAT * tokens * sizes.kept();
        let activations = tape + if load.checkpointing { layer } else { layers * layer };
        let scratch = self.layer_scratch(load, &sizes);
        let head_gradient = if train_base { FLOAT * config.vocab_size * hidden } else { 0 };

        let chunk = rows.min(HEAD_ROWS);
        let tile = (HEAD_CHUNK / chunk.max(1) / 96 * 96).clamp(960, 3840).min(config.vocab_size);
        let kept_rows = (HEAD_CHUNK / config.vocab_size.max(1) / ROW_BLOCK * ROW_BLOCK).min(rows);
        let logits = (chunk * tile).max(kept_rows * config.vocab_size);
        // Gathered rows and their gradients, tempered rows, rows laid out, the gradient of all tokens, two tiles of weights.
        let operand = if train_base { chunk * hidden } else { 0 };
        let widened = match self.precision {
            Precision::Float32 => 0,
            Precision::Bfloat16 => config.vocab_size * hidden,
        };
        let head = FLOAT
            * (2 * rows * hidden
                + chunk * hidden
                + operand
                + tokens * hidden
                + logits
                + 2 * tile * hidden
                + widened);

        estimate.gradients = trainable;
        estimate.activations = activations;
        estimate.head = head;
        estimate.scratch = scratch;

        // Before the backward pass of the layers: everything is kept, and of this pass's gradients there is the head's.
        let waiting = if load.accumulation { trainable } else { head_gradient };
        // The head's phase holds no layer that is computed again.
        let kept = tape + if load.checkpointing { 0 } else { layers * layer };
        let at_head = kept + waiting + head;
        // The gradient's way to the last layer: the product's terms and their gradients.
        let entry = FLOAT * tokens * hidden * 3;
        let at_last_layer = activations + waiting + scratch + entry;
        let at_first_layer = tape + layer + trainable + scratch;
        at_head.max(at_last_layer).max(at_first_layer)
    }

    /// The most that the backward pass of one layer needs beside what was kept.
    fn layer_scratch(&self, load: TrainingLoad, sizes: &Sizes) -> usize {
        let Sizes { hidden, feed, row, query, key, heads, .. } = *sizes;
        let train_base = self.lora.is_none();
        let tokens = load.tokens;
        let operands = |width: usize| if train_base { tokens * width } else { 0 };
        // Weights laid out for the gradients of the inputs, and for the products that are computed again.
        let orders = if load.checkpointing { 2 } else { 1 };
        let threads = self.threads * ROW_BLOCK * (feed + hidden);
        // Freed slices of the layer before leave holes that the next ones do not quite fill (measured).
        let holes = tokens * 2 * feed;
        let feed_forward =
            tokens * (4 * hidden + feed) + operands(feed.max(hidden)) + orders * 3 * hidden * feed + threads;
        // Sums of keys and values that each task of attention's backward pass has to itself.
        let longest = load.longest.min(tokens).max(1);
        let sums = |length: usize| -> usize {
            (0..length).step_by(ATTENTION_TASK).map(|first| (first + ATTENTION_TASK).min(length)).sum()
        };
        let tasks = heads * longest.div_ceil(ATTENTION_TASK);
        let together = (4 * self.threads).div_ceil(tasks.max(1)).min(tokens.div_ceil(longest));
        let task_sums = 2 * query * sums(longest) * together;
        let matrices = hidden * row + query * hidden;
        let inside = tokens * (2 * hidden + query + row + 2 * key) + task_sums;
        let after = tokens * (4 * hidden + row) + operands(hidden);
        let attention = inside.max(after) + matrices;
        FLOAT * (feed_forward.max(attention) + holes)
    }

    /// The cache, the weights as sampling reads them with one pass through them, and the most of it that exists at a time.
    fn sampling_peak(&self, load: SamplingLoad, estimate: &mut MemoryEstimate) -> usize {
        let (config, sizes) = (&self.config, Sizes::of(&self.config));
        let targets = self.lora.as_ref().map_or(&[][..], |lora| &lora.target_modules[..]);
        let copy = |outputs: usize, inputs: usize, merged: bool| match (load.precision, self.precision) {
            (DecodePrecision::Float32 | DecodePrecision::Bfloat16, Precision::Bfloat16) if !merged => 0,
            (DecodePrecision::Float32, Precision::Float32) if !merged && inputs > PANEL_INPUTS => 0,
            (DecodePrecision::Float32, _) => FLOAT * outputs * inputs,
            (DecodePrecision::Bfloat16, _) => 2 * outputs * inputs,
            (DecodePrecision::Int8, _) => outputs * inputs + FLOAT * outputs,
        };
        let layer: usize = Target::ALL
            .into_iter()
            .map(|target| {
                let (outputs, inputs) = target.sizes(config);
                copy(outputs, inputs, targets.contains(&target))
            })
            .sum();
        let head = copy(config.vocab_size, config.hidden_size, false);
        // A copy goes through a whole matrix in f32.
        let passing = if head > 0 {
            FLOAT * config.vocab_size * config.hidden_size
        } else if layer > 0 {
            FLOAT * self.threads * sizes.hidden * sizes.feed
        } else {
            0
        };
        let small = layer.max(self.layer_bytes()) <= 1 << 20;
        let running = if small { load.running.min(SMALL_RUNNING * self.threads) } else { load.running };
        // Keys lie in blocks of 64 positions.
        let tokens = running * load.length.next_multiple_of(64);
        estimate.cache = tokens * cache_bytes_per_token(config);
        let rows = running + PREFILL;
        let pass = FLOAT
            * (rows * (2 * sizes.hidden + sizes.row + sizes.query + 3 * sizes.feed)
                + 2 * running * config.vocab_size);
        let copies = layer * config.num_hidden_layers + head;
        estimate.decoding = copies + pass;
        // Nothing is cached before the weights are laid out.
        copies + passing.max(pass + estimate.cache)
    }

    fn layer_bytes(&self) -> usize {
        let numbers: usize = Target::ALL
            .into_iter()
            .map(|target| {
                let (outputs, inputs) = target.sizes(&self.config);
                outputs * inputs
            })
            .sum();
        numbers * self.precision.bytes()
    }

    /// Changes that would lower what is needed, the mildest first, each with those before it; empty where all fits into
    /// `available` bytes as it is. `may_adapt` says whether an adapter would do in place of training all weights.
    pub fn what_would_fit(&self, available: usize, may_adapt: bool) -> Vec<Advice> {
        let mut found: Vec<Advice> = Vec::new();
        let mut lowest = self.estimate().needed;
        if lowest <= available {
            return found;
        }
        let mut workload = self.clone();
        let mut consider = |workload: &mut Workload, what: &'static str, change: &dyn Fn(&mut Workload)| {
            if found.last().is_some_and(|advice| advice.fits) {
                return;
            }
            let mut changed = workload.clone();
            change(&mut changed);
            let needed = changed.estimate().needed;
            // A change that saves next to nothing is no advice.
            if needed < lowest - lowest / 50 {
                found.push(Advice { what, needed, fits: needed <= available });
                lowest = needed;
                *workload = changed;
            }
        };
        consider(&mut workload, "gradient checkpointing", &|workload| {
            if let Some(training) = &mut workload.training {
                training.checkpointing = true;
            }
        });
        consider(&mut workload, "micro-batches of half the tokens", &|workload| {
            if let Some(training) = &mut workload.training {
                training.tokens = (training.tokens / 2).max(training.longest);
                training.rows = training.rows.min(training.tokens);
            }
        });
        consider(&mut workload, "fewer requests at a time", &|workload| {
            if let Some(sampling) = &mut workload.sampling {
                sampling.running = sampling.running.min(16);
            }
        });
        if self.training.is_some() && may_adapt {
            consider(&mut workload, "LoRA (an adapter of rank 16 instead of all weights)", &|workload| {
                workload.lora.get_or_insert_with(LoraConfig::default);
            });
        }
        if self.training.is_none() || workload.lora.is_some() {
            consider(&mut workload, "the base in bfloat16", &|workload| {
                workload.precision = Precision::Bfloat16;
                workload.file_bytes = workload.file_bytes.min(2 * workload.config.parameters());
            });
        }
        consider(&mut workload, "sequences of half the length", &|workload| {
            if let Some(training) = &mut workload.training {
                training.longest = (training.longest / 2).max(1);
                training.tokens = (training.tokens / 2).max(training.longest);
                training.rows = training.rows.min(training.tokens);
            }
            if let Some(sampling) = &mut workload.sampling {
                sampling.length = (sampling.length / 2).max(1);
            }
        });
        found
    }
}

/// The vector instructions that the kernels use on this processor: `AVX-512`, `AVX2` or `plain`.
pub fn kernel_name() -> &'static str {
    use crate::kernels::simd::{Level, level};
    match level() {
        Level::Avx512 => "AVX-512",
        Level::Avx2 => "AVX2",
        Level::Plain => "plain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            config: Config::new(8192, 512, 1536, 8, 8, 2),
            precision: Precision::Float32,
            lora: None,
            further_models: 0,
            file_bytes: 0,
            threads: 2,
            training: Some(TrainingLoad {
                tokens: 2048,
                longest: 256,
                rows: 2040,
                checkpointing: false,
                accumulation: false,
                moments: true,
            }),
            sampling: None,
        }
    }

    #[test]
    fn each_way_to_save_memory_saves_some() {
        let plain = workload().estimate();
        assert_eq!(plain.weights, 4 * workload().config.parameters());
        assert_eq!((plain.gradients, plain.moments), (plain.weights, 2 * plain.weights));
        let training = workload().training;
        let checkpointing =
            Workload { training: training.map(|t| TrainingLoad { checkpointing: true, ..t }), ..workload() };
        assert!(checkpointing.estimate().activations < plain.activations / 3);
        assert!(checkpointing.estimate().needed < plain.needed * 17 / 20);
        let lora = Workload { lora: Some(LoraConfig::default()), ..workload() };
        assert!(lora.estimate().needed < plain.needed * 3 / 4);
        let half = Workload { precision: Precision::Bfloat16, ..lora.clone() };
        assert!(half.estimate().weights < lora.estimate().weights * 6 / 10);
        // A second full model costs its weights, a second adapter next to nothing.
        let further = |workload: &Workload| Workload { further_models: 1, ..workload.clone() };
        assert_eq!(further(&workload()).estimate().needed, plain.needed + plain.weights);
        assert!(further(&lora).estimate().needed < lora.estimate().needed + (8 << 20));
    }

    #[test]
    fn advice_is_given_where_it_is_needed_and_ends_with_what_fits() {
        let needed = workload().estimate().needed;
        assert!(workload().what_would_fit(needed, true).is_empty());
        let advice = workload().what_would_fit(needed * 3 / 4, true);
        assert!(advice.last().is_some_and(|advice| advice.fits), "{advice:?}");
        assert!(advice.windows(2).all(|pair| pair[1].needed < pair[0].needed && !pair[0].fits), "{advice:?}");
        assert!(workload().what_would_fit(1 << 20, false).iter().all(|advice| !advice.fits));
    }
}
