//! `data import`.

use std::path::Path;

use vul2safe_corpus::{ColumnMap, Imported};

use super::{check_output, println};
use crate::cli::ImportArguments;
use crate::failure::{Failure, Result};
use crate::recipe::{DataConfig, plain_columns};
use crate::stages::import::{dropped_by_reason, import};
use crate::stages::write_lines;
use crate::words::visible;

pub(super) fn run(arguments: &ImportArguments) -> Result<()> {
    let data = DataConfig {
        source: arguments.source,
        path: Some(arguments.path.clone()),
        maximum_bytes: arguments.maximum_bytes,
        columns: Some(columns(arguments)?),
        ..DataConfig::default()
    };
    check_output(&arguments.out, &arguments.path)?;
    let imported = import(&data, 0)?;
    write_lines(&arguments.out, &imported.records)?;
    tell(&imported, &arguments.out)?;
    if imported.records.is_empty() {
        return Err(Failure::user(format!("{}: not one record can be used", arguments.path.display()))
            .with_hint("the reasons are listed above; check --source and, for tables, --column"));
    }
    Ok(())
}

/// How many were read, written and dropped, with reasons and examples.
pub(super) fn tell(imported: &Imported, out: &Path) -> Result<()> {
    println(&format!(
        "{} read, {} written to {}, {} dropped",
        imported.read,
        imported.records.len(),
        out.display(),
        imported.dropped.len()
    ))?;
    if !imported.mended.is_empty() {
        println(&format!("  {:>6}  put right: {}", imported.mended.len(), imported.mended[0].detail))?;
    }
    for (reason, count) in dropped_by_reason(imported) {
        println(&format!("  {count:>6}  {reason}"))?;
        for dropped in imported.dropped.iter().filter(|dropped| dropped.reason.to_string() == reason).take(3)
        {
            println(&format!("          {}: {}", visible(&dropped.place), visible(&dropped.detail)))?;
        }
    }
    Ok(())
}

/// The usual names, changed by every `--column field=name`.
fn columns(arguments: &ImportArguments) -> Result<ColumnMap> {
    let mut columns = plain_columns();
    if arguments.language.is_some() {
        columns.default_language = arguments.language;
    }
    if !arguments.column.is_empty() && !arguments.source.has_columns() {
        return Err(Failure::user(
            "--column is for `--source jsonl`, `csv` and `parquet`; the other formats name their columns themselves",
        ));
    }
    for text in &arguments.column {
        let Some((field, name)) = text.split_once('=') else {
            return Err(Failure::user(format!("--column {text}: there is no `=`"))
                .with_hint("write `--column FIELD=COLUMN`, for instance `--column vulnerable=before`"));
        };
        let name = name.to_owned();
        match field {
            "vulnerable" => columns.vulnerable = name,
            "secure" => columns.secure = Some(name),
            "id" => columns.id = Some(name),
            "language" => columns.language = Some(name),
            "cwe" => columns.cwe = Some(name),
            "cve" => columns.cve = Some(name),
            "project" => columns.project = Some(name),
            "commit" => columns.commit = Some(name),
            "date" => columns.date = Some(name),
            "file_name" => columns.file_name = Some(name),
            "license" => columns.license = Some(name),
            "function" => columns.function = Some(name),
            "description" => columns.description = Some(name),
            _ => {
                return Err(Failure::user(format!("--column {text}: there is no field `{field}`"))
                    .with_hint("`vul2safe data import --help` lists the fields"));
            }
        }
    }
    Ok(columns)
}
