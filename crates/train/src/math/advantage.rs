//! Generalised advantage estimation on dense rewards (Schulman et al. 2016, equation 16).

/// Advantages and returns of one sequence, one value a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// `Â_t`; 0 at masked places.
    pub advantages: Vec<f32>,
    /// `Â_t + V(s_t)`, the target of the value head; 0 at masked places.
    pub returns: Vec<f32>,
}

/// Advantages of one sequence whose every token can carry a reward.
///
/// `δ_t = r_t + γ V(s_{t+1}) − V(s_t)` and `Â_t = δ_t + γ λ Â_{t+1}`, from the last token backwards; the state after the
/// last token has the value 0, since an answer ends there. `mask` says which places count (`None`: all of them). A masked
/// place is skipped: the token before it continues with the token after it, as in veRL's `compute_gae_advantage_return`.
///
/// `rewards`, `values` and `mask` have one entry a token; the shortest of them bounds the result.
pub fn gae(rewards: &[f32], values: &[f32], mask: Option<&[bool]>, gamma: f64, lambda: f64) -> Advantages {
    let length = rewards.len().min(values.len()).min(mask.map_or(usize::MAX, <[bool]>::len));
    let mut advantages = vec![0.0; length];
    let mut returns = vec![0.0; length];
    let (mut next_value, mut next_advantage) = (0.0f64, 0.0f64);
    for place in (0..length).rev() {
        if mask.is_some_and(|mask| !mask[place]) {
            continue;
        }
        let value = f64::from(values[place]);
        let delta = f64::from(rewards[place]) + gamma * next_value - value;
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = value;
        advantages[place] = next_advantage as f32;
        returns[place] = (next_advantage + value) as f32;
    }
    Advantages { advantages, returns }
}
