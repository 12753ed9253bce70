//! Public suites, read in their public formats from a path that the user gives; one file a suite.
//!
//! A new suite is a file of this folder with a [`Format`] and a line in [`FORMATS`]; `docs/src/reference/suites.md` says
//! how, step by step.

mod csv;
mod cweval;
mod cyberseceval;
mod cyberseceval_autocomplete;
mod cyberseceval_instruct;
mod error;
mod humaneval;
mod humaneval_pro;
mod llmseceval;
mod mbpp;
mod mbpp_pro;
mod pro;
mod python;
mod range;
mod securityeval;
pub(crate) mod source;
mod sven_scenarios;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use vul2safe_code::Language;

use crate::Item;
pub use error::SuiteError;
pub use range::{range, range_of};
use source::Ids;
pub use source::{MAXIMUM_FILE_BYTES, SourceFile};

/// The public suites, in the order of the documentation.
pub const FORMATS: [&Format; 10] = [
    &humaneval::FORMAT,
    &mbpp::FORMAT,
    &humaneval_pro::FORMAT,
    &mbpp_pro::FORMAT,
    &cyberseceval_instruct::FORMAT,
    &cyberseceval_autocomplete::FORMAT,
    &sven_scenarios::FORMAT,
    &securityeval::FORMAT,
    &llmseceval::FORMAT,
    &cweval::FORMAT,
];

/// The format of a public suite.
pub struct Format {
    /// The word on the command line and in recipes.
    pub word: &'static str,
    /// The suite's name.
    pub name: &'static str,
    /// What a path must be.
    pub layout: Layout,
    /// Reads the tasks out of the files.
    parse: fn(&[SourceFile], &mut Tasks) -> Result<(), SuiteError>,
}

/// What the path of a suite must be.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// One file.
    File {
        /// What it is called in the suite's repository.
        wanted: &'static str,
    },
    /// A folder with files of these kinds, at any depth.
    Folder {
        /// What it is called in the suite's repository.
        wanted: &'static str,
        /// Whether a file, by its name, belongs to the suite.
        belongs: fn(&str) -> bool,
    },
    /// Either of the two.
    Either {
        /// What the file or folder is called in the suite's repository.
        wanted: &'static str,
        /// Whether a file of the folder, by its name, belongs to the suite.
        belongs: fn(&str) -> bool,
    },
}

/// A suite that was read.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Its tasks, in their order.
    pub items: Vec<Item>,
    /// Tasks that cannot be judged, counted by the reason.
    pub left_out: BTreeMap<String, usize>,
}

impl Suite {
    /// A fingerprint of the tasks, their requests and their tests, in hexadecimal: figures of suites that differ in it are
    /// not comparable.
    pub fn version(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for item in &self.items {
            // The length keeps one task's text from running into another's. A task is plain data and always has a JSON form.
            let text = serde_json::to_vec(item).unwrap_or_default();
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(&text);
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// What a reader has found so far.
#[derive(Default)]
pub struct Tasks {
    items: Vec<Item>,
    left_out: BTreeMap<String, usize>,
    ids: Ids,
}

impl Tasks {
    /// One more task; `place` says where it stands.
    fn push(&mut self, item: Item, place: &str) -> Result<(), SuiteError> {
        self.ids.take(&item.id, place)?;
        self.items.push(item);
        Ok(())
    }

    /// The language that `word` names; none, and the task is counted as left out, if it is none that can be judged.
    fn language(&mut self, word: &str) -> Option<Language> {
        // Tasks that neither rules nor tests can judge would only dilute the rates.
        let language = word.parse().ok().filter(|language| vul2safe_analyze::covers(*language));
        if language.is_none() {
            *self.left_out.entry(format!("language {}", source::short(word.trim()))).or_default() += 1;
        }
        language
    }
}

impl Format {
    /// The format with this word.
    pub fn by_word(word: &str) -> Option<&'static Format> {
        FORMATS.iter().copied().find(|format| format.word == word)
    }

    /// Reads the suite at `path`.
    ///
    /// # Errors
    /// A path that is not what [`Format::layout`] says, a file that is not in the suite's format (with its place), two
    /// tasks with one id, no task at all.
    pub fn read(&self, path: &Path) -> Result<Suite, SuiteError> {
        let metadata =
            std::fs::metadata(path).map_err(|source| SuiteError::Io { path: path.to_path_buf(), source })?;
        let (as_file, belongs) = match self.layout {
            Layout::File { wanted } => (Some(wanted), None),
            Layout::Folder { belongs, .. } => (None, Some(belongs)),
            Layout::Either { wanted, belongs } => (Some(wanted), Some(belongs)),
        };
        let files = match (metadata.is_dir(), as_file, belongs) {
            (true, _, Some(belongs)) => {
                let mut files = Vec::new();
                collect(path, belongs, 0, &mut files)?;
                files.sort_by(|a, b| a.path.cmp(&b.path));
                files
            }
            (false, Some(_), _) => vec![SourceFile::read(path)?],
            (true, wanted, None) => {
                let wanted = wanted.unwrap_or_default();
                return Err(SuiteError::Folder { path: path.to_path_buf(), suite: self.name, wanted });
            }
            (false, None, _) => {
                let Layout::Folder { wanted, .. } = self.layout else {
                    return Err(SuiteError::Empty { path: path.to_path_buf(), suite: self.name });
                };
                return Err(SuiteError::NotFolder { path: path.to_path_buf(), suite: self.name, wanted });
            }
        };
        self.parse(path, &files)
    }

    /// The suite in files that are at hand; `path` is named in messages.
    ///
    /// # Errors
    /// As [`Format::read`].
    pub fn parse(&self, path: &Path, files: &[SourceFile]) -> Result<Suite, SuiteError> {
        let mut tasks = Tasks::default();
        (self.parse)(files, &mut tasks)?;
        if tasks.items.is_empty() {
            let path = path.to_path_buf();
            if tasks.left_out.is_empty() {
                return Err(SuiteError::Empty { path, suite: self.name });
            }
            let reasons: Vec<String> =
                tasks.left_out.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
            let tasks = tasks.left_out.values().sum();
            return Err(SuiteError::NothingToJudge { path, tasks, reasons: reasons.join(", ") });
        }
        Ok(Suite { name: self.name.to_owned(), items: tasks.items, left_out: tasks.left_out })
    }
}

/// Two formats are the same if their words are.
impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.word == other.word
    }
}

impl Eq for Format {}

impl fmt::Debug for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Format({})", self.word)
    }
}

/// The files below `folder` that belong to the suite. Links to folders are not followed.
fn collect(
    folder: &Path,
    belongs: fn(&str) -> bool,
    depth: usize,
    files: &mut Vec<SourceFile>,
) -> Result<(), SuiteError> {
    /// No suite is deeper.
    const DEEPEST: usize = 16;
    let io = |source| SuiteError::Io { path: folder.to_path_buf(), source };
    if depth > DEEPEST {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type().map_err(io)?.is_dir() {
            collect(&path, belongs, depth + 1, files)?;
        } else if belongs(&name.to_string_lossy()) {
            files.push(SourceFile::read(&path)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
