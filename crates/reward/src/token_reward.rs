//! Evidence and an outcome become one reward a token, with reasons: the formula, and nothing else.

use crate::config::{FailurePlacement, NEGATIVE_CAP, Normalisation, Placement, RewardConfig};
use crate::evidence::{Evidence, Origin, Sign};
use crate::{Cheat, RewardError};
use serde::{Deserialize, Serialize};
use vul2safe_code::Span;

/// An answer whose evidence is to be turned into rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer<'a> {
    /// Byte range of each response token in `text`, in reading order. A token without bytes (end of text) has
    /// an empty range.
    pub tokens: &'a [(usize, usize)],
    /// The text the ranges and the evidence point into.
    pub text: &'a str,
    /// What is known of the answer as a whole.
    pub outcome: Outcome,
    /// Where a failed answer fails, in reading order (see [`FailurePlacement`]); empty where that is not known or not asked for.
    pub failed_at: &'a [Span],
}

/// What is known of an answer as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether the answer is code without a syntax error.
    pub parses: bool,
    /// Whether generation stopped at the length limit.
    pub truncated: bool,
    /// Whether the answer holds no code.
    pub empty: bool,
    /// Whether the functional tests passed; `None` where there are none or they could not be run.
    pub functional: Option<bool>,
    /// Where there are no tests: whether parameters are used and calls and returns are kept.
    pub intent_kept: Option<bool>,
    /// R(y): the instance-level part.
    pub instance: f32,
}

impl Outcome {
    /// A complete, parsable answer of which nothing else is known.
    pub fn unjudged() -> Self {
        Self {
            parses: true,
            truncated: false,
            empty: false,
            functional: None,
            intent_kept: None,
            instance: 0.0,
        }
    }

    /// Why the answer counts as failed (f = 1); `None` when it does not (f = 0).
    pub fn failure(&self) -> Option<&'static str> {
        if self.empty {
            Some("the answer is empty")
        } else if self.truncated {
            Some("the answer is cut off at the length limit")
        } else if !self.parses {
            Some("the answer does not parse")
        } else if self.functional == Some(false) {
            Some("a functional test fails")
        } else if self.intent_kept == Some(false) {
            Some("parameters, calls or returns of the function are lost")
        } else {
            None
        }
    }
}

/// An answer with its rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// One reward for each response token.
    pub rewards: Vec<f32>,
    /// Why, for each response token; empty where the token's reward is 0 for want of evidence.
    pub reasons: Vec<Vec<String>>,
    /// The evidence the rewards are made of.
    pub evidence: Vec<Evidence>,
    /// Sum of the rewards, the same for both placements.
    pub total: f32,
    /// f(y).
    pub failed: bool,
    /// What each piece of evidence earned or cost in all, in the order of `evidence`.
    pub paid: Vec<f32>,
    /// What is known of the answer as a whole, with what its text showed.
    pub outcome: Outcome,
    /// The known ways to cheat that it shows.
    pub cheats: Vec<Cheat>,
    /// Where a failed answer fails, where that is known and was asked for.
    #[serde(default)]
    pub failed_at: Vec<Span>,
}

impl Default for Scored {
    /// An answer without tokens, evidence or failure.
    fn default() -> Self {
        Self {
            rewards: Vec::new(),
            reasons: Vec::new(),
            evidence: Vec::new(),
            total: 0.0,
            failed: false,
            paid: Vec::new(),
            outcome: Outcome::unjudged(),
            cheats: Vec::new(),
            failed_at: Vec::new(),
        }
    }
}

/// A score, or why there is none. What is unscored is never 0 and never "secure".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// The rewards.
    Scored(Scored),
    /// The score could not be computed.
    Unscored {
        /// Why.
        why: String,
    },
}

/// Share of the answers in which any evidence was found; 0 for no answers.
///
/// Training on token rewards learns nothing from an answer without evidence, so this figure belongs into the
/// metrics of every update.
pub fn share_with_evidence(scored: &[Scored]) -> f32 {
    if scored.is_empty() {
        return 0.0;
    }
    scored.iter().filter(|answer| !answer.evidence.is_empty()).count() as f32 / scored.len() as f32
}

