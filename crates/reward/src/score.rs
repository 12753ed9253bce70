//! One answer from text to rewards.

use crate::cheats;
use crate::find::{Found, find};
use crate::{
    Answer, FailurePlacement, Finding, Outcome, Patterns, RewardConfig, Score, Scored, token_rewards,
};
use vul2safe_code::{Language, Parsed};

/// Parses an answer, finds its evidence and gives each token its reward.
///
/// `text` is the answer's code, and `tokens` point into it: where code was taken out of a fenced block the
/// caller shifts the ranges, and tokens outside the code get empty ranges. `outcome` says what a judge knows;
/// what the text itself shows is added: an answer that does not parse cleanly or holds no code counts as such
/// whatever `outcome` says, and where there is neither a test result nor a statement on its intent, the answer
/// is compared with both sides of the pair ([`Patterns::intent_kept`]).
///
/// An answer whose reward cannot be computed is [`Score::Unscored`], with the reason.
pub fn score_answer(
    text: &str,
    language: Language,
    tokens: &[(usize, usize)],
    patterns: &Patterns,
    findings: &[Finding],
    outcome: Outcome,
    config: &RewardConfig,
) -> Score {
    let parsed = patterns.parse_answer(language, text).ok();
    score_parsed(text, parsed.as_ref(), tokens, patterns, findings, outcome, config)
}

/// As [`score_answer`], of a text that was parsed before: by [`Patterns::parse_answer`], with nothing where that failed.
pub fn score_parsed(
    text: &str,
    parsed: Option<&Parsed>,
    tokens: &[(usize, usize)],
    patterns: &Patterns,
    findings: &[Finding],
    outcome: Outcome,
    config: &RewardConfig,
) -> Score {
    let mut outcome = outcome;
    let mut departures = Vec::new();
    outcome.empty |= text.trim().is_empty();
    let found = match parsed {
        Some(parsed) => {
            outcome.parses &= parsed.is_clean();
            outcome.empty |= parsed.leaves().is_empty();
            let asked = outcome.functional.is_none() && outcome.intent_kept.is_none();
            if asked && outcome.failure().is_none() {
                outcome.intent_kept = Some(patterns.intent_kept(parsed));
            }
            // Of what is no code, or not all of it, the form is the failure.
            let readable = outcome.parses && !outcome.empty && !outcome.truncated;
            if config.failure_placement == FailurePlacement::Departures
                && readable
                && outcome.failure().is_some()
            {
                departures = patterns.departures(parsed);
            }
            let findings = if config.findings { findings } else { &[] };
            find(parsed, patterns, findings, config.related_patterns)
        }
        None => {
            outcome.parses = false;
            Found::default()
        }
    };
    if config.instance > 0.0 {
        outcome.instance += config.instance * instance(&outcome, findings);
    }
    let cheats = cheats::of_answer(parsed, patterns, &outcome, found.cheats);
    let answer = Answer { tokens, text, outcome, departures: &departures };
    match token_rewards(&answer, &found.evidence, config) {
        Ok(scored) => Score::Scored(Scored { cheats, ..scored }),
        Err(error) => Score::Unscored { why: error.to_string() },
    }
}

/// R(y) before ι: what a judge of whole answers would say. Findings count whether or not they are evidence of their own.
fn instance(outcome: &Outcome, findings: &[Finding]) -> f32 {
    let weights: f32 = findings.iter().map(|finding| finding.weight).sum();
    match outcome.failure() {
        _ if weights > 0.0 => -weights.min(1.0),
        None => 1.0,
        Some(_) => 0.0,
    }
}
