//! The weights as decoding reads them: one matrix for query, key and value, one for gate and up, the adapter merged in.

use super::Model;

/// The attention half of a layer.
pub(crate) struct AttentionWeights {
    pub(crate) norm: Vec<f32>,
    /// `[(query + 2·key)·width, hidden]`
    pub(crate) qkv: Vec<f32>,
    /// `[(query + 2·key)·width]`, in Qwen2.
    pub(crate) bias: Option<Vec<f32>>,
    /// `[head width]`, in Qwen3.
    pub(crate) query_norm: Option<Vec<f32>>,
    /// `[head width]`, in Qwen3.
    pub(crate) key_norm: Option<Vec<f32>>,
    /// `[hidden, query·width]`
    pub(crate) out: Vec<f32>,
}

/// The feed-forward half of a layer.
pub(crate) struct FeedForwardWeights {
    pub(crate) norm: Vec<f32>,
    /// `[2·width, hidden]`: gate above up.
    pub(crate) gate_up: Vec<f32>,
    /// `[hidden, width]`
    pub(crate) down: Vec<f32>,
}

impl Model {
    pub(crate) fn attention_weights(&self, layer: usize) -> AttentionWeights {
        let layer = &self.weights().layers[layer];
        let inward = [&layer.query, &layer.key, &layer.value];
        let mut qkv = Vec::with_capacity(inward.iter().map(|projection| projection.weight.count()).sum());
        inward.iter().for_each(|projection| qkv.extend(projection.merged()));
        let biases: Vec<_> = inward.iter().filter_map(|projection| projection.bias.as_ref()).collect();
        AttentionWeights {
            norm: layer.attention_norm.read().to_vec(),
            qkv,
            bias: (!biases.is_empty()).then(|| biases.iter().flat_map(|bias| bias.read().to_vec()).collect()),
            query_norm: layer.head_norms.as_ref().map(|(query, _)| query.read().to_vec()),
            key_norm: layer.head_norms.as_ref().map(|(_, key)| key.read().to_vec()),
            out: layer.out.merged(),
        }
    }

    pub(crate) fn feed_forward_weights(&self, layer: usize) -> FeedForwardWeights {
        let layer = &self.weights().layers[layer];
        let mut gate_up = Vec::with_capacity(2 * layer.gate.weight.count());
        gate_up.extend(layer.gate.merged());
        gate_up.extend(layer.up.merged());
        FeedForwardWeights {
            norm: layer.feed_forward_norm.read().to_vec(),
            gate_up,
            down: layer.down.merged(),
        }
    }
}
