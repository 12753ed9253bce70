//! Muon: the momentum of a matrix, orthogonalised.

use vul2safe_model::{Parameter, matrix_product};

/// Steps of the Newton-Schulz iteration.
const STEPS: usize = 5;
/// Coefficients of its quintic: they drive singular values towards 1 (to about 0.7 … 1.2) in five steps, from as small as
/// a thousandth (Jordan et al. 2024, "Muon"; the defaults of `torch.optim.Muon`).
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Share of the old momentum in the new one, and of the momentum in Nesterov's look ahead (the same sources).
const MOMENTUM: f32 = 0.95;
/// The usual root mean square of an AdamW update; with it both take the same learning rates and decay (Liu et al. 2025,
/// "Muon is scalable for LLM training"; `adjust_lr_fn = "match_rms_adamw"` of `torch.optim.Muon`).
const MATCH: f32 = 0.2;
/// Added to the norm, so that a matrix of zeros can be divided by it.
const EPSILON: f64 = 1e-7;

/// Whether Muon is meant for a parameter: a matrix inside a layer. Embeddings and heads are tables of rows that are seen one at
/// a time, for which AdamW is the better rule (Jordan et al. 2024).
pub(super) fn takes(parameter: &Parameter) -> bool {
    parameter.rank() == 2 && parameter.name().contains(".layers.")
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// What clipping leaves of the gradient.
    pub scale: f32,
    /// What decay leaves of a weight.
    pub keep: f32,
    /// The learning rate.
    pub rate: f32,
}

impl Step {
    /// `m ← 0.95 m + 0.05 g`, then `p ← keep · p − rate · direction(0.95 m + 0.05 g)`.
    ///
    /// `values`, `gradient` and `momentum` are `shape[0] × shape[1]` numbers, row after row.
    pub fn apply(self, values: &mut [f32], gradient: &[f32], momentum: &mut [f32], shape: &[usize]) {
        let ahead: Vec<f32> = gradient
            .iter()
            .zip(momentum)
            .map(|(gradient, momentum)| {
                let fresh = (1.0 - MOMENTUM) * gradient * self.scale;
                *momentum = MOMENTUM * *momentum + fresh;
                MOMENTUM * *momentum + fresh
            })
            .collect();
        for (value, direction) in values.iter_mut().zip(direction(&ahead, shape[0], shape[1])) {
            *value = *value * self.keep - self.rate * direction;
        }
    }
}

/// `U Vᵀ` of the matrix's singular value decomposition, about, times what makes its root mean square that of AdamW's updates.
///
/// `matrix` is `rows × columns`, row after row; the result lies the same way. A matrix of zeros stays one. On the calling
/// thread: the matrices of a model are many and small, so that threads take one each.
fn direction(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    // The iteration multiplies the shorter side with itself.
    let turn = rows > columns;
    let (short, long) = if turn { (columns, rows) } else { (rows, columns) };
    let norm = matrix.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // No singular value is above Frobenius's norm, and the iteration needs them below 1.
    let scale = (1.0 / (norm + EPSILON)) as f32;
    let mut current = if turn { transposed(matrix, rows, columns) } else { matrix.to_vec() };
    current.iter_mut().for_each(|value| *value *= scale);
    let [a, b, c] = QUINTIC;
    for _ in 0..STEPS {
        let square = matrix_product([short, long, short], &current, &current, true);
        let mut mixed = matrix_product([short, short, short], &square, &square, false);
        for (mixed, square) in mixed.iter_mut().zip(&square) {
            *mixed = b * square + c * *mixed;
        }
        let moved = matrix_product([short, short, long], &mixed, &current, false);
        for (current, moved) in current.iter_mut().zip(&moved) {
            *current = a * *current + moved;
        }
    }
    let size = MATCH * (long as f32).sqrt();
    current.iter_mut().for_each(|value| *value *= size);
    if turn { transposed(&current, columns, rows) } else { current }
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the iteration makes of a single singular value.
    fn driven(mut value: f32) -> f32 {
        for _ in 0..STEPS {
            value = QUINTIC[0] * value + QUINTIC[1] * value.powi(3) + QUINTIC[2] * value.powi(5);
        }
        value
    }

    fn near(ours: &[f32], theirs: &[f32], tolerance: f32) {
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() <= tolerance, "{ours} is not {theirs}");
        }
    }

    #[test]
    fn each_singular_value_is_driven_alone() {
        // Rows at right angles: the singular values are their lengths, 3 and 4 (Frobenius 5), the directions the rows'.
        let matrix = [0.0, 3.0, 0.0, 4.0, 0.0, 0.0];
        let scale = MATCH * 3f32.sqrt();
        let expected = [0.0, driven(0.6) * scale, 0.0, driven(0.8) * scale, 0.0, 0.0];
        near(&direction(&matrix, 2, 3), &expected, 1e-5);
        let tall = direction(&transposed(&matrix, 2, 3), 3, 2);
        near(&tall, &transposed(&expected, 2, 3), 1e-5);
        assert!((0.6..1.25).contains(&driven(0.6)) && (0.6..1.25).contains(&driven(0.01)));
    }

    #[test]
    fn the_scale_of_a_gradient_does_not_matter_and_zeros_stay() {
        let matrix: Vec<f32> = (0..12).map(|place| ((place * 7 % 5) as f32 - 2.0) * 0.3).collect();
        let small: Vec<f32> = matrix.iter().map(|value| value * 1e-3).collect();
        near(&direction(&matrix, 3, 4), &direction(&small, 3, 4), 1e-3);
        assert!(direction(&[0.0; 12], 4, 3).iter().all(|value| *value == 0.0));
    }
}
