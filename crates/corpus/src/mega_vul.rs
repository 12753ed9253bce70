//! MegaVul: functions of fixing commits in C, C++ and Java (`megavul.json`, `megavul_simple.json`), one JSON array.
//!
//! Used are `cve_id, cwe_ids[], repo_name, commit_hash, commit_date, commit_msg, file_path, func_name, func_before,
//! func, is_vul`. Where `is_vul` is true, `func_before` is the vulnerable function and `func` its fix.

use serde_json::{Map, Value};

use crate::collect::Refusal;
use crate::fields::{day, kind, language_of_file, optional, required, weaknesses};
use crate::{DropReason, SourceId, VulnerabilityRecord};

/// One element as a record.
pub(crate) fn record(
    object: &Map<String, Value>,
    name: &str,
    number: usize,
) -> Result<VulnerabilityRecord, Refusal> {
    match object.get("is_vul") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => {
            return Err((
                DropReason::NotVulnerable,
                "is_vul is false: the function is not vulnerable".into(),
            ));
        }
        Some(other) => {
            return Err((DropReason::WrongType, format!("field `is_vul` is {}, not a boolean", kind(other))));
        }
        None => return Err((DropReason::MissingField, "field `is_vul` is absent".into())),
    }
    let vulnerable = required(object, "func_before")?.to_owned();
    let file_name = required(object, "file_path")?.to_owned();
    let language = language_of_file(&file_name, &vulnerable).ok_or_else(|| {
        (DropReason::UnknownLanguage, format!("field `file_path`: no known language in `{file_name}`"))
    })?;
    let commit = optional(object.get("commit_hash"));
    let function = optional(object.get("func_name"));
    let short = commit.as_deref().map_or("x", |commit| commit.get(..12).unwrap_or(commit));
    Ok(VulnerabilityRecord {
        id: format!("megavul-{short}-{}", function.as_deref().unwrap_or("function")),
        language,
        cwe: weaknesses(object.get("cwe_ids")),
        cve: optional(object.get("cve_id")),
        project: optional(object.get("repo_name")),
        commit,
        date: day(object.get("commit_date")),
        license: None,
        file_name: Some(file_name),
        function,
        description: optional(object.get("commit_msg")),
        vulnerable,
        secure: Some(required(object, "func")?.to_owned()),
        tests: None,
        split: None,
        original: Vec::new(),
        source: SourceId { dataset: "megavul".into(), id: format!("{name}:{number}") },
    })
}
