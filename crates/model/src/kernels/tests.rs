//! Each kernel against the plainest way to write it, with every vector type that this processor has.

use super::attention::{self, Heads, Saved};
use super::cache::{Attend, Push, Segment, View};
use super::decoding::{Disjoint, Multiply, Start, WeightRows, panels, round_to_bfloat16, round_to_bytes};
use super::matmul::{Product, Strided};
use super::operand::{Operand, weight_gradient};
use super::rows::{
    Exponentials, LogSumExp, Norm, NormBackward, Rotary, ScoreBackward, SwiGlu, SwiGluBackward,
};
use super::simd::{Kernel, Level, Plain, dispatch, level};

/// Numbers without a pattern, within ±1.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn close(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "at {index}: {got}, expected {want}");
    }
}

/// Runs a freshly built kernel with plain arrays and with every vector type that this processor has.
macro_rules! everywhere {
    ($kernel:expr, $check:expr) => {{
        // SAFETY: plain arrays need no processor feature.
        unsafe { $kernel.run::<Plain>() };
        $check;
        #[cfg(target_arch = "x86_64")]
        if level() != Level::Plain {
            // SAFETY: AVX2 and FMA were found; processors with AVX-512 have both.
            unsafe { $kernel.run::<super::simd::Avx2>() };
            $check;
        }
        dispatch($kernel);
        $check;
    }};
}

#[test]
fn products_of_every_size_agree_with_three_loops() {
    for (m, n, k) in [(1, 1, 1), (3, 5, 7), (8, 48, 16), (13, 50, 9), (33, 97, 20), (2, 16, 64)] {
        let (a, b) = (noise(1, m * k), noise(2, k * n));
        let start = noise(3, m * n);
        for accumulate in [false, true] {
            let mut want = if accumulate { start.clone() } else { vec![0.0; m * n] };
            for row in 0..m {
                for column in 0..n {
                    want[row * n + column] +=
                        (0..k).map(|at| a[row * k + at] * b[at * n + column]).sum::<f32>();
                }
            }
            let mut got;
            everywhere!(
                {
                    got = start.clone();
                    let a = Strided::rows(&a, k);
                    Product { m, n, k, a, b: &b, b_row: n, out: &mut got, out_row: n, accumulate }
                },
                close(&got, &want, 1e-5)
            );
        }
    }
}

/// `rows` rows of `x` with a weight of `n` outputs, computed together, in the columns from 2 of rows of n + 3.
fn decoded(x: &[f32], weight: WeightRows<'_>, n: usize, k: usize, start: Start<'_>, out: &mut [f32]) {
    dispatch(Multiply { x, inputs: k, weight, start, out: Disjoint::new(out), out_row: n + 3, at: 2 });
}

