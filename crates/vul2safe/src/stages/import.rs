//! Stage 1: records in, everything dropped counted by reason.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vul2safe_corpus::{Imported, ReadLimits, Source, read};

use super::Context;
use crate::failure::{Failure, Result};
use crate::recipe::{DataConfig, SourceKind};

/// Where the stage leaves the records.
pub const RECORDS: &str = "data/records.jsonl";
/// Where the stage leaves what it dropped.
pub const DROPPED: &str = "data/dropped.jsonl";

/// Reads the records of a recipe.
///
/// # Errors
/// A missing file or folder, or one with nothing in it that can be read.
pub fn import(data: &DataConfig, seed: u64) -> Result<Imported> {
    let path = || {
        data.path
            .clone()
            .ok_or_else(|| Failure::user("`data.path` is not set").with_hint("use `--set data.path=...`"))
    };
    let columns = || data.columns.clone().unwrap_or_default();
    let source = match data.source {
        SourceKind::Range => {
            let records = vul2safe_range::Selection::of(&data.families)?
                .vulnerability_records(data.records_per_family, seed);
            return Ok(Imported { read: records.len(), records, ..Imported::default() });
        }
        SourceKind::Sven => Source::Sven { path: path()? },
        SourceKind::Primevul => Source::PrimeVul { path: path()? },
        SourceKind::PrimevulPaired => Source::PrimeVulPaired { path: path()? },
        SourceKind::Linuxvul => Source::LinuxVul { path: path()? },
        SourceKind::Cyberseceval => Source::CyberSecEval { path: path()? },
        SourceKind::Cvefixes => Source::CveFixes { path: path()? },
        SourceKind::Diversevul => Source::DiverseVul { path: path()? },
        SourceKind::Megavul => Source::MegaVul { path: path()? },
        SourceKind::Jsonl => Source::Jsonl { path: path()?, columns: columns() },
        SourceKind::Csv => Source::Csv { path: path()?, columns: columns() },
        SourceKind::Parquet => Source::Parquet { path: path()?, columns: columns() },
        SourceKind::PrimevulPlus => Source::PrimeVulPlus { path: path()? },
    };
    let limits = ReadLimits { code_bytes: data.maximum_bytes, ..ReadLimits::default() };
    Ok(read(&source, &limits)?)
}

/// How many were dropped for which reason.
pub fn dropped_by_reason(imported: &Imported) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for dropped in &imported.dropped {
        *counts.entry(dropped.reason.to_string()).or_insert(0) += 1;
    }
    counts
}

/// The stage.
pub fn run(context: &Context<'_>) -> Result<Value> {
    let imported = import(&context.recipe.data, context.seed("import"))?;
    if imported.records.is_empty() {
        return Err(Failure::user(format!(
            "none of the {} records read can be used: {:?}",
            imported.read,
            dropped_by_reason(&imported)
        ))
        .with_hint("check `data.source` and `data.path`"));
    }
    context.write_lines(RECORDS, &imported.records)?;
    context.write_lines(DROPPED, &imported.dropped)?;
    let dropped = dropped_by_reason(&imported);
    Ok(json!({
        "line": format!(
            "{} read, {} usable, {} dropped{}",
            imported.read,
            imported.records.len(),
            imported.dropped.len(),
            reasons(&dropped),
        ),
        "read": imported.read,
        "usable": imported.records.len(),
        "dropped": dropped,
    }))
}

/// ` (12 identical_sides, 3 not_json)`, or nothing.
pub fn reasons(counts: &BTreeMap<String, usize>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!(" ({})", parts.join(", "))
}
