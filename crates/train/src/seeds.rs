//! Independent random streams from one seed.
//!
//! A stream depends only on the seed and on what it is for, never on how many numbers were drawn before. So a resumed run
//! needs no stored generator: update 7 shuffles the same way whether or not updates 0 to 6 ran in this process.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Order of documents or examples in an epoch.
    Epoch = 1,
    /// Order of prompts in a pass over them.
    Prompts = 2,
    /// Tokens of one sampled answer.
    Answer = 3,
    /// Minibatches of an epoch of one update.
    Minibatches = 4,
    /// First weights of the value head.
    ValueHead = 5,
    /// Dropout of one micro-batch of a step.
    Dropout = 6,
}

/// A seed for place (`major`, `minor`) of a stream (SplitMix64's finaliser over the parts).
pub(crate) fn derive(seed: u64, stream: Stream, major: u64, minor: u64) -> u64 {
    [stream as u64, major, minor].iter().fold(mix(seed), |state, part| mix(state ^ *part))
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The numbers `0..count` in the order of this place of a stream.
pub(crate) fn permutation(count: usize, seed: u64, stream: Stream, major: u64, minor: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(derive(seed, stream, major, minor)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let all = [
            derive(1, Stream::Epoch, 0, 0),
            derive(1, Stream::Epoch, 0, 1),
            derive(1, Stream::Epoch, 1, 0),
            derive(1, Stream::Prompts, 0, 0),
            derive(2, Stream::Epoch, 0, 0),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(permutation(20, 7, Stream::Epoch, 3, 0), permutation(20, 7, Stream::Epoch, 3, 0));
        let mut sorted = permutation(20, 7, Stream::Epoch, 3, 0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
