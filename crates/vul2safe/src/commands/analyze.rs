//! `analyze`.

use serde_json::json;
use vul2safe_analyze::{analyze, covers};
use vul2safe_code::{Language, parse};

use super::println;
use crate::cli::AnalyzeArguments;
use crate::failure::{Failure, Result, read_text};
use crate::words::visible;

pub(super) fn run(arguments: &AnalyzeArguments) -> Result<()> {
    let mut findings = 0_usize;
    for path in &arguments.files {
        if path.is_dir() {
            return Err(Failure::user(format!("{}: this is a folder", path.display()))
                .with_hint("name source files, for instance with `src/*.py`"));
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let Some(language) = arguments.language.or_else(|| Language::from_extension(extension)) else {
            return Err(Failure::user(format!(
                "{}: no language is known for this extension",
                path.display()
            ))
            .with_hint("say it with `--language python`, `c` or `cpp`"));
        };
        if !covers(language) {
            return Err(Failure::user(format!("{}: there are no rules for {language}", path.display()))
                .with_hint("rules exist for python, c and cpp"));
        }
        let text = read_text(path, "source file")?;
        let parsed = parse(language, &text).map_err(|error| Failure {
            message: format!("{}: {error}", path.display()),
            hint: error.hint(),
            blame: crate::failure::Blame::User,
        })?;
        if let Some(place) = parsed.first_error() {
            let (line, column) = line_column(&text, place.start);
            anstream::eprintln!(
                "warning: {}:{line}:{column}: not valid {language}; findings may be missing",
                path.display()
            );
        }
        for finding in analyze(&parsed) {
            findings += 1;
            let (line, column) = line_column(&text, finding.span.start);
            if arguments.json {
                println(
                    &json!({ "file": path, "line": line, "column": column, "finding": finding }).to_string(),
                )?;
            } else {
                println(&format!(
                    "{}:{line}:{column}: {} {} ({}): {}",
                    path.display(),
                    finding.cwe,
                    finding.rule,
                    finding.severity,
                    finding.message
                ))?;
                if let Some(code) = finding.span.text(&text) {
                    println(&format!("    {}", visible(code.lines().next().unwrap_or_default())))?;
                }
            }
        }
    }
    if arguments.fail && findings > 0 {
        return Err(Failure::user(format!("{findings} findings")).with_hint("they are listed on stdout"));
    }
    Ok(())
}

/// Line and column of a byte, both from 1; the column counts characters.
fn line_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}
