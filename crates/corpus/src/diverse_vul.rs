//! DiverseVul: C and C++ functions of fixing commits, one JSON object a line: `func, target, cwe[], project, commit_id,
//! hash, size, message`.
//!
//! `target` 1 is a vulnerable function. Those with 0 are every other function of the changed files, the fix among
//! them, and nothing says which belongs to which flaw: so the vulnerable side alone is taken.

use serde_json::{Map, Value};

use crate::collect::Refusal;
use crate::fields::{c_family, optional, required, weaknesses};
use crate::{DropReason, SourceId, VulnerabilityRecord, primevul};

/// One line as a record without a secure side.
pub(crate) fn record(
    object: &Map<String, Value>,
    name: &str,
    number: usize,
) -> Result<VulnerabilityRecord, Refusal> {
    if primevul::target(object)? == 0 {
        return Err((DropReason::NotVulnerable, "target is 0: the function is not vulnerable".into()));
    }
    let vulnerable = required(object, "func")?.to_owned();
    let message = optional(object.get("message"));
    let hash = optional(object.get("hash"));
    let own = hash.unwrap_or_else(|| format!("{name}:{number}"));
    Ok(VulnerabilityRecord {
        id: format!("diversevul-{own}"),
        language: c_family(&vulnerable),
        cwe: weaknesses(object.get("cwe")),
        cve: message.as_deref().and_then(crate::fields::first_cve),
        project: optional(object.get("project")),
        commit: optional(object.get("commit_id")),
        date: None,
        license: None,
        file_name: None,
        function: None,
        description: message,
        vulnerable,
        secure: None,
        tests: None,
        split: None,
        original: Vec::new(),
        source: SourceId { dataset: "diversevul".into(), id: own },
    })
}
