//! PrimeVul v0.1: C and C++ functions, one a line; in the `_paired` files a flaw and its fix on consecutive lines.

use std::io::BufRead;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Number, Value};
use vul2safe_code::{Cwe, Language};

use crate::collect::{Collector, Refusal};
use crate::fields::{c_family, kind, language_of_file, object, optional, required, weaknesses};
use crate::lines::Lines;
use crate::{CorpusError, DropReason, SourceId, VulnerabilityRecord};

/// One line of PrimeVul v0.1. Numbers keep every digit: `func_hash` has up to 39 of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrimeVulRow {
    /// Index in the data set.
    pub idx: Option<Number>,
    /// Project name.
    pub project: Option<String>,
    /// Fixing commit.
    pub commit_id: Option<String>,
    /// Project address.
    pub project_url: Option<String>,
    /// Commit address.
    pub commit_url: Option<String>,
    /// Commit message.
    pub commit_message: Option<String>,
    /// 1 for a vulnerable function, 0 for any other.
    pub target: u8,
    /// The function.
    pub func: String,
    /// Hash of the function, as the data set writes it.
    pub func_hash: Option<Number>,
    /// Path of the file; the data set writes the word `None` where it has none.
    pub file_name: Option<String>,
    /// Hash of the file.
    pub file_hash: Option<Number>,
    /// Weaknesses.
    pub cwe: Vec<Cwe>,
    /// CVE id.
    pub cve: Option<String>,
    /// CVE text.
    pub cve_desc: Option<String>,
    /// CVE address.
    pub nvd_url: Option<String>,
}

impl PrimeVulRow {
    /// Reads the fields of one line. Only `target` and `func` are needed.
    ///
    /// # Errors
    /// The reason to drop the line, and what is wrong with which field.
    pub fn from_object(object: &Map<String, Value>) -> Result<Self, (DropReason, String)> {
        let text = |field: &str| optional(object.get(field));
        let number = |field: &str| match object.get(field) {
            Some(Value::Number(number)) => Some(number.clone()),
            // Tools that cannot hold 128 bits write such numbers as strings.
            Some(Value::String(digits)) => digits.parse::<Number>().ok(),
            _ => None,
        };
        Ok(Self {
            idx: number("idx"),
            project: text("project"),
            commit_id: text("commit_id"),
            project_url: text("project_url"),
            commit_url: text("commit_url"),
            commit_message: text("commit_message"),
            target: target(object)?,
            func: required(object, "func")?.to_owned(),
            func_hash: number("func_hash"),
            file_name: text("file_name"),
            file_hash: number("file_hash"),
            cwe: weaknesses(object.get("cwe")),
            cve: text("cve"),
            cve_desc: text("cve_desc"),
            nvd_url: text("nvd_url"),
        })
    }

    /// `idx:func_hash`, with `?` for what the line lacks.
    fn name(&self) -> String {
        let text = |number: &Option<Number>| number.as_ref().map_or("?".to_owned(), Number::to_string);
        format!("{}:{}", text(&self.idx), text(&self.func_hash))
    }

    /// Whether two lines can be the halves of one pair.
    fn pairs_with(&self, other: &Self) -> bool {
        self.target != other.target && self.project == other.project && self.commit_id == other.commit_id
    }

    fn into_record(self, secure: Option<Self>, original: Vec<Map<String, Value>>) -> VulnerabilityRecord {
        let dataset = if secure.is_some() { "primevul-paired" } else { "primevul" };
        let id = match &secure {
            Some(secure) => format!("{}|{}", self.name(), secure.name()),
            None => self.name(),
        };
        let number = self.idx.as_ref().or(self.func_hash.as_ref()).map_or("x".to_owned(), Number::to_string);
        let mut cwe = self.cwe;
        for other in secure.iter().flat_map(|secure| &secure.cwe) {
            if !cwe.contains(other) {
                cwe.push(*other);
            }
        }
        VulnerabilityRecord {
            id: format!("primevul-{number}"),
            language: language(self.file_name.as_deref(), &self.func),
            cwe,
            cve: self.cve.or_else(|| secure.as_ref().and_then(|secure| secure.cve.clone())),
            project: self.project,
            commit: self.commit_id,
            date: None,
            license: None,
            file_name: self.file_name,
            function: None,
            description: self.cve_desc.or(self.commit_message),
            vulnerable: self.func,
            secure: secure.map(|secure| secure.func),
            tests: None,
            split: None,
            original,
            source: SourceId { dataset: dataset.into(), id },
        }
    }
}

/// 0 or 1.
pub(crate) fn target(object: &Map<String, Value>) -> Result<u8, Refusal> {
    match object.get("target") {
        Some(Value::Number(number)) => match number.as_u64() {
            Some(target @ (0 | 1)) => Ok(target as u8),
            _ => Err((DropReason::InvalidValue, format!("field `target` is {number}, not 0 or 1"))),
        },
        Some(other) => {
            Err((DropReason::WrongType, format!("field `target` is {}, not a number", kind(other))))
        }
        None => Err((DropReason::MissingField, "field `target` is absent".into())),
    }
}