/// The token-level reward without its KL term, which belongs to training:
/// `r_t = g·Σ α w s − Σ β w s + 1[t = T]·(R − ρ f)`.
///
/// * A token that overlaps a span, even partly, counts as in it. A token in spans of both signs is given to the
///   negative one, and the positive span's weight is shared among its other tokens: no token is paid both ways.
/// * `g` is 0 for a failed answer (with `gate` off: only for one that does not parse).
/// * The negative spans of one answer cost at most [`NEGATIVE_CAP`]·ρ together (no cap where ρ is 0).
/// * Evidence of an origin that `config` switches off is left out.
/// * Unless [`RewardConfig::failure_placement`] is the last token, its −ρ is shared among the tokens of [`Answer::failed_at`] instead.
///
/// # Errors
/// Evidence that covers no token, token ranges outside the text or out of order, an answer without tokens, and
/// numbers that are not finite: such an answer must stay unscored.
pub fn token_rewards(
    answer: &Answer<'_>,
    evidence: &[Evidence],
    config: &RewardConfig,
) -> Result<Scored, RewardError> {
    config.check()?;
    check_tokens(answer)?;
    let outcome = &answer.outcome;
    if !outcome.instance.is_finite() {
        return Err(RewardError::Instance(outcome.instance));
    }
    let evidence: Vec<Evidence> =
        evidence.iter().filter(|item| is_asked_for(item, config)).cloned().collect();
    let mut covered = Vec::with_capacity(evidence.len());
    for item in &evidence {
        covered.push(tokens_of(answer, item)?);
    }

    let mut in_negative = vec![false; answer.tokens.len()];
    for (item, tokens) in evidence.iter().zip(&covered) {
        if item.sign == Sign::Negative {
            tokens.iter().for_each(|&token| in_negative[token] = true);
        }
    }
    for (item, tokens) in evidence.iter().zip(&mut covered) {
        if item.sign == Sign::Positive {
            tokens.retain(|&token| !in_negative[token]);
        }
    }

    let failure = outcome.failure();
    let paid = outcome.parses && !(config.gate && failure.is_some());
    // How much of a span's weight all its tokens receive together, before α or β.
    let share = |tokens: &[usize]| match config.normalisation {
        Normalisation::PerSpan => f64::from(u8::from(!tokens.is_empty())),
        Normalisation::PerToken => tokens.len() as f64,
    };
    let negative_sum: f64 = evidence
        .iter()
        .zip(&covered)
        .filter(|(item, _)| item.sign == Sign::Negative)
        .map(|(item, tokens)| f64::from(config.negative) * f64::from(item.weight) * share(tokens))
        .sum();
    let cap = f64::from(NEGATIVE_CAP) * f64::from(config.failure);
    let negative_scale = if config.failure > 0.0 && negative_sum > cap { cap / negative_sum } else { 1.0 };

    let count = answer.tokens.len();
    let mut rewards = vec![0.0f64; count];
    let mut reasons = vec![Vec::new(); count];
    let mut total = 0.0f64;
    let mut paid_each = Vec::with_capacity(evidence.len());
    for (item, tokens) in evidence.iter().zip(&covered) {
        let factor = match item.sign {
            Sign::Positive if paid => f64::from(config.positive),
            Sign::Positive => 0.0,
            Sign::Negative => -f64::from(config.negative) * negative_scale,
        };
        let whole = factor * f64::from(item.weight) * share(tokens);
        total += whole;
        paid_each.push(whole as f32);
        let comment = match item.sign {
            Sign::Positive if tokens.is_empty() => ", not paid: its tokens are part of vulnerable code",
            Sign::Positive if !paid => ", not paid: the answer fails",
            Sign::Negative if negative_scale < 1.0 => ", capped below the cost of a failed answer",
            _ => "",
        };
        let sentence = |value: f64| format!("{} {}: {}{comment}", signed(value), title(item), item.reason);
        match config.placement {
            Placement::Last => {
                rewards[count - 1] += whole;
                reasons[count - 1].push(sentence(whole));
            }
            Placement::Token if tokens.is_empty() => reasons[count - 1].push(sentence(0.0)),
            Placement::Token => {
                let each = whole / tokens.len() as f64;
                for &token in tokens {
                    rewards[token] += each;
                    reasons[token].push(sentence(each));
                }
            }
        }
    }

    if outcome.instance != 0.0 {
        let value = f64::from(outcome.instance);
        rewards[count - 1] += value;
        total += value;
        reasons[count - 1].push(format!("{} instance-level reward of the whole answer", signed(value)));
    }
    if let Some(why) = failure {
        let value = -f64::from(config.failure);
        total += value;
        let mut places = Vec::new();
        if config.failure_placement != FailurePlacement::Last && config.placement == Placement::Token {
            places = tokens_in(answer.tokens, answer.failed_at);
        }
        let here = match places.is_empty() {
            true => "",
            false if outcome.parses => ", and no version of the record has this here",
            false => ", and this is where it breaks",
        };
        if places.is_empty() {
            places.push(count - 1);
        }
        let each = value / places.len() as f64;
        for token in places {
            rewards[token] += each;
            reasons[token].push(format!("{} failed answer: {why}{here}", signed(each)));
        }
    }
    Ok(Scored {
        rewards: rewards.into_iter().map(|reward| reward as f32).collect(),
        reasons,
        evidence,
        total: total as f32,
        failed: failure.is_some(),
        paid: paid_each,
        outcome: answer.outcome,
        cheats: Vec::new(),
        failed_at: answer.failed_at.to_vec(),
    })
}

