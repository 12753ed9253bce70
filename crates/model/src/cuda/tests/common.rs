//! What the tests of the engine share.

use crate::cuda::{Driver, Engine, Precision, Sizes, from_map};

/// Makes a driver, or says why not and gives none.
pub(super) type Open<'a, D> = &'a dyn Fn(Precision, usize) -> Option<D>;

/// Numbers in (−1, 1) that depend on the seed alone.
pub(super) fn noise(count: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// ‖got − want‖ / ‖want‖; infinite where anything is not finite.
pub(super) fn distance(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|number| number * number).sum::<f64>();
    let wide = |number: &f32| f64::from(*number);
    let off = squares(&mut got.iter().zip(want).map(|(got, want)| wide(got) - wide(want)));
    let all = squares(&mut want.iter().map(wide));
    if off.is_finite() { (off / all.max(1e-30)).sqrt() } else { f64::INFINITY }
}

/// Sizes of a small decoder of every kind: biases or norms of heads, a head of its own or not.
pub(super) fn small(head_width: usize, bias: bool, tied: bool) -> Sizes {
    Sizes {
        vocabulary: 97,
        hidden: 40,
        feed_forward: 72,
        layers: 2,
        heads: 4,
        key_heads: 2,
        head_width,
        epsilon: 1e-6,
        tied,
        bias,
        head_norms: !bias,
        inverse_frequencies: (0..head_width / 2)
            .map(|i| 10_000f32.powf(-2.0 * i as f32 / head_width as f32))
            .collect(),
        rotary_factor: 1.0,
        positions: 256,
    }
}

/// Random parameters: norms about 1, the rest about 0.
pub(super) fn random(
    sizes: &Sizes,
    settings: &crate::cuda::Settings,
    seed: u64,
) -> std::collections::HashMap<String, Vec<f32>> {
    let (matrices, vectors) = sizes.parameters();
    let adapter = match &settings.trained {
        crate::cuda::Trained::Adapter(adapter) => sizes.adapter(adapter),
        _ => Vec::new(),
    };
    (matrices.into_iter().chain(vectors).chain(adapter).zip(seed..))
        .map(|((name, shape), seed)| {
            let centre = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            let numbers = noise(shape.iter().product(), seed).into_iter().map(|number| centre + 0.2 * number);
            (name, numbers.collect())
        })
        .collect()
}

pub(super) fn engine<D: Driver>(
    open: Open<D>,
    sizes: &Sizes,
    settings: crate::cuda::Settings,
    seed: u64,
) -> Option<Engine<D>> {
    let driver = open(settings.precision, sizes.head_width)?;
    let parameters = random(sizes, &settings, seed);
    Some(Engine::new(driver, sizes.clone(), settings, &mut from_map(&parameters)).expect("the model loads"))
}

/// Token ids that depend on the seed alone, and where sequences of these lengths begin.
pub(super) fn batch(sizes: &Sizes, lengths: &[usize], seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut offsets = vec![0];
    for length in lengths {
        offsets.push(offsets[offsets.len() - 1] + *length as u32);
    }
    let total = offsets[lengths.len()] as usize;
    let ids =
        noise(total, seed).into_iter().map(|number| ((number + 1.0) * 0.5 * sizes.vocabulary as f32) as u32);
    (ids.map(|id| id.min(sizes.vocabulary as u32 - 1)).collect(), offsets)
}
