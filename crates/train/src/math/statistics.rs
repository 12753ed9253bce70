//! Means, whitening and explained variance over masked slices.

/// Mean over the places that count; `None` if there are none.
pub fn masked_mean(values: &[f32], mask: &[bool]) -> Option<f64> {
    let (sum, count) = values
        .iter()
        .zip(mask)
        .filter(|(_, counts)| **counts)
        .fold((0.0f64, 0usize), |(sum, count), (value, _)| (sum + f64::from(*value), count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Scales the places that count to unit variance and, with `shift_mean`, mean 0; masked places become 0.
///
/// The variance is the unbiased one, and 1e-8 is added to it before the root. Source: veRL 0.9.1
/// `torch_functional.masked_whiten`. With fewer than two places there is no variance: they are only shifted.
pub fn masked_whiten(values: &[f32], mask: &[bool], shift_mean: bool) -> Vec<f32> {
    let Some(mean) = masked_mean(values, mask) else { return vec![0.0; values.len()] };
    let count = mask.iter().zip(values).filter(|(counts, _)| **counts).count();
    let scale = if count < 2 {
        1.0
    } else {
        let squares: f64 = values
            .iter()
            .zip(mask)
            .filter(|(_, counts)| **counts)
            .map(|(value, _)| (f64::from(*value) - mean).powi(2))
            .sum();
        1.0 / (squares / (count - 1) as f64 + 1e-8).sqrt()
    };
    let offset = if shift_mean { 0.0 } else { mean };
    values
        .iter()
        .zip(mask)
        .map(
            |(value, counts)| {
                if *counts { ((f64::from(*value) - mean) * scale + offset) as f32 } else { 0.0 }
            },
        )
        .collect()
}

/// `1 − Var(returns − values) / Var(returns)`: 1 is a perfect value head, 0 one that knows only the mean.
///
/// `None` where the returns do not vary (then nothing can be explained) or there are fewer than two.
pub fn explained_variance(values: &[f32], returns: &[f32]) -> Option<f64> {
    let variance = |items: &[f64]| {
        let mean = items.iter().sum::<f64>() / items.len() as f64;
        items.iter().map(|item| (item - mean).powi(2)).sum::<f64>() / items.len() as f64
    };
    if returns.len() < 2 || values.len() != returns.len() {
        return None;
    }
    let targets: Vec<f64> = returns.iter().map(|value| f64::from(*value)).collect();
    let errors: Vec<f64> =
        returns.iter().zip(values).map(|(target, value)| f64::from(*target) - f64::from(*value)).collect();
    let total = variance(&targets);
    (total > 1e-12).then(|| 1.0 - variance(&errors) / total)
}
