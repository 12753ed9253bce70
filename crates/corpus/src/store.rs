//! PrimeVul+ files: a strict reader and an atomic writer.

use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::collect::Refusal;
use crate::fields;
use crate::lines::Lines;
use crate::source::{ReadLimits, jsonl_files};
use crate::{CorpusError, DropReason, RepairPair, VulnerabilityRecord, check_pair, parquet_file};

/// Reads a PrimeVul+ file, JSONL or Parquet (or a folder of JSONL files), and believes nothing: every line must be a
/// valid pair, unknown fields included, and pass [`check_pair`].
///
/// # Errors
/// The first line that is not, with its number and field.
pub fn read_primevul_plus(path: &Path) -> Result<Vec<RepairPair>, CorpusError> {
    let mut pairs = Vec::new();
    if path.is_file() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
        parquet_file::read_pairs(path, &mut pairs)?;
        return Ok(pairs);
    }
    for file in jsonl_files(path)? {
        let lines = Lines::open(&file, ReadLimits::default().line_bytes)?;
        read_lines(&file, lines, &mut pairs)?;
    }
    Ok(pairs)
}

fn read_lines<R: BufRead>(
    path: &Path,
    lines: Lines<R>,
    pairs: &mut Vec<RepairPair>,
) -> Result<(), CorpusError> {
    for line in lines {
        let line = line.map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
        let invalid = |field: &str, message: String| CorpusError::InvalidPair {
            path: path.to_owned(),
            line: line.number,
            field: field.into(),
            message,
        };
        let object = fields::object(&line)
            .map_err(|(reason, detail)| invalid("(line)", format!("{reason}: {detail}")))?;
        let pair = pair(line.text(), &object).map_err(|(field, message)| invalid(&field, message))?;
        if let Some(problem) = check_pair(&pair).into_iter().next() {
            let (field, message) = problem.split_once(": ").unwrap_or(("(line)", &problem));
            return Err(invalid(field, message.to_owned()));
        }
        pairs.push(pair);
    }
    Ok(())
}

/// One line as a pair, or the field that is wrong and what is wrong with it.
fn pair(text: &str, object: &Map<String, Value>) -> Result<RepairPair, (String, String)> {
    serde_json::from_str::<RepairPair>(text).map_err(|error| {
        let message = error.to_string();
        let field = blamed_field(object, &message).unwrap_or_else(|| "(line)".into());
        (field, message)
    })
}

/// The top-level field that a deserialisation error is about. serde names fields that are unknown or missing; a
/// wrong type or value is found by trying again with the fields taken out one at a time: the error changes when the
/// guilty one is gone.
fn blamed_field(object: &Map<String, Value>, message: &str) -> Option<String> {
    for marker in ["unknown field `", "missing field `"] {
        if let Some(rest) = message.split(marker).nth(1) {
            let named = rest.split('`').next()?;
            let top = object.keys().any(|key| key == named) || marker.starts_with("missing");
            if top {
                return Some(named.to_owned());
            }
        }
    }
    let error_of = |object: &Map<String, Value>| {
        RepairPair::deserialize(Value::Object(object.clone())).err().map(|error| error.to_string())
    };
    let whole = error_of(object);
    object.keys().find_map(|key| {
        let mut without = object.clone();
        without.remove(key);
        (error_of(&without) != whole).then(|| key.clone())
    })
}

/// A PrimeVul+ line as a vulnerability record again, for repairing it anew.
pub(crate) fn record(text: &str, object: &Map<String, Value>) -> Result<VulnerabilityRecord, Refusal> {
    let pair = pair(text, object).map_err(|(field, message)| {
        let reason = if message.contains("missing field") {
            DropReason::MissingField
        } else if message.contains("invalid type") {
            DropReason::WrongType
        } else {
            DropReason::InvalidValue
        };
        (reason, format!("field `{field}`: {message}"))
    })?;
    if let Some(problem) = check_pair(&pair).into_iter().next() {
        return Err((DropReason::InvalidValue, problem));
    }
    Ok(pair.into())
}

impl From<RepairPair> for VulnerabilityRecord {
    /// The record that a pair could have come from; the name of its function and the prose about its flaw are lost.
    fn from(pair: RepairPair) -> Self {
        Self {
            id: pair.id,
            language: pair.language,
            cwe: pair.cwe,
            cve: pair.cve,
            project: pair.project,
            commit: pair.commit,
            date: pair.date,
            license: pair.license,
            file_name: pair.file_name,
            function: None,
            description: None,
            vulnerable: pair.vulnerable,
            secure: Some(pair.secure),
            tests: pair.tests,
            split: Some(pair.split),
            original: Vec::new(),
            source: pair.source,
        }
    }
}

/// Writes pairs as JSONL: into a file beside `path` first, then renamed over it, so that a kill leaves the old file
/// or the new one.
///
/// # Errors
/// I/O errors, with the path.
pub fn write_primevul_plus(path: &Path, pairs: &[RepairPair]) -> Result<(), CorpusError> {
    let write = |message: String| CorpusError::Write { path: path.to_owned(), message };
    let mut bytes = Vec::new();
    for pair in pairs {
        serde_json::to_writer(&mut bytes, pair).map_err(|error| write(error.to_string()))?;
        bytes.push(b'\n');
    }
    vul2safe_run::write_atomic(path, &bytes).map_err(|error| write(error.to_string()))
}