/// A line without its code, which the record holds anyway.
fn without_code(object: &Map<String, Value>) -> Map<String, Value> {
    object
        .iter()
        .filter(|(field, _)| *field != "func")
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

/// PrimeVul holds C and C++; a file that says another language is believed, and nameless files are told apart by
/// their text.
fn language(file_name: Option<&str>, code: &str) -> Language {
    file_name.and_then(|name| language_of_file(name, code)).unwrap_or_else(|| c_family(code))
}

/// One line of the single files: a vulnerable function without its fix.
pub(crate) fn record_single(object: &Map<String, Value>) -> Result<VulnerabilityRecord, Refusal> {
    let row = PrimeVulRow::from_object(object)?;
    if row.target == 0 {
        return Err((DropReason::NotVulnerable, "target is 0: the function is not vulnerable".into()));
    }
    Ok(row.into_record(None, vec![without_code(object)]))
}

/// The paired files. A line joins the next one when project and commit agree and their targets differ; a pair whose
/// fix comes first is turned round and noted as mended; a line without a partner is dropped.
pub(crate) fn read_paired<R: BufRead>(
    path: &Path,
    file: &str,
    lines: Lines<R>,
    collector: &mut Collector<'_>,
) -> Result<(), CorpusError> {
    let mut waiting: Option<Half> = None;
    let alone = |collector: &mut Collector<'_>, waiting: Option<Half>| {
        if let Some(half) = waiting {
            let missing =
                if half.row.target == 1 { "fix (target 0)" } else { "vulnerable function (target 1)" };
            let detail = format!("the next line is not its {missing} of the same project and commit");
            collector.add(file, half.line, Err((DropReason::PartnerMissing, detail)));
        }
    };
    for line in lines {
        let line = line.map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
        let half = object(&line).and_then(|object| {
            let row = PrimeVulRow::from_object(&object)?;
            Ok(Half { line: line.number, row, original: without_code(&object) })
        });
        match half {
            Err(refusal) => {
                alone(collector, waiting.take());
                collector.add(file, line.number, Err(refusal));
            }
            Ok(half) => match waiting.take() {
                Some(first) if first.row.pairs_with(&half.row) => {
                    let (first_line, swapped) = (first.line, first.row.target == 0);
                    let (vulnerable, secure) = if swapped { (half, first) } else { (first, half) };
                    let original = vec![vulnerable.original, secure.original];
                    let record = vulnerable.row.into_record(Some(secure.row), original);
                    let added = collector.add(file, first_line, Ok(record));
                    if swapped && added {
                        let detail = "the fix stands before the flaw; the sides were put right by `target`";
                        collector.mended(file, first_line, (DropReason::SwappedSides, detail.into()));
                    }
                }
                unpaired => {
                    alone(collector, unpaired);
                    waiting = Some(half);
                }
            },
        }
    }
    alone(collector, waiting.take());
    Ok(())
}

/// One line that waits for its partner.
struct Half {
    line: usize,
    row: PrimeVulRow,
    original: Map<String, Value>,
}

/// Vulnerability records as lines of PrimeVul v0.1: a vulnerable function (`target` 1), then its fix (`target` 0) where
/// there is one.
///
/// What came from PrimeVul gets every field back as it stood, the digits of its hashes included. Records of other
/// sources get the fields that are known; `idx` counts lines, `func_hash` is the first 128 bits of BLAKE3 over the
/// code, and what is not known is null (an unknown file is the word `None`, as PrimeVul writes it).
pub fn primevul_lines(records: &[VulnerabilityRecord]) -> Vec<Value> {
    let mut lines = Vec::new();
    for record in records {
        let sides = [(1, Some(&record.vulnerable)), (0, record.secure.as_ref())];
        for (index, (target, code)) in sides.into_iter().enumerate() {
            let Some(code) = code else { continue };
            let mut line = match record.original.get(index) {
                Some(original) => original.clone(),
                None => known_fields(record, target, code, lines.len()),
            };
            line.insert("func".into(), Value::String(code.clone()));
            lines.push(Value::Object(line));
        }
    }
    lines
}

fn known_fields(record: &VulnerabilityRecord, target: u8, code: &str, index: usize) -> Map<String, Value> {
    let digest = blake3::hash(code.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&digest.as_bytes()[..16]);
    // Digits written by Rust's own formatter are a number in JSON.
    let hash = Number::from_string_unchecked(u128::from_be_bytes(first).to_string());
    let file = record.file_name.clone().unwrap_or_else(|| "None".into());
    let fields = serde_json::json!({
        "idx": index, "project": record.project, "commit_id": record.commit, "project_url": null, "commit_url": null,
        "commit_message": null, "target": target, "func_hash": hash, "file_name": file, "file_hash": null,
        "cwe": record.cwe, "cve": record.cve, "cve_desc": record.description, "nvd_url": null,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