fn check_tokens(answer: &Answer<'_>) -> Result<(), RewardError> {
    if answer.tokens.is_empty() {
        return Err(RewardError::NoTokens);
    }
    let length = answer.text.len();
    let mut previous = 0;
    for (index, &(start, end)) in answer.tokens.iter().enumerate() {
        if start > end || end > length || start < previous {
            return Err(RewardError::Token { index, start, end, length });
        }
        previous = start;
    }
    Ok(())
}

fn is_asked_for(item: &Evidence, config: &RewardConfig) -> bool {
    match item.origin {
        Origin::Finding => config.findings,
        Origin::Related => config.related_patterns,
        Origin::Record | Origin::Quote => true,
    }
}

/// The tokens that overlap any of `spans`, by index; spans that cover no token are passed over.
fn tokens_in(tokens: &[(usize, usize)], spans: &[Span]) -> Vec<usize> {
    let overlaps = |&(start, end): &(usize, usize)| {
        start < end && spans.iter().any(|span| start < span.end && end > span.start)
    };
    (0..tokens.len()).filter(|&token| overlaps(&tokens[token])).collect()
}

/// The tokens that overlap the evidence's span, by index.
fn tokens_of(answer: &Answer<'_>, item: &Evidence) -> Result<Vec<usize>, RewardError> {
    let span = item.span;
    if !item.weight.is_finite() || item.weight < 0.0 {
        return Err(RewardError::Weight { span, reason: item.reason.clone(), weight: item.weight });
    }
    // Starts are in order, so no token after the first that starts behind the span can touch it.
    let behind = answer.tokens.partition_point(|&(start, _)| start < span.end);
    let tokens: Vec<usize> = (0..behind)
        .filter(|&token| {
            let (start, end) = answer.tokens[token];
            start < end && end > span.start
        })
        .collect();
    if span.start >= span.end || span.end > answer.text.len() || tokens.is_empty() {
        return Err(RewardError::EvidenceWithoutToken { span, reason: item.reason.clone() });
    }
    Ok(tokens)
}

fn title(item: &Evidence) -> &'static str {
    match (item.origin, item.sign) {
        (Origin::Record, Sign::Positive) => "secure pattern",
        (Origin::Record, Sign::Negative) => "vulnerable pattern",
        (Origin::Related, Sign::Positive) => "related secure pattern",
        (Origin::Related, Sign::Negative) => "related vulnerable pattern",
        (Origin::Finding, _) => "finding",
        (Origin::Quote, Sign::Positive) => "quoted as secure",
        (Origin::Quote, Sign::Negative) => "quoted as vulnerable",
    }
}

/// Two decimals, and more where two would show nothing of a value that is not 0.
fn signed(value: f64) -> String {
    if value == 0.0 {
        "+0.00".to_string()
    } else if value.abs() < 0.01 {
        format!("{value:+.4}")
    } else {
        format!("{value:+.2}")
    }
}

#[cfg(test)]
mod tests;
