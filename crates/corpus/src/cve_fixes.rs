//! CVEfixes: a SQLite database of fixing commits with their files and methods (secureIT-project/CVEfixes,
//! `Doc/DataDictionary.md`).
//!
//! Used are the tables `fixes (cve_id, hash, repo_url)`, `cve (cve_id, description)`, `cwe_classification (cve_id,
//! cwe_id)`, `commits (hash, committer_date)`, `file_change (file_change_id, hash, new_path, filename,
//! programming_language)` and `method_change (file_change_id, name, signature, code, before_change)`. A method before
//! the change belongs to the one after it with the same signature in the same file, else to the only one of its name.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use vul2safe_code::{Cwe, Language};

use crate::collect::{Collector, Refusal};
use crate::fields::{day, language_of_file, optional};
use crate::{CorpusError, DropReason, SourceId, VulnerabilityRecord};

const METHODS: &str = "SELECT m.file_change_id, m.name, m.signature, m.code, m.before_change, f.hash, f.new_path, \
     f.filename, f.programming_language, c.committer_date \
     FROM method_change m JOIN file_change f ON f.file_change_id = m.file_change_id \
     LEFT JOIN commits c ON c.hash = f.hash \
     ORDER BY m.file_change_id, m.rowid";

/// Reads the database, one file's methods at a time. A unit of input is a method with its other side, or one without.
pub(crate) fn read(path: &Path, name: &str, collector: &mut Collector<'_>) -> Result<(), CorpusError> {
    let broken =
        |error: rusqlite::Error| CorpusError::Database { path: path.to_owned(), message: error.to_string() };
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(broken)?;
    let fixes = fixes(&connection).map_err(broken)?;
    let mut statement = connection.prepare(METHODS).map_err(broken)?;
    let mut rows = statement.query([]).map_err(broken)?;
    let (mut file, mut number): (Option<File>, usize) = (None, 0);
    while let Some(row) = rows.next().map_err(broken)? {
        number += 1;
        let id = text(row, 0).map_err(broken)?.ok();
        if file.as_ref().is_none_or(|file| file.id != id) {
            finish(file.take(), &fixes, name, collector);
            file = Some(File::of_row(row, id).map_err(broken)?);
        }
        let method = Method {
            number,
            name: text(row, 1).map_err(broken)?.unwrap_or_default(),
            signature: text(row, 2).map_err(broken)?.unwrap_or_default(),
            code: text(row, 3).map_err(broken)?,
        };
        if let Some(file) = &mut file {
            match text(row, 4).map_err(broken)?.as_deref() {
                Ok("True" | "true" | "1") => file.before.push(method),
                Ok("False" | "false" | "0") => file.after.push(method),
                _ => {
                    let detail = "before_change is neither True nor False".to_owned();
                    collector.add(name, number, Err((DropReason::InvalidValue, detail)));
                }
            }
        }
    }
    finish(file, &fixes, name, collector);
    Ok(())
}

/// What the CVEs of one commit say.
#[derive(Default)]
struct Fix {
    cve: Option<String>,
    project: Option<String>,
    description: Option<String>,
    cwe: Vec<Cwe>,
}

fn fixes(connection: &Connection) -> rusqlite::Result<HashMap<String, Fix>> {
    let mut fixes: HashMap<String, Fix> = HashMap::new();
    let mut statement = connection.prepare(
        "SELECT x.hash, x.cve_id, x.repo_url, v.description, w.cwe_id FROM fixes x \
         LEFT JOIN cve v ON v.cve_id = x.cve_id LEFT JOIN cwe_classification w ON w.cve_id = x.cve_id \
         ORDER BY x.cve_id, x.rowid, w.rowid",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let column = |index| Ok::<_, rusqlite::Error>(text(row, index)?.ok());
        let Some(hash) = column(0)? else { continue };
        let fix = fixes.entry(hash).or_default();
        let project = column(2)?.map(|url| url.trim_end_matches(".git").to_owned());
        let project =
            project.map(|url| match url.split_once("://").and_then(|(_, rest)| rest.split_once('/')) {
                Some((_, project)) => project.trim_end_matches('/').to_owned(),
                None => url,
            });
        let description = column(3)?.map(|description| english(&description));
        fix.cve = fix.cve.take().or(column(1)?);
        fix.project = fix.project.take().or(project);
        fix.description = fix.description.take().or(description);
        if let Some(cwe) = column(4)?.as_deref().and_then(Cwe::parse)
            && !fix.cwe.contains(&cwe)
        {
            fix.cwe.push(cwe);
        }
    }
    Ok(fixes)
}

