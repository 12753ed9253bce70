//! `data show`.

use anstyle::Style;
use vul2safe_code::Cwe;
use vul2safe_corpus::{Evidence, LabelledSpan, RepairPair, Side, diff_spans, read_primevul_plus};
use vul2safe_llm::TranscriptLine;
use vul2safe_repair::Rejection;

use super::beside::{self, Dialogues, headline};
use super::paint::{Paint, colours, paint};
use super::println;
use crate::cli::ShowArguments;
use crate::failure::{Failure, Result};
use crate::words::{visible, word};

pub(super) fn run(arguments: &ShowArguments) -> Result<()> {
    let cwe = match &arguments.cwe {
        Some(text) => Some(Cwe::parse(text).ok_or_else(|| {
            Failure::user(format!("--cwe {text}: not a weakness")).with_hint("write it as CWE-89")
        })?),
        None => None,
    };
    let dialogues = Dialogues::beside(&arguments.data);
    if arguments.dialogue && dialogues.are_absent() {
        return Err(Failure::user(format!("{}: no dialogue stands beside it", arguments.data.display()))
            .with_hint("`data build` leaves one where a recipe's `[teacher]` names a language model"));
    }
    if arguments.rejected {
        return show_rejected(arguments, cwe, &dialogues);
    }
    let pairs = read_primevul_plus(&arguments.data)?;
    let wanted: Vec<&RepairPair> = pairs
        .iter()
        .filter(|pair| arguments.id.as_ref().is_none_or(|id| &pair.id == id))
        .filter(|pair| cwe.is_none_or(|cwe| pair.cwe.contains(&cwe)))
        .take(arguments.limit)
        .collect();
    if wanted.is_empty() {
        return Err(Failure::user(format!(
            "{}: none of the {} pairs matches",
            arguments.data.display(),
            pairs.len()
        ))
        .with_hint(nearest_id(&pairs, arguments.id.as_deref())));
    }
    for pair in wanted {
        if arguments.json {
            let line = serde_json::to_string(pair)
                .map_err(|error| Failure::program(format!("a pair cannot be written as JSON: {error}")))?;
            println(&line)?;
        } else {
            let mut text = describe(pair, colours());
            dialogue(&mut text, &dialogues.about(&pair.id)?, arguments.dialogue, colours());
            println(&text)?;
        }
    }
    Ok(())
}

fn show_rejected(arguments: &ShowArguments, cwe: Option<Cwe>, dialogues: &Dialogues) -> Result<()> {
    let Some(rejected) = beside::rejected(&arguments.data)? else {
        let beside = arguments.data.with_extension("rejected.jsonl");
        return Err(Failure::user(format!("{}: no such file", beside.display()))
            .with_hint("`vul2safe data build` leaves what it rejects there, beside its pairs"));
    };
    let wanted: Vec<&Rejection> = rejected
        .iter()
        .filter(|rejection| arguments.id.as_ref().is_none_or(|id| &rejection.id == id))
        .filter(|rejection| cwe.is_none_or(|cwe| rejection.cwe.contains(&cwe)))
        .take(arguments.limit)
        .collect();
    if wanted.is_empty() {
        return Err(Failure::user(format!("none of the {} rejected records matches", rejected.len()))
            .with_hint("`--rejected --json --limit 1000` lists them"));
    }
    for rejection in wanted {
        if arguments.json {
            let line = serde_json::to_string(rejection).map_err(|error| {
                Failure::program(format!("a rejection cannot be written as JSON: {error}"))
            })?;
            println(&line)?;
        } else {
            let mut text = describe_rejected(rejection, colours());
            dialogue(&mut text, &dialogues.about(&rejection.id)?, arguments.dialogue, colours());
            println(&text)?;
        }
    }
    Ok(())
}

fn describe_rejected(rejection: &Rejection, colours: bool) -> String {
    let bold = if colours { Style::new().bold() } else { Style::new() };
    let mut text = format!("{bold}{}{bold:#}  rejected: {}\n", rejection.id, rejection.reason);
    let source = &rejection.source;
    text.push_str(&format!("source {}/{}", source.dataset, visible(&source.id)));
    if let Some(confidence) = rejection.confidence {
        text.push_str(&format!("  ·  confidence {confidence:.3}"));
    }
    let weaknesses: Vec<String> = rejection.cwe.iter().map(ToString::to_string).collect();
    if !weaknesses.is_empty() {
        text.push_str(&format!("  ·  {}", weaknesses.join(", ")));
    }
    if let Some(proposal) = &rejection.proposal {
        text.push_str(&format!("  ·  repaired by {}", visible(&proposal.by)));
    }
    text.push_str(&format!("\n{}\n", visible(&rejection.detail)));
    let spans = spans_of(rejection);
    if !rejection.vulnerable.is_empty() {
        side(&mut text, "vulnerable", &rejection.vulnerable, Side::Vulnerable, &spans, colours);
    }
    if let Some(proposal) = &rejection.proposal {
        side(&mut text, "proposed", &proposal.secure, Side::Secure, &spans, colours);
    }
    checks(&mut text, &rejection.evidence, bold);
    text
}

