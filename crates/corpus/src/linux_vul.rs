//! LinuxVul: Linux kernel functions before and after the fix of a CVE (KnowledgeRAG4LLMVulD, `benchmark/`).
//!
//! One JSON array a file: `cve_id, code_before_change, code_after_change, patch, function_modified_lines, cwe[],
//! cve_description, id`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vul2safe_code::Language;

use crate::collect::Refusal;
use crate::fields::{optional, required, weaknesses};
use crate::source::files_with;
use crate::{CorpusError, SourceId, Split, VulnerabilityRecord};

/// The files of `train` and `test` (or of `benchmark/` with them), of a flat folder, or the one file given.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    for root in [path.join("benchmark"), path.to_owned()] {
        let parts: Vec<_> =
            ["train", "test"].iter().map(|part| root.join(part)).filter(|part| part.is_dir()).collect();
        if !parts.is_empty() {
            let files: Result<Vec<_>, _> = parts.iter().map(|part| files_with(part, &["json"])).collect();
            return Ok(files?.concat());
        }
    }
    files_with(path, &["json"])
}

/// One element as a record; the split is the data set's own, from the folder's name.
pub(crate) fn record(
    object: &Map<String, Value>,
    file: &Path,
    name: &str,
    number: usize,
) -> Result<VulnerabilityRecord, Refusal> {
    let folder = file.parent().and_then(Path::file_name).map(|folder| folder.to_string_lossy().into_owned());
    let split = match folder.as_deref() {
        Some("train") => Some(Split::Train),
        Some("test") => Some(Split::Test),
        _ => None,
    };
    let own = optional(object.get("id"));
    let part = if split == Some(Split::Test) { "test" } else { "train" };
    Ok(VulnerabilityRecord {
        id: format!("linuxvul-{part}-{}", own.clone().unwrap_or_else(|| format!("{name}-{number}"))),
        language: Language::C,
        cwe: weaknesses(object.get("cwe")),
        cve: optional(object.get("cve_id")),
        project: Some("torvalds/linux".into()),
        commit: None,
        date: None,
        // The kernel's own licence: the data set holds nothing but its functions.
        license: Some("GPL-2.0-only".into()),
        file_name: None,
        function: None,
        description: optional(object.get("cve_description")),
        vulnerable: required(object, "code_before_change")?.to_owned(),
        secure: Some(required(object, "code_after_change")?.to_owned()),
        tests: None,
        split,
        original: Vec::new(),
        source: SourceId {
            dataset: "linuxvul".into(),
            id: own.map_or_else(|| format!("{name}:{number}"), |own| format!("{name}#{own}")),
        },
    })
}
