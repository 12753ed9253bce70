//! Any table, by the names of its columns.

use serde_json::{Map, Value};

use crate::collect::Refusal;
use crate::fields::{day, kind, language_of_file, optional, weaknesses};
use crate::source::ColumnMap;
use crate::{DropReason, SourceId, VulnerabilityRecord};

/// One line or row as a record.
pub(crate) fn record(
    object: &Map<String, Value>,
    columns: &ColumnMap,
    dataset: &str,
    file: &str,
    line: usize,
) -> Result<VulnerabilityRecord, Refusal> {
    let text = |column: &Option<String>| column.as_deref().and_then(|column| optional(field(object, column)));
    let vulnerable = code(object, &columns.vulnerable)?.ok_or_else(|| {
        (DropReason::MissingField, format!("column `{}` (vulnerable) is null", columns.vulnerable))
    })?;
    let secure = match &columns.secure {
        Some(column) => code(object, column)?,
        None => None,
    };
    let file_name = text(&columns.file_name);
    let named = text(&columns.language);
    let language = match &named {
        Some(name) => name
            .parse()
            .map_err(|_| (DropReason::UnknownLanguage, format!("language `{name}` is not supported")))?,
        None => file_name
            .as_deref()
            .and_then(|name| language_of_file(name, &vulnerable))
            .or(columns.default_language)
            .ok_or_else(|| {
                (
                    DropReason::UnknownLanguage,
                    "the line names no language and default_language is not set".into(),
                )
            })?,
    };
    let id = text(&columns.id);
    let place = format!("{file}:{line}");
    Ok(VulnerabilityRecord {
        id: id.clone().unwrap_or_else(|| format!("{dataset}-{place}")),
        language,
        cwe: columns.cwe.as_deref().map(|column| weaknesses(field(object, column))).unwrap_or_default(),
        cve: text(&columns.cve),
        project: text(&columns.project),
        commit: text(&columns.commit),
        date: columns.date.as_deref().and_then(|column| date(field(object, column))),
        license: text(&columns.license),
        file_name,
        function: text(&columns.function),
        description: text(&columns.description),
        vulnerable,
        secure,
        tests: None,
        split: None,
        original: Vec::new(),
        source: SourceId { dataset: dataset.into(), id: id.unwrap_or(place) },
    })
}

/// A column by its name, or by a path with dots into nested objects.
fn field<'v>(object: &'v Map<String, Value>, column: &str) -> Option<&'v Value> {
    if let Some(value) = object.get(column) {
        return Some(value);
    }
    let (head, rest) = column.split_once('.')?;
    field(object.get(head)?.as_object()?, rest)
}

fn code(object: &Map<String, Value>, column: &str) -> Result<Option<String>, Refusal> {
    match field(object, column) {
        Some(Value::String(code)) => Ok(Some(code.clone())),
        Some(Value::Null) => Ok(None),
        Some(other) => {
            Err((DropReason::WrongType, format!("column `{column}` is {}, not a string", kind(other))))
        }
        None => {
            let present: Vec<_> = object.keys().take(12).map(|key| format!("`{key}`")).collect();
            let detail = format!("column `{column}` is absent; the line has {}", present.join(", "));
            Err((DropReason::MissingField, detail))
        }
    }
}

/// A day; in CSV, seconds since 1970 come as a text of digits.
fn date(value: Option<&Value>) -> Option<String> {
    let seconds = match value {
        Some(Value::String(text)) => text.trim().parse::<i64>().ok(),
        _ => None,
    };
    day(seconds.map(Value::from).as_ref().or(value))
}