#[test]
fn a_decoding_product_agrees_with_three_loops_in_every_precision() {
    for (rows, n, k) in
        [(1, 1, 1), (1, 17, 40), (2, 9, 16), (3, 8, 31), (7, 13, 64), (23, 30, 100), (70, 101, 20)]
    {
        let (weight, x, bias) = (noise(4, n * k), noise(5, rows * k), noise(6, n));
        let halves = round_to_bfloat16(&weight);
        let in_panels = panels(&weight, k);
        assert!(halves.iter().zip(&weight).all(|(half, &value)| *half == half::bf16::from_f32(value)));
        let mut bytes = Vec::new();
        let scales: Vec<f32> = weight.chunks(k).map(|row| round_to_bytes(row, &mut bytes)).collect();
        let widened: Vec<f32> = halves.iter().map(|value| value.to_f32()).collect();
        let stepped: Vec<f32> =
            bytes.iter().enumerate().map(|(at, &byte)| f32::from(byte) * scales[at / k]).collect();
        for (kind, exact, bound) in [
            (WeightRows::Float32(&weight), &weight, 0.0),
            (WeightRows::Panels(&in_panels, n), &weight, 0.0),
            (WeightRows::Bfloat16(&halves), &widened, 1.0 / 256.0),
            (WeightRows::Int8(&bytes, &scales), &stepped, 0.5 / 127.0),
        ] {
            // A rounded number lies within half a step of the number itself.
            for (rounded, value) in exact.iter().zip(&weight) {
                assert!((rounded - value).abs() <= bound + 1e-7, "{rounded} for {value}");
            }
            for start in [Start::Zero, Start::Bias(&bias), Start::Output] {
                let before = noise(7, rows * (n + 3));
                let mut want = before.clone();
                for row in 0..rows {
                    for column in 0..n {
                        let sum: f32 = (0..k).map(|at| x[row * k + at] * exact[column * k + at]).sum();
                        let target = &mut want[row * (n + 3) + 2 + column];
                        *target = sum
                            + match start {
                                Start::Zero => 0.0,
                                Start::Bias(bias) => bias[column],
                                Start::Output => *target,
                            };
                    }
                }
                let mut got;
                everywhere!(
                    {
                        got = before.clone();
                        Multiply {
                            x: &x,
                            inputs: k,
                            weight: kind,
                            start,
                            out: Disjoint::new(&mut got),
                            out_row: n + 3,
                            at: 2,
                        }
                    },
                    close(&got, &want, 1e-5)
                );
            }
        }
    }
}

#[test]
fn a_decoding_product_gives_each_row_the_same_bits_whatever_stands_beside_it() {
    let (n, k, rows) = (101, 37, 19);
    let (weight, x) = (noise(4, n * k), noise(5, rows * k));
    let mut together = vec![0.0; rows * (n + 3)];
    decoded(&x, WeightRows::Float32(&weight), n, k, Start::Zero, &mut together);
    for row in 0..rows {
        for count in 1..=rows - row {
            let mut some = vec![0.0; count * (n + 3)];
            let x = &x[row * k..(row + count) * k];
            decoded(x, WeightRows::Float32(&weight), n, k, Start::Zero, &mut some);
            assert_eq!(some, together[row * (n + 3)..(row + count) * (n + 3)]);
        }
        // The outputs in two pieces, as two threads compute them.
        let mut pieces = vec![0.0; n + 3];
        let out = Disjoint::new(&mut pieces);
        for (first, last) in [(0, 40), (40, n)] {
            dispatch(Multiply {
                x: &x[row * k..(row + 1) * k],
                inputs: k,
                weight: WeightRows::Float32(&weight[first * k..last * k]),
                start: Start::Zero,
                out,
                out_row: n + 3,
                at: 2 + first,
            });
        }
        assert_eq!(pieces, together[row * (n + 3)..(row + 1) * (n + 3)]);
    }
}

