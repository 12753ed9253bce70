//! The scenarios of SVEN and SafeCoder (github.com/eth-sri/sven, github.com/eth-sri/SafeCoder): code that invites a
//! weakness and is to be completed.
//!
//! In the repositories a scenario is a folder `…/cwe-089/0-py` with `info.json` and the two files `file_context.*` and
//! `func_context.*`; a JSON Lines file has the fields of `info.json` and `path, set, cwe, file_context, func_context`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::source::Record;
use super::{Format, Layout, SourceFile, SuiteError, Tasks};
use crate::item::{Completion, Form, Item};
use vul2safe_code::{Cwe, Language};

pub(super) const FORMAT: Format = Format {
    word: "sven-scenarios",
    name: "SVEN and SafeCoder scenarios",
    layout: Layout::Either {
        wanted: "data_eval",
        belongs: |name| {
            name == "info.json" || name.starts_with("file_context.") || name.starts_with("func_context.")
        },
    },
    parse,
};

fn parse(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    let in_folders = files.iter().any(|file| file.path.file_name().is_some_and(|name| name == "info.json"));
    if in_folders { folders(files, tasks) } else { lines(files, tasks) }
}

fn lines(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    for record in files.iter().map(SourceFile::records).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let cwe = record.filled("cwe")?;
        let scenario = Scenario {
            id: record.filled("path")?.to_owned(),
            group: record.filled("set")?.to_owned(),
            cwe: cwe_of(cwe, &record.place)?,
            file_context: record.text("file_context")?,
            func_context: record.text("func_context")?,
        };
        scenario.push(&record, tasks)?;
    }
    Ok(())
}

fn folders(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    let mut scenarios: BTreeMap<PathBuf, BTreeMap<String, &SourceFile>> = BTreeMap::new();
    for file in files {
        let (Some(folder), Some(stem)) = (file.path.parent(), file.path.file_stem()) else { continue };
        scenarios.entry(folder.to_path_buf()).or_default().insert(stem.to_string_lossy().into_owned(), file);
    }
    for (folder, files) in scenarios {
        let place = folder.display().to_string();
        let file = |name: &str, field: &'static str| {
            files.get(name).copied().ok_or_else(|| SuiteError::Missing {
                place: place.clone(),
                field,
                found: files.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
            })
        };
        let info = file("info", "info.json")?;
        let value: Value = serde_json::from_str(info.text()?)
            .map_err(|error| SuiteError::broken(info.path.display().to_string(), error))?;
        let record = Record::new(info.path.display().to_string(), value)?;
        let part = |path: Option<&Path>| {
            path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let (scenario, cwe) = (part(Some(&folder)), part(folder.parent()));
        let group = part(folder.parent().and_then(Path::parent));
        let scenario = Scenario {
            id: format!("{group}/{cwe}/{scenario}"),
            cwe: cwe_of(&cwe, &place)?,
            group,
            file_context: file("file_context", "file_context.*")?.text()?,
            func_context: file("func_context", "func_context.*")?.text()?,
        };
        scenario.push(&record, tasks)?;
    }
    Ok(())
}

fn cwe_of(text: &str, place: &str) -> Result<Cwe, SuiteError> {
    Cwe::parse(text).ok_or_else(|| SuiteError::broken(place, format!("{text:?} is no CWE number")))
}

struct Scenario<'a> {
    id: String,
    group: String,
    cwe: Cwe,
    file_context: &'a str,
    func_context: &'a str,
}

impl Scenario<'_> {
    fn push(self, record: &Record, tasks: &mut Tasks) -> Result<(), SuiteError> {
        if self.func_context.trim().is_empty() {
            return Err(SuiteError::broken(&record.place, "there is no code to complete"));
        }
        let Some(language) = tasks.language(record.filled("language")?) else { return Ok(()) };
        let prompt = format!("{}{}", self.file_context, self.func_context);
        let mark = if language == Language::Python { "python" } else { language.as_str() };
        let stop: &[&str] = match language {
            Language::Python => &["\ndef ", "\nclass ", "\nif ", "\n@", "\nprint"],
            // The closing brace of the function belongs to the answer.
            _ => &["\nint main", "\nvoid ", "\nstatic ", "\n#include"],
        };
        let item = Item {
            request: format!(
                "Complete this code. Answer with the complete code in one block.\n\n```{mark}\n{prompt}\n```\n"
            ),
            form: Form::Completion(Completion {
                head: self.file_context.len(),
                prompt,
                stop: stop.iter().map(|&stop| stop.to_owned()).collect(),
                ..Completion::default()
            }),
            ..Item::new(self.id, self.group, language).with_weakness(Some(self.cwe))
        };
        tasks.push(item, &record.place)
    }
}
