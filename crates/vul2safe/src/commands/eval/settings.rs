//! What an evaluation was started with: a second start that asks for something else would mix two evaluations in one log.

use std::path::Path;

use serde_json::{Map, Value, json};
use vul2safe_evaluate::Suite;
use vul2safe_run::write_atomic;

use super::sources::{Kind, Source};
use crate::cli::EvalRunArguments;
use crate::failure::{Failure, Result, read_text};

/// Compares with `settings.json` of the folder and writes it.
///
/// # Errors
/// The first setting that differs. Another model beside those that are there is no difference.
pub(super) fn check(
    arguments: &EvalRunArguments,
    suite: &Suite,
    version: &str,
    sources: &[Source],
) -> Result<()> {
    let path = arguments.out.join("settings.json");
    let mut wanted = Map::new();
    for (name, value) in [
        ("suite", json!(suite.name)),
        ("suite_version", json!(version)),
        ("seeds", json!(arguments.seed)),
        ("samples", json!(arguments.samples)),
        ("temperature", json!(arguments.temperature)),
        ("maximum_new_tokens", json!(arguments.maximum_new_tokens)),
        ("complete", json!(arguments.complete)),
        ("device", json!(arguments.device.to_string())),
        ("precision", json!(format!("{:?}", arguments.precision).to_lowercase())),
        ("test_seconds", json!(arguments.test_seconds)),
    ] {
        wanted.insert(name.to_owned(), value);
    }
    if let Some(training) = &arguments.training {
        wanted.insert("training".to_owned(), json!(vul2safe_run::fingerprint(training)?));
    }
    for source in sources {
        wanted.insert(format!("model {}", source.name), fingerprint(source)?);
    }
    if path.exists() {
        let found = read(&path)?;
        for (name, value) in &wanted {
            match found.get(name) {
                None if name.starts_with("model ") => {}
                Some(before) if before == value => {}
                before => {
                    let before = before.map_or("not set".to_owned(), Value::to_string);
                    return Err(Failure::user(format!(
                        "{}: this evaluation was made with another `{name}`: {before}, now it is {value}",
                        arguments.out.display()
                    ))
                    .with_hint("give another `--out`, or start it as it was started"));
                }
            }
        }
        for (name, value) in found {
            wanted.entry(name).or_insert(value);
        }
    }
    let text = serde_json::to_string_pretty(&wanted)
        .map_err(|error| Failure::program(format!("the settings cannot be written as JSON: {error}")))?;
    Ok(write_atomic(&path, format!("{text}\n").as_bytes())?)
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    serde_json::from_str(&read_text(path, "settings of the evaluation")?).map_err(|error| {
        Failure::user(format!("{}: {error}", path.display()))
            .with_hint("give another `--out`; the file is written by `vul2safe eval` alone")
    })
}

/// What tells a source from another of the same name.
fn fingerprint(source: &Source) -> Result<Value> {
    Ok(match &source.kind {
        Kind::Model(folder) => json!(vul2safe_run::fingerprint(folder)?),
        Kind::File(path) => json!(vul2safe_run::fingerprint(path)?),
        Kind::Endpoint(endpoint) => json!(format!("{} at {}", endpoint.model, endpoint.base_url)),
        Kind::Reference => json!("the suite's own solutions"),
        Kind::Insecure => json!("the suite's own vulnerable code"),
    })
}