/// Attention of one query after another, all scores in one list.
fn plain_attention(qkv: &[f32], offsets: &[u32], heads: Heads) -> Vec<f32> {
    let (row, width) = (heads.row(), heads.width);
    let tokens = qkv.len() / row;
    let mut out = vec![0.0; tokens * heads.out()];
    for pair in offsets.windows(2) {
        for query in pair[0] as usize..pair[1] as usize {
            for head in 0..heads.query {
                let key_head = heads.query + head / (heads.query / heads.key);
                let at = |token: usize, head: usize| &qkv[token * row + head * width..][..width];
                let scores: Vec<f64> = (pair[0] as usize..=query)
                    .map(|key| {
                        let sum: f64 = at(query, head)
                            .iter()
                            .zip(at(key, key_head))
                            .map(|(a, b)| f64::from(a * b))
                            .sum();
                        (sum / (width as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for (score, key) in scores.iter().zip(pair[0] as usize..) {
                    for (d, value) in at(key, key_head + heads.key).iter().enumerate() {
                        out[query * heads.out() + head * width + d] +=
                            (score / total * f64::from(*value)) as f32;
                    }
                }
            }
        }
    }
    out
}

const HEADS: Heads = Heads { query: 4, key: 2, width: 6 };

#[test]
fn blocked_attention_agrees_with_plain_attention() {
    // Lengths around the block sizes of 32 queries and 96 keys, and an empty sequence.
    let offsets = [0, 1, 34, 34, 131, 330];
    let tokens = 330;
    let qkv = noise(6, tokens * HEADS.row());
    let (mut out, mut log_sum_exp) = (vec![0.0; tokens * HEADS.out()], vec![0.0; tokens * HEADS.query]);
    attention::forward(&qkv, &offsets, HEADS, &mut out, &mut log_sum_exp);
    let want = plain_attention(&qkv, &offsets, HEADS);
    close(&out, &want, 1e-5);
    // The cached form: first some positions that several sequences may share, then the rest, some rows at a time.
    let rotary = Rotary::new(1, &[1.0; HEADS.width / 2], 1.0);
    for (start, end) in offsets.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize)) {
        let length = end - start;
        for (shared, rows) in
            [(0, 1), (0, 7), (length / 2, 1), (length.saturating_sub(1), 1), (length / 3, 5)]
        {
            let mut segments = [Segment::default(), Segment::default()];
            let mut at = 0;
            while at < length {
                let part = usize::from(at >= shared && shared > 0);
                let count = rows.min(if at < shared { shared - at } else { length - at });
                let mut taken = qkv[(start + at) * HEADS.row()..(start + at + count) * HEADS.row()].to_vec();
                // At position 0 nothing turns, so that the numbers stay those of the other form.
                for row in taken.chunks_mut(HEADS.row()) {
                    Push {
                        heads: HEADS,
                        rotary: &rotary,
                        query_norm: None,
                        key_norm: None,
                        epsilon: 0.0,
                        qkv: row,
                        position: 0,
                        segment: &mut segments[part],
                    }
                    .compute();
                }
                let [first, second] = &segments;
                let views: Vec<View<'_>> = (0..count)
                    .map(|row| View {
                        prefix: (part == 1).then_some(first),
                        tail: if part == 1 { second } else { first },
                        visible: at + row + 1,
                    })
                    .collect();
                let mut got = vec![0.0; count * HEADS.out()];
                for head in 0..HEADS.key {
                    dispatch(Attend {
                        heads: HEADS,
                        head,
                        qkv: &taken,
                        views: &views,
                        together: true,
                        out: Disjoint::new(&mut got),
                        first: 0,
                    });
                }
                close(&got, &want[(start + at) * HEADS.out()..(start + at + count) * HEADS.out()], 1e-5);
                at += count;
            }
        }
    }
}

/// Central differences of Σ weights·f(x) at some places against a gradient.
fn differences(x: &[f32], weights: &[f32], gradient: &[f32], stride: usize, f: impl Fn(&[f32]) -> Vec<f32>) {
    let objective = |x: &[f32]| {
        f(x).iter().zip(weights).map(|(value, weight)| f64::from(*value) * f64::from(*weight)).sum::<f64>()
    };
    let step = 2e-2;
    for at in (0..x.len()).step_by(stride) {
        let mut moved = x.to_vec();
        moved[at] = x[at] + step;
        let above = objective(&moved);
        moved[at] = x[at] - step;
        let below = objective(&moved);
        let want = ((above - below) / (2.0 * f64::from(step))) as f32;
        let got = gradient[at];
        assert!((got - want).abs() <= 2e-3 + 1e-2 * want.abs(), "at {at}: {got}, by differences {want}");
    }
}

#[test]
fn attention_gradient_agrees_with_differences() {
    // The last sequence is long enough for two parts.
    let offsets = [0, 5, 40, 40, 320];
    let tokens = 320;
    let qkv = noise(7, tokens * HEADS.row());
    let forward = |qkv: &[f32]| {
        let (mut out, mut log_sum_exp) = (vec![0.0; tokens * HEADS.out()], vec![0.0; tokens * HEADS.query]);
        attention::forward(qkv, &offsets, HEADS, &mut out, &mut log_sum_exp);
        (out, log_sum_exp)
    };
    let (out, log_sum_exp) = forward(&qkv);
    let dout = noise(8, out.len());
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut dqkv = vec![0.0; qkv.len()];
        let saved = Saved { qkv: &qkv, out: &out, log_sum_exp: &log_sum_exp };
        pool.install(|| attention::backward(saved, &dout, &offsets, HEADS, &mut dqkv));
        dqkv
    };
    let dqkv = of(1);
    assert_eq!(dqkv, of(16), "the number of threads changes the gradient");
    differences(&qkv, &dout, &dqkv, 61, |qkv| plain_attention(qkv, &offsets, HEADS));
}

#[test]
fn norm_gradient_agrees_with_differences() {
    let (width, rows, epsilon) = (21, 5, 1e-6);
    let (x, weight, dy) = (noise(9, width * rows), noise(10, width), noise(11, width * rows));
    let forward = |x: &[f32], weight: &[f32]| {
        let mut out = vec![0.0; x.len()];
        dispatch(Norm { x, weight, epsilon, out: &mut out });
        out
    };
    let want: Vec<f32> = x
        .chunks(width)
        .flat_map(|row| {
            let mean = row.iter().map(|value| value * value).sum::<f32>() / width as f32;
            let weight = &weight;
            row.iter()
                .enumerate()
                .map(move |(at, value)| value / (mean + epsilon).sqrt() * weight[at])
                .collect::<Vec<_>>()
        })
        .collect();
    close(&forward(&x, &weight), &want, 1e-5);
    let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; width]);
    dispatch(NormBackward { x: &x, weight: &weight, epsilon, dy: &dy, dx: &mut dx, dweight: &mut dweight });
    differences(&x, &dy, &dx, 1, |x| forward(x, &weight));
    differences(&weight, &dy, &dweight, 1, |weight| forward(&x, weight));
}

