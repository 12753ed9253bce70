//! How much device memory a run takes, before anything is loaded.

use super::sizes::{Settings, Sizes, Trained};

/// Bytes of device memory by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights as the products read them, and the rotary table.
    pub weights: usize,
    /// Master copies, gradients and moments of what is trained.
    pub optimizer: usize,
    /// What a pass keeps for its way back, and what one layer needs on the way.
    pub activations: usize,
    /// Hidden states and logits, where they are more than what one layer needs.
    pub head: usize,
}

impl MemoryNeed {
    /// All of it. The driver, cuBLAS and the compiled kernels take some hundred MiB more.
    pub fn total(&self) -> usize {
        self.weights + self.optimizer + self.activations + self.head
    }
}

impl Sizes {
    /// What training on `tokens` packed tokens at a time takes, of which `scored` have their log-probability taken.
    pub fn training_memory(&self, settings: &Settings, tokens: usize, scored: usize) -> MemoryNeed {
        let real = settings.precision.number().bytes();
        let numbers = |shapes: &[(String, Vec<usize>)]| -> usize {
            shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
        };
        let (matrices, vectors) = self.parameters();
        let base = numbers(&matrices) + numbers(&vectors);
        let (adapter, trained) = match &settings.trained {
            Trained::Nothing => (0, 0),
            Trained::All => (0, base),
            Trained::Adapter(adapter) => {
                let count = numbers(&self.adapter(adapter));
                (count, count)
            }
        };
        let weights = (base + adapter) * real + self.positions * self.head_width * 4;
        // Gradient, mean and square; and the master where weights are rounded.
        let optimizer = trained * if real == 4 { 12 } else { 16 };

        let row = |width: usize| tokens * width * real;
        let raw = if self.head_norms { self.qkv() } else { 0 };
        let inner = row(self.qkv() + raw + self.queries() + self.hidden + 2 * self.feed_forward)
            + tokens * self.heads * 4;
        let kept = match (settings.trained == Trained::Nothing, settings.checkpointing) {
            (true, _) => inner,
            (false, true) => self.layers * row(self.hidden) + inner,
            (false, false) => self.layers * (row(self.hidden) + inner),
        };
        // On the way back: the stream's gradient, a norm's output, the activation and its gradient.
        let way = row(2 * self.hidden + 2 * self.feed_forward);
        let chunk = self.chunk(settings).min(scored);
        let logits = chunk * (self.vocabulary * (4 + real) + self.hidden * (real + 8));
        // Before the way back: the residual stream, the hidden states and their gradient (f32), the logits of a chunk. A layer that
        // is computed again is not there yet.
        let again = if settings.checkpointing && settings.trained != Trained::Nothing { inner } else { 0 };
        let head = row(2 * self.hidden) + tokens * self.hidden * 4 + logits;
        MemoryNeed { weights, optimizer, activations: kept + way, head: head.saturating_sub(way + again) }
    }

    /// What a cache of `slots` texts of `capacity` tokens takes.
    pub fn cache_memory(&self, settings: &Settings, slots: usize, capacity: usize) -> usize {
        2 * self.layers * slots * capacity * self.keys() * settings.precision.number().bytes()
    }

    /// Rows whose logits exist at a time.
    pub(crate) fn chunk(&self, settings: &Settings) -> usize {
        let rows = (settings.logits / self.vocabulary).max(16);
        // Whole tiles of the products.
        if rows > 128 { rows / 128 * 128 } else { rows }
    }
}
