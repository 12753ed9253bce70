//! The weights of a model by the place where they are used, with the adapters that stand beside them.

use crate::config::Config;
use crate::error::ModelError;
use crate::lora::{Pair, Target};
use crate::parameter::Weight;

/// A matrix `[outputs, inputs]` with its bias and its adapter, if it has them.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Weight>,
    pub(crate) adapter: Option<Pair>,
}

impl Projection {
    pub(crate) fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }

    pub(crate) fn inputs(&self) -> usize {
        self.weight.shape()[1]
    }
}

/// The weights of one decoder layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Weight,
    pub(crate) query: Projection,
    pub(crate) key: Projection,
    pub(crate) value: Projection,
    /// Norms of each query head and each key head, `[head width]`.
    pub(crate) head_norms: Option<(Weight, Weight)>,
    pub(crate) out: Projection,
    pub(crate) feed_forward_norm: Weight,
    pub(crate) gate: Projection,
    pub(crate) up: Projection,
    pub(crate) down: Projection,
}

impl Layer {
    /// The projections with the names that adapters know them by.
    pub(crate) fn projections_mut(&mut self) -> [(Target, &mut Projection); 7] {
        [
            (Target::Query, &mut self.query),
            (Target::Key, &mut self.key),
            (Target::Value, &mut self.value),
            (Target::Out, &mut self.out),
            (Target::Gate, &mut self.gate),
            (Target::Up, &mut self.up),
            (Target::Down, &mut self.down),
        ]
    }
}

/// All weights of a model.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Weight,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Weight,
    /// Absent where the head shares the embedding's matrix.
    pub(crate) head: Option<Weight>,
}

impl Weights {
    /// Deals out weights that stand in the order of [`Config::parameter_shapes`].
    pub(crate) fn deal(config: &Config, weights: Vec<Weight>) -> Result<Weights, ModelError> {
        let architecture = config.architecture().ok_or_else(|| ModelError::InvalidConfig {
            what: format!("model_type {} is not known", config.model_type),
        })?;
        let count = weights.len();
        let mut left = weights.into_iter();
        let mut next = move || {
            left.next().ok_or_else(|| ModelError::InvalidConfig {
                what: format!("{count} tensors are too few for {} layers", config.num_hidden_layers),
            })
        };
        let with_bias = |bias: bool, next: &mut dyn FnMut() -> Result<Weight, ModelError>| {
            Ok::<_, ModelError>(Projection {
                weight: next()?,
                bias: if bias { Some(next()?) } else { None },
                adapter: None,
            })
        };
        let bias = architecture.has_bias();
        let embedding = next()?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for _ in 0..config.num_hidden_layers {
            layers.push(Layer {
                attention_norm: next()?,
                query: with_bias(bias, &mut next)?,
                key: with_bias(bias, &mut next)?,
                value: with_bias(bias, &mut next)?,
                head_norms: if architecture.has_head_norms() { Some((next()?, next()?)) } else { None },
                out: with_bias(false, &mut next)?,
                feed_forward_norm: next()?,
                gate: with_bias(false, &mut next)?,
                up: with_bias(false, &mut next)?,
                down: with_bias(false, &mut next)?,
            });
        }
        let norm = next()?;
        let head = if config.tie_word_embeddings { None } else { Some(next()?) };
        Ok(Weights { embedding, layers, norm, head })
    }

    /// The matrix that turns hidden states into logits.
    pub(crate) fn head(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Every weight of the base, in the order of [`Config::parameter_shapes`].
    pub(crate) fn base(&self) -> Vec<&Weight> {
        let mut all = vec![&self.embedding];
        for layer in &self.layers {
            all.push(&layer.attention_norm);
            for projection in [&layer.query, &layer.key, &layer.value] {
                all.push(&projection.weight);
                all.extend(&projection.bias);
            }
            if let Some((query, key)) = &layer.head_norms {
                all.extend([query, key]);
            }
            all.extend([&layer.out.weight, &layer.feed_forward_norm]);
            all.extend([&layer.gate.weight, &layer.up.weight, &layer.down.weight]);
        }
        all.push(&self.norm);
        all.extend(&self.head);
        all
    }
}
