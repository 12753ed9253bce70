//! What was run, where the time went and what became of the records.

use serde::Serialize;
use serde_json::Value;
use vul2safe_run::{DataSummary, StageEntry};

use crate::format;

/// The head of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    /// The run's name: from its configuration, otherwise the folder's.
    pub name: String,
    pub folder: String,
    pub seed: Option<String>,
    pub version: Option<String>,
    pub started_at: Option<String>,
    /// When the last stage was finished.
    pub finished_at: Option<String>,
    /// Everything else `environment.json` says.
    pub environment: Vec<(String, String)>,
    pub configuration: String,
}

pub(crate) fn overview(
    folder: String,
    configuration: String,
    environment: Option<&Value>,
    stages: &[StageEntry],
) -> Overview {
    let table: toml::Table = configuration.parse().unwrap_or_default();
    let name = table.get("name").and_then(toml::Value::as_str).unwrap_or(&folder).to_owned();
    let mut entries = Vec::new();
    if let Some(environment) = environment {
        flatten("", environment, &mut entries);
    }
    let mut take = |names: &[&str]| {
        let index = entries.iter().position(|(name, _)| names.contains(&name.as_str()))?;
        Some(entries.remove(index).1)
    };
    let seed = take(&["seed"]).or_else(|| table.get("seed").map(toml::Value::to_string));
    let version = take(&["vul2safe", "version"]);
    let started_at = take(&["started_at"]).map(|time| moment(&time));
    let finished_at = stages.last().map(|stage| moment(&stage.finished_at));
    Overview { name, folder, seed, version, started_at, finished_at, environment: entries, configuration }
}

/// `2026-11-22T23:08:30Z` as `2026-11-22 23:08:30 UTC`; anything else as it is.
fn moment(time: &str) -> String {
    match time.strip_suffix('Z').and_then(|time| time.split_once('T')) {
        Some((day, time)) => format!("{day} {} UTC", time.split('.').next().unwrap_or(time)),
        None => time.to_owned(),
    }
}

/// Dotted names and plain values of a JSON value.
fn flatten(prefix: &str, value: &Value, entries: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, entries);
            }
        }
        Value::String(text) => entries.push((prefix.to_owned(), text.clone())),
        other => entries.push((prefix.to_owned(), other.to_string())),
    }
}

/// A finished stage.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    pub name: String,
    pub duration: String,
    pub seconds: String,
    pub finished_at: String,
    /// The stage's own sentence.
    pub line: Option<String>,
    pub summary: Vec<(String, String)>,
    /// Length of its bar: 100 for the longest stage.
    pub bar: f64,
}

pub(crate) fn stages(entries: &[StageEntry]) -> Vec<Stage> {
    let longest = entries.iter().map(|entry| entry.seconds).fold(0.0, f64::max);
    entries
        .iter()
        .map(|entry| {
            let mut summary = Vec::new();
            flatten("", &entry.summary, &mut summary);
            let line =
                summary.iter().position(|(name, _)| name == "line").map(|index| summary.remove(index).1);
            summary.retain(|(_, value)| value != "null");
            Stage {
                name: entry.stage.clone(),
                duration: format::duration(entry.seconds),
                seconds: format::exact(entry.seconds),
                finished_at: moment(&entry.finished_at),
                line,
                summary,
                bar: length(entry.seconds, longest),
            }
        })
        .collect()
}

/// Counts that belong together.
#[derive(Debug, Serialize)]
pub(crate) struct DataTable {
    pub title: String,
    pub rows: Vec<DataRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DataRow {
    pub label: String,
    pub count: u64,
    pub shown: String,
    /// Length of its bar: 100 for the largest count of its table.
    pub bar: f64,
}

pub(crate) fn data(summary: &DataSummary) -> Vec<DataTable> {
    let table = |section: &vul2safe_run::DataSection| {
        let largest = section.rows.iter().map(|(_, count)| *count).max().unwrap_or(0) as f64;
        let rows = section.rows.iter().map(|(label, count)| DataRow {
            label: label.clone(),
            count: *count,
            shown: format::count(*count),
            bar: length(*count as f64, largest),
        });
        DataTable { title: section.title.clone(), rows: rows.collect() }
    };
    summary.sections.iter().map(table).collect()
}

fn length(value: f64, longest: f64) -> f64 {
    if longest > 0.0 { (value / longest * 1000.0).round() / 10.0 } else { 0.0 }
}
