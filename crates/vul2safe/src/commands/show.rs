//! `data show`.

use std::path::Path;

use anstyle::Style;
use vul2safe_code::Cwe;
use vul2safe_corpus::{Evidence, RepairPair, Side, read_primevul_plus};
use vul2safe_repair::Rejection;

use super::paint::{Paint, colours, paint};
use super::println;
use crate::cli::ShowArguments;
use crate::failure::{Failure, Result};
use crate::stages::read_lines;
use crate::words::{visible, word};

pub(super) fn run(arguments: &ShowArguments) -> Result<()> {
    if arguments.rejected {
        return show_rejected(arguments);
    }
    let pairs = read_primevul_plus(&arguments.data)?;
    let cwe = match &arguments.cwe {
        Some(text) => Some(Cwe::parse(text).ok_or_else(|| {
            Failure::user(format!("--cwe {text}: not a weakness")).with_hint("write it as CWE-89")
        })?),
        None => None,
    };
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
            println(&describe(pair, colours()))?;
        }
    }
    Ok(())
}

/// What `data build` rejected, from the file that it leaves beside its pairs; nothing where there is none.
pub(super) fn rejected_beside(data: &Path) -> Result<Option<Vec<Rejection>>> {
    let beside = data.with_extension("rejected.jsonl");
    if beside.is_file() { Ok(Some(read_lines(&beside)?)) } else { Ok(None) }
}

fn show_rejected(arguments: &ShowArguments) -> Result<()> {
    if arguments.cwe.is_some() {
        return Err(Failure::user("--cwe: what was rejected is kept without its weaknesses")
            .with_hint("choose with --id, or leave it out"));
    }
    let Some(rejected) = rejected_beside(&arguments.data)? else {
        let beside = arguments.data.with_extension("rejected.jsonl");
        return Err(Failure::user(format!("{}: no such file", beside.display()))
            .with_hint("`vul2safe data build` leaves what it rejects there, beside its pairs"));
    };
    let wanted: Vec<&Rejection> = rejected
        .iter()
        .filter(|rejection| arguments.id.as_ref().is_none_or(|id| &rejection.id == id))
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
            println(&describe_rejected(rejection, colours()))?;
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
    text.push_str(&format!("\n{}\n", visible(&rejection.detail)));
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

    for (side, code, title) in
        [(Side::Vulnerable, &pair.vulnerable, "vulnerable"), (Side::Secure, &pair.secure, "secure")]
    {
        text.push_str(&format!("\n{bold}{title}{bold:#}\n"));
        let paints: Vec<Paint> = pair
            .spans
            .iter()
            .filter(|span| span.side == side)
            .map(|span| Paint { start: span.start, end: span.end, good: span.kind == Side::Secure })
            .collect();
        text.push_str(paint(code, &paints, colours).trim_end());
        text.push('\n');
        for span in pair.spans.iter().filter(|span| span.side == side) {
            let lines = code.get(..span.start).map_or(0, |before| before.matches('\n').count() + 1);
            text.push_str(&format!("    line {lines}: {} ({})\n", span.reason, word(&span.by)));
        }
    }
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