fn checks(text: &mut String, evidence: &[Evidence], bold: Style) {
    text.push_str(&format!("\n{bold}checks{bold:#}\n"));
    for evidence in evidence {
        text.push_str(&format!(
            "    {:<22} {:<8} {}\n",
            evidence.check,
            word(&evidence.verdict),
            visible(&evidence.detail)
        ));
    }
}

/// What differs between a record and the proposal for it; nothing where only white space does.
pub(super) fn spans_of(rejection: &Rejection) -> Vec<LabelledSpan> {
    match (rejection.language, &rejection.proposal) {
        (Some(language), Some(proposal)) => {
            diff_spans(language, &rejection.vulnerable, &proposal.secure).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// One side with its spans painted, and their reasons below.
fn side(text: &mut String, title: &str, code: &str, wanted: Side, spans: &[LabelledSpan], colours: bool) {
    let bold = if colours { Style::new().bold() } else { Style::new() };
    text.push_str(&format!("\n{bold}{title}{bold:#}\n"));
    let spans = || spans.iter().filter(|span| span.side == wanted);
    let paints: Vec<Paint> = spans()
        .map(|span| Paint { start: span.start, end: span.end, good: span.kind == Side::Secure })
        .collect();
    text.push_str(paint(code, &paints, colours).trim_end());
    text.push('\n');
    for span in spans() {
        let lines = code.get(..span.start).map_or(0, |before| before.matches('\n').count() + 1);
        text.push_str(&format!("    line {lines}: {} ({})\n", visible(&span.reason), word(&span.by)));
    }
}

/// What was said about a record: a line an exchange, or everything.
fn dialogue(text: &mut String, exchanges: &[TranscriptLine], in_full: bool, colours: bool) {
    if exchanges.is_empty() {
        return;
    }
    let bold = if colours { Style::new().bold() } else { Style::new() };
    let more = if in_full { "" } else { " (in full with --dialogue)" };
    text.push_str(&format!("\n{bold}dialogue{bold:#}{more}\n"));
    for exchange in exchanges {
        text.push_str(&format!("  {}\n", visible(&headline(exchange))));
        if !in_full {
            continue;
        }
        let said = exchange.messages.iter().map(|message| (word(&message.role), &message.content));
        let reasoning = exchange.reasoning.iter().map(|reasoning| ("reasoning".to_owned(), reasoning));
        for (who, words) in said.chain(reasoning).chain([("answer".to_owned(), &exchange.answer)]) {
            text.push_str(&format!("    [{who}]\n"));
            for line in words.lines() {
                text.push_str(&format!("      {}\n", visible(line)));
            }
        }
    }
}

fn nearest_id(pairs: &[RepairPair], wanted: Option<&str>) -> String {
    let first = || {
        pairs.first().map_or_else(
            || "`vul2safe data build` writes PrimeVul+".to_owned(),
            |pair| format!("the first id is `{}`", pair.id),
        )
    };
    wanted
        .and_then(|wanted| pairs.iter().min_by_key(|pair| strsim::damerau_levenshtein(wanted, &pair.id)))
        .map_or_else(first, |pair| format!("the nearest id is `{}`", pair.id))
}

/// A pair as a person reads it.
fn describe(pair: &RepairPair, colours: bool) -> String {
    let bold = if colours { Style::new().bold() } else { Style::new() };
    let weaknesses: Vec<String> = pair
        .cwe
        .iter()
        .map(|cwe| cwe.name().map_or_else(|| cwe.to_string(), |name| format!("{cwe} {name}")))
        .collect();
    let mut text = format!("{bold}{}{bold:#}  {}  {}\n", pair.id, pair.language, weaknesses.join(", "));
    let mut facts = vec![format!("source {}/{}", pair.source.dataset, pair.source.id)];
    facts.extend(pair.cve.iter().cloned());
    facts.extend(pair.project.iter().map(|project| format!("project {project}")));
    facts.extend(pair.license.iter().map(|license| format!("license {license}")));
    facts.push(format!("split {}", word(&pair.split)));
    facts.push(format!("repaired by {}", pair.repair.by));
    facts.push(format!("confidence {:.3}", pair.confidence));
    text.push_str(&facts.join("  ·  "));
    text.push('\n');

    side(&mut text, "vulnerable", &pair.vulnerable, Side::Vulnerable, &pair.spans, colours);
    side(&mut text, "secure", &pair.secure, Side::Secure, &pair.spans, colours);
    checks(&mut text, &pair.evidence, bold);
    text.push_str(&format!("\n{bold}implicit prompts{bold:#}\n"));
    for prompt in &pair.prompts {
        text.push_str(&format!("  [{}]\n", prompt.style));
        for line in prompt.text.lines().chain(prompt.prefix.iter().flat_map(|prefix| prefix.lines())) {
            text.push_str(&format!("    {}\n", visible(line)));
        }
    }
    text
}
