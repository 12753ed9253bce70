//! One answer from text to rewards.

use crate::find::find;
use crate::{Answer, Finding, Outcome, Patterns, RewardConfig, Score, token_rewards};
use vul2safe_code::Language;

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
    let mut outcome = outcome;
    outcome.empty |= text.trim().is_empty();
    let evidence = match patterns.parse_answer(language, text) {
        Ok(parsed) => {
            outcome.parses &= parsed.is_clean();
            outcome.empty |= parsed.leaves().is_empty();
            let asked = outcome.functional.is_none() && outcome.intent_kept.is_none();
            if asked && outcome.failure().is_none() {
                outcome.intent_kept = Some(patterns.intent_kept(&parsed));
            }
            let findings = if config.findings { findings } else { &[] };
            find(&parsed, patterns, findings, config.related_patterns)
        }
        Err(_) => {
            outcome.parses = false;
            Vec::new()
        }
    };
    match token_rewards(&Answer { tokens, text, outcome }, &evidence, config) {
        Ok(scored) => Score::Scored(scored),
        Err(error) => Score::Unscored { why: error.to_string() },
    }
}
