//! SVEN: paired functions with line and character changes (eth-sri/sven, `data_train_val`).
//!
//! Its offsets count *characters* (Unicode scalar values). They become bytes here, at the door.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vul2safe_code::{Cwe, Span};

use crate::collect::Refusal;
use crate::fields::{language_of_file, required};
use crate::source::jsonl_files;
use crate::{CorpusError, DropReason, SourceId, Split, VulnerabilityRecord};

/// One line of SVEN, with its changes as byte spans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SvenRow {
    /// Name of the function.
    pub func_name: String,
    /// The vulnerable function.
    pub func_src_before: String,
    /// The fixed function.
    pub func_src_after: String,
    /// `github.com/<owner>/<name>/commit/<hash>`.
    pub commit_link: String,
    /// Path of the file.
    pub file_name: String,
    /// `cwe-089`.
    pub vul_type: String,
    /// What the fix takes out of `func_src_before`.
    pub deleted: Vec<CharacterChange>,
    /// What the fix puts into `func_src_after`.
    pub added: Vec<CharacterChange>,
}

/// A changed piece of text. SVEN also writes empty ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CharacterChange {
    /// First character.
    pub char_start: usize,
    /// One past the last character.
    pub char_end: usize,
    /// The text that stands there.
    pub chars: String,
}

impl CharacterChange {
    /// The byte span of this change in `text`, or nothing when the text there is not `chars`.
    pub fn span(&self, text: &str) -> Option<Span> {
        if self.char_end < self.char_start {
            return None;
        }
        let start = byte_of_character(text, self.char_start)?;
        let end = start + byte_of_character(&text[start..], self.char_end - self.char_start)?;
        (text[start..end] == *self.chars).then(|| Span::new(start, end))
    }
}

/// The byte at which character `index` starts; the text's length for one past its last character.
fn byte_of_character(text: &str, index: usize) -> Option<usize> {
    text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(index)
}

impl SvenRow {
    /// Reads the fields of one line.
    ///
    /// # Errors
    /// The reason to drop the line, and what is wrong with which field.
    pub fn from_object(object: &Map<String, Value>) -> Result<Self, (DropReason, String)> {
        Ok(Self {
            func_name: required(object, "func_name")?.to_owned(),
            func_src_before: required(object, "func_src_before")?.to_owned(),
            func_src_after: required(object, "func_src_after")?.to_owned(),
            commit_link: required(object, "commit_link")?.to_owned(),
            file_name: required(object, "file_name")?.to_owned(),
            vul_type: required(object, "vul_type")?.to_owned(),
            deleted: changes(object, "deleted")?,
            added: changes(object, "added")?,
        })
    }

    /// Byte spans of what the fix deletes from the vulnerable and adds to the fixed side.
    ///
    /// # Errors
    /// `SwappedSides` when the changes describe the sides the other way round, `InvalidValue` when they describe
    /// neither.
    pub fn byte_changes(&self) -> Result<(Vec<Span>, Vec<Span>), (DropReason, String)> {
        let locate = |changes: &[CharacterChange], text: &str| -> Option<Vec<Span>> {
            changes.iter().map(|change| change.span(text)).collect()
        };
        let (before, after) = (&self.func_src_before, &self.func_src_after);
        if let (Some(deleted), Some(added)) = (locate(&self.deleted, before), locate(&self.added, after)) {
            return Ok((deleted, added));
        }
        if locate(&self.deleted, after).is_some() && locate(&self.added, before).is_some() {
            let detail = "char_changes fit only when func_src_before and func_src_after change places";
            return Err((DropReason::SwappedSides, detail.into()));
        }
        Err((DropReason::InvalidValue, "char_changes do not stand in the functions at their offsets".into()))
    }
}

fn changes(object: &Map<String, Value>, which: &str) -> Result<Vec<CharacterChange>, Refusal> {
    let all = object
        .get("char_changes")
        .ok_or((DropReason::MissingField, "field `char_changes` is absent".to_owned()))?;
    let list = all
        .get(which)
        .ok_or_else(|| (DropReason::MissingField, format!("field `char_changes.{which}` is absent")))?;
    Vec::<CharacterChange>::deserialize(list)
        .map_err(|error| (DropReason::WrongType, format!("field `char_changes.{which}`: {error}")))
}

/// The files of a SVEN folder (`data_train_val/{train,val}`, `{train,val}` or a flat one), or the one file given.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    for root in [path.join("data_train_val"), path.to_owned()] {
        let parts: Vec<_> = ["train", "val"].iter().map(|part| root.join(part)).collect();
        if parts.iter().any(|part| part.is_dir()) {
            let mut files = Vec::new();
            for part in parts.iter().filter(|part| part.is_dir()) {
                files.extend(jsonl_files(part)?);
            }
            return Ok(files);
        }
    }
    jsonl_files(path)
}

/// One line as a record; the split is SVEN's own, from the folder's name.
pub(crate) fn record(
    object: &Map<String, Value>,
    file: &Path,
    name: &str,
    line: usize,
) -> Result<VulnerabilityRecord, Refusal> {
    let row = SvenRow::from_object(object)?;
    row.byte_changes()?;
    let cwe = Cwe::parse(&row.vul_type).ok_or_else(|| {
        (DropReason::InvalidValue, format!("field `vul_type`: `{}` is no CWE", row.vul_type))
    })?;
    let language = language_of_file(&row.file_name, &row.func_src_before).ok_or_else(|| {
        (DropReason::UnknownLanguage, format!("field `file_name`: no known language in `{}`", row.file_name))
    })?;
    let folder = file.parent().and_then(Path::file_name).map(|folder| folder.to_string_lossy().into_owned());
    let split = match folder.as_deref() {
        Some("train") => Some(Split::Train),
        Some("val") => Some(Split::Validation),
        _ => None,
    };
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let part = if split == Some(Split::Validation) { "val" } else { "train" };
    let (project, commit) = project_and_commit(&row.commit_link);
    Ok(VulnerabilityRecord {
        id: format!("sven-{part}-{stem}-{line}"),
        language,
        cwe: vec![cwe],
        cve: None,
        project,
        commit,
        date: None,
        license: None,
        file_name: Some(row.file_name),
        function: Some(row.func_name),
        description: None,
        vulnerable: row.func_src_before,
        secure: Some(row.func_src_after),
        tests: None,
        split,
        original: Vec::new(),
        source: SourceId { dataset: "sven".into(), id: format!("{name}:{line}") },
    })
}

/// Splits `github.com/<owner>/<name>/commit/<hash>`.
pub(crate) fn project_and_commit(link: &str) -> (Option<String>, Option<String>) {
    let link = link.trim_start_matches("https://").trim_start_matches("http://");
    let (head, commit) = match link.split_once("/commit/") {
        Some((head, commit)) => (head, Some(commit.trim_end_matches('/').to_owned())),
        None => (link, None),
    };
    let project = head.split_once('/').map(|(_, project)| project.to_owned());
    (project.filter(|project| !project.is_empty()), commit.filter(|commit| !commit.is_empty()))
}
