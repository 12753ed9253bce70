//! One answer from text to rewards.

use crate::cheats;
use crate::find::{Found, find};
use crate::{
    Answer, FailurePlacement, Finding, Outcome, Patterns, RewardConfig, Score, Scored, token_rewards,
};
use vul2safe_code::{Language, Parsed, Span, breaks_at};

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
    let mut failed_at = Vec::new();
    outcome.empty |= text.trim().is_empty();
    let found = match parsed {
        Some(parsed) => {
            outcome.parses &= parsed.is_clean();
            outcome.empty |= parsed.leaves().is_empty();
            let asked = outcome.functional.is_none() && outcome.intent_kept.is_none();
            if asked && outcome.failure().is_none() {
                outcome.intent_kept = Some(patterns.intent_kept(parsed));
            }
            failed_at = places_of_failure(parsed, patterns, &outcome, config);
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
    let answer = Answer { tokens, text, outcome, failed_at: &failed_at };
    match token_rewards(&answer, &found.evidence, config) {
        Ok(scored) => Score::Scored(Scored { cheats, ..scored }),
        Err(error) => Score::Unscored { why: error.to_string() },
    }
}

/// Where a failed answer fails, as far as its text shows that and `config` asks for it. One that was cut off fails at its end.
fn places_of_failure(
    parsed: &Parsed,
    patterns: &Patterns,
    outcome: &Outcome,
    config: &RewardConfig,
) -> Vec<Span> {
    if outcome.failure().is_none() || outcome.empty || outcome.truncated {
        return Vec::new();
    }
    match config.failure_placement {
        FailurePlacement::Break | FailurePlacement::Departures if !outcome.parses => {
            breaks_at(parsed.language(), parsed.text()).into_iter().collect()
        }
        FailurePlacement::Departures => patterns.departures(parsed),
        FailurePlacement::Last | FailurePlacement::Break => Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;

    const VULNERABLE: &str =
        "def rows(db, name):\n    return db.execute(f\"SELECT * FROM t WHERE n = '{name}'\").fetchall()\n";
    const SECURE: &str =
        "def rows(db, name):\n    return db.execute(\"SELECT * FROM t WHERE n = ?\", (name,)).fetchall()\n";

    /// The places, as text to the end of their line, of which an answer's bytes pay ρ; the end of the answer is "the end".
    fn paid_at(answer: &str, outcome: Outcome, failure_placement: FailurePlacement) -> Vec<String> {
        let pair = serde_json::from_value(serde_json::json!({
            "id": "example/1", "language": "python", "cwe": ["CWE-89"], "cve": null, "project": null,
            "commit": null, "license": null, "vulnerable": VULNERABLE, "secure": SECURE,
            "repair": {"by": "upstream", "rounds": 1}, "confidence": 0.9, "evidence": [],
            "spans": vul2safe_corpus::diff_spans(Language::Python, VULNERABLE, SECURE).expect("parses"),
            "prompts": [], "split": "train", "source": {"dataset": "example", "id": "1"}, "hash": "0"
        }))
        .expect("a pair");
        let patterns = Patterns::of_pair(&pair).expect("patterns");
        let mut tokens: Vec<(usize, usize)> = (0..answer.len()).map(|byte| (byte, byte + 1)).collect();
        tokens.push((answer.len(), answer.len()));
        let config = RewardConfig { failure_placement, ..RewardConfig::default() };
        match score_answer(answer, Language::Python, &tokens, &patterns, &[], outcome, &config) {
            Score::Scored(scored) => (0..tokens.len())
                .filter(|&token| scored.reasons[token].iter().any(|reason| reason.contains("failed answer")))
                .map(|token| match answer[tokens[token].0..].lines().next() {
                    None => "the end".to_owned(),
                    Some(line) => line.to_owned(),
                })
                .collect(),
            Score::Unscored { why } => panic!("{why}"),
        }
    }

    #[test]
    fn what_does_not_parse_pays_where_it_breaks() {
        let broken = SECURE.replace("(name,))", "(name,)))");
        let unjudged = Outcome::unjudged();
        assert_eq!(paid_at(&broken, unjudged, FailurePlacement::Break), [").fetchall()"]);
        assert_eq!(paid_at(&broken, unjudged, FailurePlacement::Departures), [").fetchall()"]);
        assert_eq!(paid_at(&broken, unjudged, FailurePlacement::Last), ["the end"]);
        let cut_off = Outcome { truncated: true, ..unjudged };
        assert_eq!(paid_at(&broken, cut_off, FailurePlacement::Break), ["the end"], "it would have gone on");
    }

    #[test]
    fn what_parses_and_fails_pays_where_it_departs_or_at_its_end() {
        let failed = Outcome { functional: Some(false), ..Outcome::unjudged() };
        let other = SECURE.replace("FROM t", "FROM u");
        assert_eq!(paid_at(&other, failed, FailurePlacement::Break), ["the end"]);
        assert!(!paid_at(&other, failed, FailurePlacement::Departures).contains(&"the end".to_owned()));
        assert!(paid_at(SECURE, Outcome::unjudged(), FailurePlacement::Break).is_empty(), "it does not fail");
    }
}