#[test]
fn swiglu_gradient_agrees_with_differences() {
    let (width, rows) = (19, 3);
    let x: Vec<f32> = noise(12, 2 * width * rows).iter().map(|value| value * 3.0).collect();
    let dout = noise(13, width * rows);
    let forward = |gate_up: &[f32]| {
        let mut out = vec![0.0; width * rows];
        dispatch(SwiGlu { gate_up, width, out: &mut out });
        out
    };
    let (mut out, mut dgate_up) = (vec![0.0; width * rows], x.clone());
    dispatch(SwiGluBackward { gate_up: &mut dgate_up, width, dout: &dout, out: &mut out });
    close(&out, &forward(&x), 1e-6);
    let silu = x[0] / (1.0 + (-x[0]).exp()) * x[width];
    assert!((out[0] - silu).abs() < 1e-5);
    differences(&x, &dout, &dgate_up, 1, forward);
}

#[test]
fn score_gradient_agrees_with_differences() {
    let (length, target, scale) = (37, 5, 1.0 / 0.7);
    let logits: Vec<f32> = noise(14, length).iter().map(|value| value * 4.0).collect();
    let score = |logits: &[f32]| {
        let row: Vec<f32> = logits.iter().map(|value| value * scale).collect();
        let (log_sum_exp, mean) = dispatch(LogSumExp { row: &row });
        vec![row[target] - log_sum_exp, log_sum_exp - mean]
    };
    let plain: f64 = logits.iter().map(|value| f64::from(value * scale).exp()).sum::<f64>().ln();
    assert!((f64::from(score(&logits)[0]) - (f64::from(logits[target] * scale) - plain)).abs() < 1e-5);
    let mut row: Vec<f32> = logits.iter().map(|value| value * scale).collect();
    let (log_sum_exp, mean) = dispatch(LogSumExp { row: &row });
    dispatch(ScoreBackward {
        row: &mut row,
        log_sum_exp,
        entropy: log_sum_exp - mean,
        target,
        d_log_prob: 0.8,
        d_entropy: -1.3,
        scale,
    });
    differences(&logits, &[0.8, -1.3], &row, 1, score);
}

