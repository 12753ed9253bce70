//! Near-duplicates: shingles of normalised leaf tokens, MinHash signatures, locality-sensitive hashing.
//!
//! Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, chapter 3. LSH only proposes pairs; each is decided on its
//! true Jaccard similarity, so chance can hide a near-duplicate and never make one.

use std::collections::{HashMap, HashSet};

use vul2safe_code::{Language, normalised_leaves, parse};

/// Leaf tokens of one shingle.
const SHINGLE: usize = 5;
/// Rows of a band: two texts of similarity `s` share a band with probability `s⁴`.
const ROWS: usize = 4;
/// With 32 bands, of texts as similar as 0.8 all but one pair in ten million meet in a band, of 0.3 one in four.
const BANDS: usize = 32;

/// What is compared of a text.
pub(crate) struct Sketch {
    /// Leaf tokens as one hash: equal for texts that differ in comments and white space only.
    pub(crate) exact: blake3::Hash,
    /// Distinct shingles, sorted.
    shingles: Vec<u64>,
    /// `BANDS * ROWS` least hashes.
    signature: Vec<u64>,
}

impl Sketch {
    /// The sketch of a text. One that cannot be parsed counts as its white-space separated words.
    pub(crate) fn of(language: Language, text: &str) -> Self {
        match parse(language, text) {
            Ok(parsed) => Self::of_tokens(&normalised_leaves(&parsed)),
            Err(_) => Self::of_tokens(&text.split_whitespace().collect::<Vec<_>>()),
        }
    }

    pub(crate) fn of_tokens(tokens: &[&str]) -> Self {
        let mut exact = blake3::Hasher::new();
        for token in tokens {
            exact.update(token.as_bytes());
            exact.update(&[0]);
        }
        let hashes: Vec<u64> = tokens.iter().map(|token| hash_bytes(token.as_bytes())).collect();
        // A text shorter than a shingle is one shingle.
        let mut shingles: Vec<u64> = hashes
            .windows(SHINGLE.min(hashes.len()).max(1))
            .map(|window| window.iter().fold(0, |all, one| mix(all ^ one)))
            .collect();
        shingles.sort_unstable();
        shingles.dedup();
        // Shingles are well mixed, so multiply-add gives each place of the signature an order of its own.
        let mut orders = [(0, 0); BANDS * ROWS];
        for (index, order) in orders.iter_mut().enumerate() {
            *order = (mix(2 * index as u64) | 1, mix(2 * index as u64 + 1));
        }
        let mut signature = vec![u64::MAX; BANDS * ROWS];
        for shingle in &shingles {
            for (least, (factor, addend)) in signature.iter_mut().zip(&orders) {
                *least = (*least).min(shingle.wrapping_mul(*factor).wrapping_add(*addend));
            }
        }
        Self { exact: exact.finalize(), shingles, signature }
    }

    /// Shared shingles over all shingles of both, 0 to 1; two texts without tokens are equal.
    pub(crate) fn similarity(&self, other: &Self) -> f64 {
        let (mut shared, mut left, mut right) = (0_usize, 0, 0);
        while let (Some(a), Some(b)) = (self.shingles.get(left), other.shingles.get(right)) {
            shared += usize::from(a == b);
            left += usize::from(a <= b);
            right += usize::from(b <= a);
        }
        let all = self.shingles.len() + other.shingles.len() - shared;
        if all == 0 { 1.0 } else { shared as f64 / all as f64 }
    }
}

/// Calls `join` for pairs of sketches whose similarity is at least `threshold`. `joined` says which pairs need no
/// comparison any more, because they are together already.
pub(crate) fn near_duplicates(
    sketches: &[Sketch],
    threshold: f64,
    mut join: impl FnMut(usize, usize),
    mut joined: impl FnMut(usize, usize) -> bool,
) {
    let mut compared: HashSet<(usize, usize)> = HashSet::new();
    for band in 0..BANDS {
        let mut buckets: HashMap<&[u64], Vec<usize>> = HashMap::new();
        for (index, sketch) in sketches.iter().enumerate() {
            buckets.entry(&sketch.signature[band * ROWS..(band + 1) * ROWS]).or_default().push(index);
        }
        let mut buckets: Vec<Vec<usize>> = buckets.into_values().filter(|bucket| bucket.len() > 1).collect();
        // The order of a hash map is chance; what is joined first decides which comparisons are spared.
        buckets.sort_unstable();
        for bucket in buckets {
            for (place, &first) in bucket.iter().enumerate() {
                for &second in &bucket[place + 1..] {
                    if !joined(first, second)
                        && compared.insert((first, second))
                        && sketches[first].similarity(&sketches[second]) >= threshold
                    {
                        join(first, second);
                    }
                }
            }
        }
    }
}

/// FNV-1a, then mixed: its low bits alone are too regular.
fn hash_bytes(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn similarity_is_the_jaccard_of_shingles() {
        let words = |text: &str| Sketch::of_tokens(&text.split(' ').collect::<Vec<_>>());
        let first = words("a b c d e f g h");
        assert_eq!(first.similarity(&words("a b c d e f g h")), 1.0);
        // Four shingles each; `abcde` and `bcdef` are shared by two of six.
        assert_eq!(first.similarity(&words("a b c d e f x y")), 2.0 / 6.0);
        assert_eq!(first.similarity(&words("q r s t u v")), 0.0);
        assert_eq!(Sketch::of_tokens(&[]).similarity(&Sketch::of_tokens(&[])), 1.0);
        assert_eq!(words("a b").similarity(&words("a b")), 1.0);
    }

    /// LSH with a comparison of all pairs as the truth.
    #[test]
    fn similar_texts_are_found_and_others_are_not() {
        let text = |seed: u64, changed: usize| -> Sketch {
            let mut tokens: Vec<String> =
                (0..120).map(|index| format!("t{}", mix(seed * 1_000 + index) % 997)).collect();
            for place in 0..changed {
                tokens[place * 7 % 120] = format!("c{place}");
            }
            Sketch::of_tokens(&tokens.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let sketches: Vec<Sketch> =
            (0..40).flat_map(|seed| [0, 1, 2, 5].map(|changed| text(seed, changed))).collect();
        let mut found = HashSet::new();
        let joined = |a, b| {
            found.insert((a, b));
        };
        near_duplicates(&sketches, 0.8, joined, |_, _| false);
        let mut truth = HashSet::new();
        for first in 0..sketches.len() {
            for second in first + 1..sketches.len() {
                if sketches[first].similarity(&sketches[second]) >= 0.8 {
                    truth.insert((first, second));
                }
            }
        }
        assert!(truth.len() >= 80, "{}", truth.len());
        assert_eq!(found, truth);
    }

    proptest! {
        #[test]
        fn similarity_is_symmetric_and_bounded(
            first in proptest::collection::vec("[a-c]", 0..30),
            second in proptest::collection::vec("[a-c]", 0..30),
        ) {
            let sketch = |tokens: &[String]| Sketch::of_tokens(&tokens.iter().map(String::as_str).collect::<Vec<_>>());
            let (a, b) = (sketch(&first), sketch(&second));
            prop_assert_eq!(a.similarity(&b), b.similarity(&a));
            prop_assert!((0.0..=1.0).contains(&a.similarity(&b)));
            prop_assert_eq!(a.similarity(&a), 1.0);
        }
    }
}
