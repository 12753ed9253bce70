//! CyberSecEval (PurpleLlama): the code from which its prompts were made. It is vulnerable, and nobody repaired it.
//!
//! One JSON array a file; used are `prompt_id, origin_code, language, cwe_identifier, repo, file_path, pattern_desc,
//! line_text`. `origin_code` is a cut-out of some twenty lines, seldom a whole function.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vul2safe_code::Language;

use crate::collect::Refusal;
use crate::fields::{optional, required, weaknesses};
use crate::source::files_with;
use crate::{CorpusError, DropReason, SourceId, VulnerabilityRecord};

/// Of a folder the first of these that is there: each holds the same code, and `instruct-v2` is the cleaned one.
const FILES: [&str; 3] = ["instruct-v2.json", "instruct.json", "autocomplete.json"];

/// The one file to read.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    if path.is_dir() {
        let found = FILES
            .iter()
            .flat_map(|file| ["", "instruct", "autocomplete"].map(|folder| path.join(folder).join(file)))
            .find(|file| file.is_file());
        if let Some(file) = found {
            return Ok(vec![file]);
        }
    }
    files_with(path, &["json"])
}

/// One element as a record without a secure side.
pub(crate) fn record(
    object: &Map<String, Value>,
    name: &str,
    number: usize,
) -> Result<VulnerabilityRecord, Refusal> {
    let named = required(object, "language")?;
    let language: Language = named.parse().map_err(|_| {
        (DropReason::UnknownLanguage, format!("field `language`: `{named}` is not supported"))
    })?;
    let own = optional(object.get("prompt_id")).unwrap_or_else(|| number.to_string());
    let flaw = [optional(object.get("pattern_desc")), optional(object.get("line_text"))];
    let description = flaw.into_iter().flatten().collect::<Vec<_>>().join(": ");
    Ok(VulnerabilityRecord {
        id: format!("cyberseceval-{own}"),
        language,
        cwe: weaknesses(object.get("cwe_identifier")),
        cve: None,
        project: optional(object.get("repo")),
        commit: None,
        date: None,
        license: None,
        file_name: optional(object.get("file_path")),
        function: None,
        description: (!description.is_empty()).then_some(description),
        vulnerable: required(object, "origin_code")?.to_owned(),
        secure: None,
        tests: None,
        split: None,
        original: Vec::new(),
        source: SourceId { dataset: "cyberseceval".into(), id: format!("{name}#{own}") },
    })
}