#[test]
fn turning_forth_and_back_changes_nothing_and_keeps_lengths() {
    let rotary = Rotary::new(50, &[1.0, 0.1, 0.01, 0.001], 1.0);
    let row = noise(15, 24);
    let mut turned = row.clone();
    rotary.turn(&mut turned, 3, 49, 1.0);
    assert!(turned.iter().zip(&row).any(|(a, b)| (a - b).abs() > 0.1));
    let length = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>();
    assert!((length(&turned) - length(&row)).abs() < 1e-4);
    rotary.turn(&mut turned, 3, 49, -1.0);
    close(&turned, &row, 1e-5);
}

#[test]
fn the_exponential_is_accurate_over_its_whole_range() {
    let x: Vec<f32> = (-8700..=8800).map(|at| at as f32 / 100.0).collect();
    let mut line;
    everywhere!(
        {
            line = x.clone();
            Exponentials { line: &mut line, scale: 1.0, shift: 0.0 }
        },
        for (got, x) in line.iter().zip(&x) {
            let want = f64::from(*x).exp();
            assert!((f64::from(*got) - want).abs() <= 4e-7 * want, "e^{x} = {got}, expected {want}");
        }
    );
}

/// Three loops in f64.
fn plain_product(m: usize, n: usize, k: usize, a: Strided<'_>, b: Strided<'_>, start: &[f32]) -> Vec<f32> {
    let at = |matrix: Strided<'_>, row: usize, column: usize| {
        f64::from(matrix.data[row * matrix.row + column * matrix.column])
    };
    (0..m * n)
        .map(|place| {
            let (row, column) = (place / n, place % n);
            let sum: f64 = (0..k).map(|index| at(a, row, index) * at(b, index, column)).sum();
            (f64::from(start[place]) + sum) as f32
        })
        .collect()
}

#[test]
fn products_with_a_laid_out_operand_agree_with_three_loops() {
    for (m, n, k) in
        [(1, 1, 1), (3, 5, 7), (8, 48, 16), (13, 50, 9), (33, 97, 20), (70, 120, 1030), (9, 16, 512)]
    {
        let (a, b, start) = (noise(1, m * k), noise(2, k * n), noise(3, m * n));
        let zeros = vec![0.0; m * n];
        for a in [Strided::rows(&a, k), Strided::rows(&a, m).transposed()] {
            for b in [Strided::rows(&b, n), Strided::rows(&b, k).transposed()] {
                for accumulate in [false, true] {
                    let want = plain_product(m, n, k, a, b, if accumulate { &start } else { &zeros });
                    let operand = Operand::new(k, n, b);
                    let mut got;
                    everywhere!(
                        {
                            got = start.clone();
                            operand.rows(m, a, &mut got, n, accumulate)
                        },
                        close(&got, &want, 1e-4)
                    );
                }
            }
        }
    }
}

#[test]
fn a_weight_gradient_is_the_same_on_any_number_of_threads() {
    let (tokens, n, k) = (530, 203, 70);
    let (dy, x, start) = (noise(4, tokens * n), noise(5, tokens * k), noise(6, n * k));
    let dy = Strided::rows(&dy, n);
    let want = plain_product(n, k, tokens, dy.transposed(), Strided::rows(&x, k), &start);
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut out = start.clone();
        pool.install(|| weight_gradient(tokens, &mut out, k, dy, Strided::rows(&x, k), true));
        out
    };
    let alone = of(1);
    close(&alone, &want, 2e-5);
    assert_eq!(alone, of(3));
    assert_eq!(alone, of(16));
}