/// The text of a description, which the database keeps as a Python list: `[{'lang': 'en', 'value': '...'}]`.
fn english(description: &str) -> String {
    let quoted = description.split_once("'value': ").and_then(|(_, rest)| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let inside = &rest[1..];
        let mut escaped = false;
        let end = inside.find(|character| {
            let ends = character == quote && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        })?;
        Some(
            inside[..end]
                .replace("\\n", "\n")
                .replace("\\'", "'")
                .replace("\\\"", "\"")
                .replace("\\\\", "\\"),
        )
    });
    quoted.unwrap_or_else(|| description.to_owned())
}

/// A column as text: the refusal when it holds none.
fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<Result<String, Refusal>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => Err((DropReason::MissingField, format!("column {} is null", index + 1))),
        ValueRef::Integer(number) => Ok(number.to_string()),
        ValueRef::Real(number) => Ok(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8(bytes.to_vec())
            .map_err(|error| (DropReason::NotUtf8, format!("column {} is not UTF-8: {error}", index + 1))),
    })
}

struct Method {
    number: usize,
    name: String,
    signature: String,
    code: Result<String, Refusal>,
}

/// One changed file with its methods.
struct File {
    id: Option<String>,
    hash: Option<String>,
    path: Option<String>,
    language: Option<String>,
    date: Option<String>,
    before: Vec<Method>,
    after: Vec<Method>,
}

impl File {
    fn of_row(row: &Row<'_>, id: Option<String>) -> rusqlite::Result<Self> {
        let known = |index| -> rusqlite::Result<Option<String>> {
            Ok(text(row, index)?.ok().and_then(|text| optional(Some(&text.into()))))
        };
        Ok(Self {
            id,
            hash: known(5)?,
            path: known(6)?.or(known(7)?),
            language: known(8)?,
            date: known(9)?.and_then(|date| day(Some(&date.into()))),
            before: Vec::new(),
            after: Vec::new(),
        })
    }

    /// The extension goes before the column, which was guessed from the text.
    fn language(&self, code: &str) -> Option<Language> {
        let of_file = self.path.as_deref().and_then(|path| language_of_file(path, code));
        of_file.or_else(|| self.language.as_deref()?.parse().ok())
    }
}

fn finish(file: Option<File>, fixes: &HashMap<String, Fix>, name: &str, collector: &mut Collector<'_>) {
    let Some(mut file) = file else { return };
    for method in std::mem::take(&mut file.before) {
        let same_signature = file.after.iter().position(|after| after.signature == method.signature);
        let mut same_name = file.after.iter().enumerate().filter(|(_, after)| after.name == method.name);
        let only = same_name.next().map(|(index, _)| index).filter(|_| same_name.next().is_none());
        let partner = same_signature.or(only).map(|index| file.after.remove(index));
        let number = method.number;
        collector.add(name, number, record(&file, method, partner, fixes));
    }
    for method in &file.after {
        let detail = format!("`{}` is not there before the change", method.name);
        collector.add(name, method.number, Err((DropReason::OneSided, detail)));
    }
}

fn record(
    file: &File,
    method: Method,
    partner: Option<Method>,
    fixes: &HashMap<String, Fix>,
) -> Result<VulnerabilityRecord, Refusal> {
    let partner = partner
        .ok_or_else(|| (DropReason::OneSided, format!("`{}` is not there after the change", method.name)))?;
    let (vulnerable, secure) = (method.code?, partner.code?);
    let language = file.language(&vulnerable).ok_or_else(|| {
        let said = file.path.as_deref().or(file.language.as_deref()).unwrap_or("nothing");
        (DropReason::UnknownLanguage, format!("no known language in `{said}`"))
    })?;
    let commit = file.hash.clone();
    let fix = commit.as_deref().and_then(|hash| fixes.get(hash));
    let short = commit.as_deref().map_or("x", |commit| commit.get(..12).unwrap_or(commit));
    Ok(VulnerabilityRecord {
        id: format!("cvefixes-{short}-{}", method.name),
        language,
        cwe: fix.map(|fix| fix.cwe.clone()).unwrap_or_default(),
        cve: fix.and_then(|fix| fix.cve.clone()),
        project: fix.and_then(|fix| fix.project.clone()),
        commit,
        date: file.date.clone(),
        license: None,
        file_name: file.path.clone(),
        function: Some(method.name),
        description: fix.and_then(|fix| fix.description.clone()),
        vulnerable,
        secure: Some(secure),
        tests: None,
        split: None,
        original: Vec::new(),
        source: SourceId {
            dataset: "cvefixes".into(),
            id: format!("{}:{}", file.id.as_deref().unwrap_or("?"), method.signature),
        },
    })
}
