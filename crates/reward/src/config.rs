//! The settings of the reward, as they stand in a recipe.

use crate::RewardError;
use serde::{Deserialize, Serialize};

/// The sum of one answer's negative spans never exceeds this share of ρ: working code with a flaw must stay
/// better than garbage, which costs ρ.
pub const NEGATIVE_CAP: f32 = 0.9;

/// The factors of the token-level reward
/// `r_t = g·Σ α w s − Σ β w s + 1[t = T]·(R − ρ f)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// α: what one unit of secure evidence earns.
    pub positive: f32,
    /// β: what one unit of vulnerable evidence costs.
    pub negative: f32,
    /// ρ: what a failed answer costs (empty, unparsable, truncated, a test failed, its purpose lost).
    pub failure: f32,
    /// Which tokens of a failed answer pay ρ.
    pub failure_placement: FailurePlacement,
    /// How a span's weight is shared among its tokens.
    pub normalisation: Normalisation,
    /// Where the rewards stand: on the tokens that earned them, or all on the last one.
    pub placement: Placement,
    /// ι: factor of the instance-level part R(y), which the last token gets: ι for a working answer without a finding, −ι times the
    /// findings' weights (at most 1) for one with any, and nothing for a failed answer without one.
    pub instance: f32,
    /// Whether secure evidence in a failed answer earns nothing (g). Unparsable code never earns anything.
    pub gate: bool,
    /// Whether analyzer findings count.
    pub findings: bool,
    /// Whether the patterns of other records of the same weakness count.
    pub related_patterns: bool,
}

impl Default for RewardConfig {
    /// α = β = 1 and ρ = 1.5, so that a whole vulnerable answer (−1) stays above a failed one (−1.5) uncapped.
    fn default() -> Self {
        Self {
            positive: 1.0,
            negative: 1.0,
            failure: 1.5,
            failure_placement: FailurePlacement::Last,
            normalisation: Normalisation::PerSpan,
            placement: Placement::Token,
            instance: 0.0,
            gate: true,
            findings: true,
            related_patterns: true,
        }
    }
}

impl RewardConfig {
    /// Checks that α, β, ρ and ι are finite and not negative.
    ///
    /// # Errors
    /// [`RewardError::Setting`] names the first one that is not.
    pub fn check(&self) -> Result<(), RewardError> {
        for (field, value) in [
            ("positive", self.positive),
            ("negative", self.negative),
            ("failure", self.failure),
            ("instance", self.instance),
        ] {
            if !value.is_finite() || value < 0.0 {
                return Err(RewardError::Setting { field, value });
            }
        }
        Ok(())
    }
}

/// s_e(t): how a piece of evidence rewards each of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Every token earns the whole weight: a long fix earns more than a short one.
    PerToken,
    /// The tokens share the weight equally.
    PerSpan,
}

/// Which tokens pay for a failed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailurePlacement {
    /// The last one.
    Last,
    /// Where an answer that does not parse breaks ([`vul2safe_code::breaks_at`]); the last one of every other failed answer, and under
    /// [`Placement::Last`].
    Break,
    /// As [`FailurePlacement::Break`], and those in which an answer that parses departs from every version of its record, in equal
    /// shares; the last one where it departs nowhere.
    Departures,
}

/// Where the rewards are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the tokens that carry the evidence.
    Token,
    /// The same total on the last token: the instance-sum arm, which isolates placement.
    Last,
}
