//! `score`.

use std::path::Path;

use serde_json::json;
use vul2safe_code::parse;
use vul2safe_corpus::{RepairPair, read_primevul_plus};
use vul2safe_reward::Score;
use vul2safe_tokens::Tokenizer;

use super::paint::{colours, style};
use super::{Session, println, recipe};
use crate::cli::ScoreArguments;
use crate::failure::{Failure, Result, read_text};
use crate::scoring::{AnswerText, References, score_all};
use crate::stages::open_judge;

pub(super) fn run(session: &Session, arguments: &ScoreArguments) -> Result<()> {
    let recipe = recipe(arguments.recipe.as_deref(), &arguments.set)?;
    let pairs = read_primevul_plus(&arguments.data)?;
    let Some(pair) = pairs.iter().find(|pair| pair.id == arguments.id) else {
        return Err(Failure::user(format!(
            "{}: there is no pair `{}`",
            arguments.data.display(),
            arguments.id
        ))
        .with_hint("`vul2safe data show FILE --limit 5` shows ids"));
    };
    let text = match arguments.answer.as_str() {
        "secure" => pair.secure.clone(),
        "vulnerable" => pair.vulnerable.clone(),
        path => read_text(Path::new(path), "answer")?,
    };
    let tokens = split(&text, pair, arguments.model.as_deref())?;
    let references = References::new(&pairs, recipe.reward.related_patterns)?;
    let reference = references.get(&pair.id).ok_or_else(|| Failure::program("the pair has no reference"))?;
    let judge = open_judge(session.allow_unprotected)?;
    let answer = AnswerText { text: text.clone(), tokens: tokens.clone(), finished: true };
    let judged = score_all(&[(&answer, reference)], &judge, &recipe.reward);
    let Some(judged) = judged.into_iter().next() else {
        return Err(Failure::program("one answer gave no score"));
    };
    let scored = match judged.score {
        Score::Scored(scored) => scored,
        Score::Unscored { why } => {
            return Err(Failure::user(format!("the answer could not be scored: {why}"))
                .with_hint("`vul2safe doctor` says what the sandbox can do here"));
        }
    };
    if arguments.json {
        let tokens: Vec<_> = tokens
            .iter()
            .zip(scored.rewards.iter().zip(&scored.reasons))
            .map(|(&(start, end), (reward, reasons))| {
                json!({ "text": text.get(start..end), "start": start, "end": end, "reward": reward, "reasons": reasons })
            })
            .collect();
        let whole = json!({ "id": pair.id, "total": scored.total, "failed": scored.failed, "functional": judged.functional, "tokens": tokens });
        return println(&whole.to_string());
    }
    let colours = colours();
    for (&(start, end), (&reward, reasons)) in tokens.iter().zip(scored.rewards.iter().zip(&scored.reasons)) {
        if reward == 0.0 && reasons.is_empty() {
            continue;
        }
        let token = text.get(start..end).unwrap_or_default().escape_debug().to_string();
        let shown = if token.is_empty() { "⟨end⟩".to_owned() } else { token };
        let style = if colours { style(reward >= 0.0) } else { anstyle::Style::new() };
        println(&format!("{style}{shown:>24} {reward:+.4}{style:#}  {}", reasons.join("; ")))?;
    }
    println(&format!(
        "total {:+.4} over {} tokens; {}; functional tests: {}",
        scored.total,
        tokens.len(),
        if scored.failed { "failed" } else { "not failed" },
        match judged.functional {
            Some(true) => "passed",
            Some(false) => "failed",
            None => "none",
        },
    ))
}

/// The answer's tokens and, as models end their answers with a token of no text, an empty one at the end.
fn split(text: &str, pair: &RepairPair, model: Option<&Path>) -> Result<Vec<(usize, usize)>> {
    let mut tokens = match model {
        Some(folder) => {
            let tokenizer = Tokenizer::from_folder(folder)?;
            tokenizer.spans(&tokenizer.encode(text))
        }
        None => {
            let parsed = parse(pair.language, text)
                .map_err(|error| Failure::user(format!("the answer cannot be read: {error}")))?;
            parsed.leaves().iter().map(|leaf| (leaf.span.start, leaf.span.end)).collect()
        }
    };
    tokens.push((text.len(), text.len()));
    Ok(tokens)
}
