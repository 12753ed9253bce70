//! What must hold for every repair pair, wherever it came from.

use std::collections::HashSet;

use vul2safe_code::parse;

use crate::{RepairPair, Side, content_hash};

/// The problems of a pair, each as `field: what is wrong`. None means that the pair is sound.
///
/// A pair is sound when its hash is right, its sides differ and hold code that can be parsed, every span stands on
/// character boundaries inside its side, both sides have a span, its confidence is a probability, and its prompts
/// are distinct, not empty, and have a prefix that both sides start with where they have one.
pub fn check_pair(pair: &RepairPair) -> Vec<String> {
    let mut problems = Vec::new();
    if pair.id.trim().is_empty() {
        problems.push("id: is empty".to_owned());
    }
    for (field, code) in [("vulnerable", &pair.vulnerable), ("secure", &pair.secure)] {
        if code.trim().is_empty() {
            problems.push(format!("{field}: holds no code"));
        } else if code.contains('\0') {
            problems.push(format!("{field}: holds a NUL character"));
        } else if let Err(error) = parse(pair.language, code) {
            problems.push(format!("{field}: cannot be parsed: {error}"));
        }
    }
    if pair.vulnerable.trim_end() == pair.secure.trim_end() {
        problems.push("secure: is the same text as vulnerable".to_owned());
    }
    if !(pair.confidence.is_finite() && (0.0..=1.0).contains(&pair.confidence)) {
        problems.push(format!("confidence: {} is no probability", pair.confidence));
    }
    let hash = content_hash(pair.language, &pair.vulnerable, &pair.secure);
    if hash != pair.hash {
        problems.push(format!("hash: is `{}`, the content has `{hash}`", pair.hash));
    }
    check_spans(pair, &mut problems);
    check_prompts(pair, &mut problems);
    problems
}

fn check_spans(pair: &RepairPair, problems: &mut Vec<String>) {
    for (index, span) in pair.spans.iter().enumerate() {
        let text = match span.side {
            Side::Vulnerable => &pair.vulnerable,
            Side::Secure => &pair.secure,
        };
        if span.start >= span.end {
            problems.push(format!("spans: span {index} is empty ({}..{})", span.start, span.end));
        } else if text.get(span.start..span.end).is_none() {
            problems.push(format!(
                "spans: span {index} ({}..{}) does not stand on character boundaries inside its side of {} bytes",
                span.start,
                span.end,
                text.len()
            ));
        }
        if span.reason.trim().is_empty() {
            problems.push(format!("spans: span {index} has no reason"));
        }
    }
    for (kind, name) in [(Side::Vulnerable, "vulnerable"), (Side::Secure, "secure")] {
        if !pair.spans.iter().any(|span| span.kind == kind) {
            problems.push(format!("spans: none is labelled {name}"));
        }
    }
}

fn check_prompts(pair: &RepairPair, problems: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, prompt) in pair.prompts.iter().enumerate() {
        if prompt.text.trim().is_empty() {
            problems.push(format!("prompts: prompt {index} is empty"));
        }
        if !seen.insert((prompt.text.trim().to_lowercase(), prompt.prefix.as_deref())) {
            problems.push(format!("prompts: prompt {index} stands there twice"));
        }
        if let Some(prefix) = &prompt.prefix {
            let common =
                pair.vulnerable.starts_with(prefix.as_str()) && pair.secure.starts_with(prefix.as_str());
            if prefix.is_empty() || !common {
                problems
                    .push(format!("prompts: prompt {index} has a prefix that is not common to both sides"));
            }
        }
    }
}
