//! Repair pairs for the tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use vul2safe_code::Language;
use vul2safe_corpus::{Repair, RepairPair, SourceId, Split, diff_spans};
use vul2safe_reward::{Finding, Outcome, Patterns, RewardConfig, Score, Scored, score_answer};

/// A pair whose spans come from the difference of both sides.
pub fn pair(id: &str, language: Language, vulnerable: &str, secure: &str) -> RepairPair {
    RepairPair {
        id: id.to_string(),
        language,
        cwe: Vec::new(),
        cve: None,
        project: None,
        commit: None,
        date: None,
        file_name: None,
        license: None,
        vulnerable: vulnerable.to_string(),
        secure: secure.to_string(),
        repair: Repair { by: "upstream".to_string(), rounds: 1 },
        confidence: 0.9,
        evidence: Vec::new(),
        spans: diff_spans(language, vulnerable, secure).expect("the sides differ"),
        prompts: Vec::new(),
        tests: None,
        split: Split::Train,
        source: SourceId { dataset: "test".to_string(), id: id.to_string() },
        hash: String::new(),
    }
}

/// Patterns of a Python pair.
pub fn patterns(vulnerable: &str, secure: &str) -> Patterns {
    Patterns::of_pair(&pair("test/1", Language::Python, vulnerable, secure)).expect("the pair is sound")
}

/// Ranges of `size` bytes each over a text: tokens that know nothing of words.
pub fn chunks(text: &str, size: usize) -> Vec<(usize, usize)> {
    (0..text.len()).step_by(size).map(|start| (start, (start + size).min(text.len()))).collect()
}

/// Scores a Python answer on tokens of three bytes, with a token without bytes at the end.
pub fn score(answer: &str, patterns: &Patterns, findings: &[Finding], outcome: Outcome) -> Scored {
    let mut tokens = chunks(answer, 3);
    tokens.push((answer.len(), answer.len()));
    let config = RewardConfig::default();
    match score_answer(answer, Language::Python, &tokens, patterns, findings, outcome, &config) {
        Score::Scored(scored) => scored,
        Score::Unscored { why } => panic!("unscored: {why}\n{answer}"),
    }
}
