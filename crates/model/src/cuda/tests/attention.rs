//! The attention kernels against sums in f64, over lengths around the edges of tiles and heads of many widths.

use super::emulator::Emulator;
use super::{Open, distance, noise};
use crate::cuda::array::Array;
use crate::cuda::launch::{AttentionGradient, HeadCounts, Kernels};
use crate::cuda::{Driver, Precision};

/// Attention of one sequence and the gradient of qkv, row by row in f64.
fn reference(
    qkv: &[f32],
    dout: &[f32],
    heads: HeadCounts,
    width: usize,
    length: usize,
) -> (Vec<f32>, Vec<f32>) {
    let row = (heads.queries + 2 * heads.keys) * width;
    let at = |token: usize, head: usize, i: usize| f64::from(qkv[token * row + head * width + i]);
    let (mut out, mut dqkv) = (vec![0.0; length * heads.queries * width], vec![0.0; length * row]);
    let scale = 1.0 / (width as f64).sqrt();
    for head in 0..heads.queries {
        let key_head = heads.queries + head / (heads.queries / heads.keys);
        let value_head = key_head + heads.keys;
        for query in 0..length {
            let scores: Vec<f64> = (0..=query)
                .map(|key| scale * (0..width).map(|i| at(query, head, i) * at(key, key_head, i)).sum::<f64>())
                .collect();
            let most = scores.iter().fold(f64::MIN, |most, score| most.max(*score));
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp() / total).collect();
            let place = (query * heads.queries + head) * width;
            let slope = |i: usize| f64::from(dout[place + i]);
            let dots: Vec<f64> =
                (0..=query).map(|key| (0..width).map(|i| slope(i) * at(key, value_head, i)).sum()).collect();
            let mean: f64 = weights.iter().zip(&dots).map(|(weight, dot)| weight * dot).sum();
            for (key, (weight, dot)) in weights.iter().zip(&dots).enumerate() {
                let dscore = weight * (dot - mean) * scale;
                for i in 0..width {
                    out[place + i] += weight * at(key, value_head, i);
                    dqkv[query * row + head * width + i] += dscore * at(key, key_head, i);
                    dqkv[key * row + key_head * width + i] += dscore * at(query, head, i);
                    dqkv[key * row + value_head * width + i] += weight * slope(i);
                }
            }
        }
    }
    let narrow = |numbers: Vec<f64>| numbers.into_iter().map(|number| number as f32).collect();
    (narrow(out), narrow(dqkv))
}

pub(super) fn check<D: Driver>(
    open: Open<D>,
    precision: Precision,
    width: usize,
    lengths: &[usize],
    heads: HeadCounts,
) {
    let Some(driver) = open(precision, width) else { return };
    let kernels = Kernels::new(driver);
    let tokens: usize = lengths.iter().sum();
    let row = (heads.queries + 2 * heads.keys) * width;
    let offsets: Vec<u32> = std::iter::once(0)
        .chain(lengths.iter().scan(0, |end, length| {
            *end += *length as u32;
            Some(*end)
        }))
        .collect();
    let array = |numbers: usize, seed: u64| -> Array<D> {
        let array = kernels.reals(numbers).expect("memory");
        let numbers: Vec<f32> = noise(numbers, seed).iter().map(|number| 2.0 * number).collect();
        kernels.write(array.view(), &numbers).expect("written");
        array
    };
    let (qkv, dout) = (array(tokens * row, 1), array(tokens * heads.queries * width, 2));
    let out = kernels.reals(tokens * heads.queries * width).expect("memory");
    let dqkv = kernels.reals(tokens * row).expect("memory");
    let log_sum = kernels.floats(tokens * heads.queries).expect("memory");
    let tiles = kernels.tiles(&offsets).expect("tiles");
    kernels.attention(out.view(), log_sum.view(), qkv.view(), &tiles, (tokens, heads)).expect("forward");
    let given = AttentionGradient {
        qkv: qkv.view(),
        out: out.view(),
        dout: dout.view(),
        log_sum: log_sum.view(),
        tiles: &tiles,
        tokens,
        heads,
    };
    kernels.attention_backward(dqkv.view(), &given).expect("backward");
    let read = |array: &Array<D>| kernels.read(array.view()).expect("read");
    let (qkv, dout, out, dqkv) = (read(&qkv), read(&dout), read(&out), read(&dqkv));
    let tolerance = if precision == Precision::F32 { 3e-6 } else { 8e-3 };
    for pair in offsets.windows(2) {
        let (first, end) = (pair[0] as usize, pair[1] as usize);
        let part = heads.queries * width;
        let (want, dwant) = reference(
            &qkv[first * row..end * row],
            &dout[first * part..end * part],
            heads,
            width,
            end - first,
        );
        let off = distance(&out[first * part..end * part], &want);
        let doff = distance(&dqkv[first * row..end * row], &dwant);
        println!("{precision:?}, heads of {width}, {} tokens: {off:.1e}, gradient {doff:.1e}", end - first);
        assert!(off <= tolerance && doff <= tolerance, "{off} and {doff} for {} tokens", end - first);
    }
}

const GROUPED: HeadCounts = HeadCounts { queries: 4, keys: 2 };

#[test]
fn edges_of_tiles() {
    for precision in [Precision::F32, Precision::Bf16] {
        check(&Emulator::new, precision, 16, &[1, 2, 15, 16, 17, 63, 64, 65, 130], GROUPED);
    }
}

#[test]
fn widths_of_heads() {
    let heads = HeadCounts { queries: 3, keys: 1 };
    for width in [8, 24, 64, 96, 128] {
        for precision in [Precision::F32, Precision::Bf16] {
            check(&Emulator::new, precision, width, &[70, 33], heads);
        }
    }
}

/// The float product as a GPU computes it, through shuffles, instead of the emulator's own.
#[test]
fn shuffled_products() {
    let open = |precision, width| Emulator::with_flags(precision, width, &["-DSHUFFLED_MMA"]);
    check(&open, Precision::F32, 16, &[9, 66], HeadCounts { queries: 2, keys: 1 });
}
