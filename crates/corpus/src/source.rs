//! Which data set to read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vul2safe_code::Language;

use crate::collect::{Collector, Imported};
use crate::elements::Items;
use crate::fields::object;
use crate::lines::Lines;
use crate::table::{CsvRows, parquet_rows};
use crate::{
    CorpusError, columns, cve_fixes, cyber_sec_eval, diverse_vul, linux_vul, mega_vul, primevul, store, sven,
};

/// A data set on disk. Every `path` may be one file or a folder of them, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// SVEN: the folder with `data_train_val`, or one of its files.
    Sven {
        /// Folder or file.
        path: PathBuf,
    },
    /// PrimeVul v0.1, one function a line.
    PrimeVul {
        /// Folder or file.
        path: PathBuf,
    },
    /// PrimeVul v0.1 `_paired`: a vulnerable function and its fix on consecutive lines.
    PrimeVulPaired {
        /// Folder or file.
        path: PathBuf,
    },
    /// LinuxVul (KnowledgeRAG4LLMVulD, `benchmark/{train,test}`): Linux kernel functions before and after their fix.
    LinuxVul {
        /// The folder with `train` and `test`, one of those, or a file.
        path: PathBuf,
    },
    /// CyberSecEval: the vulnerable `origin_code` of its instruct or autocomplete prompts, without a fix.
    CyberSecEval {
        /// The folder with `instruct` and `autocomplete`, or a file.
        path: PathBuf,
    },
    /// CVEfixes: its SQLite database.
    CveFixes {
        /// The database, one file.
        path: PathBuf,
    },
    /// DiverseVul: vulnerable C and C++ functions, without their fix.
    DiverseVul {
        /// Folder or file.
        path: PathBuf,
    },
    /// MegaVul, `megavul.json` or `megavul_simple.json`.
    MegaVul {
        /// Folder or file.
        path: PathBuf,
    },
    /// Any JSONL, by the names of its columns.
    Jsonl {
        /// Folder or file.
        path: PathBuf,
        /// Which column holds what.
        columns: ColumnMap,
    },
    /// Any CSV with a header, by the names of its columns.
    Csv {
        /// Folder or file.
        path: PathBuf,
        /// Which column holds what.
        columns: ColumnMap,
    },
    /// Any Parquet, by the names of its columns.
    Parquet {
        /// Folder or file.
        path: PathBuf,
        /// Which column holds what.
        columns: ColumnMap,
    },
    /// PrimeVul+ as this project writes it, JSONL.
    PrimeVulPlus {
        /// Folder or file.
        path: PathBuf,
    },
}

impl Source {
    /// The folder or file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Sven { path }
            | Self::PrimeVul { path }
            | Self::PrimeVulPaired { path }
            | Self::LinuxVul { path }
            | Self::CyberSecEval { path }
            | Self::CveFixes { path }
            | Self::DiverseVul { path }
            | Self::MegaVul { path }
            | Self::Jsonl { path, .. }
            | Self::Csv { path, .. }
            | Self::Parquet { path, .. }
            | Self::PrimeVulPlus { path } => path,
        }
    }

    /// The name that records of this source carry as their data set.
    pub fn dataset(&self) -> &'static str {
        match self {
            Self::Sven { .. } => "sven",
            Self::PrimeVul { .. } => "primevul",
            Self::PrimeVulPaired { .. } => "primevul-paired",
            Self::LinuxVul { .. } => "linuxvul",
            Self::CyberSecEval { .. } => "cyberseceval",
            Self::CveFixes { .. } => "cvefixes",
            Self::DiverseVul { .. } => "diversevul",
            Self::MegaVul { .. } => "megavul",
            Self::Jsonl { .. } => "jsonl",
            Self::Csv { .. } => "csv",
            Self::Parquet { .. } => "parquet",
            Self::PrimeVulPlus { .. } => "primevul-plus",
        }
    }

    fn files(&self) -> Result<Vec<PathBuf>, CorpusError> {
        match self {
            Self::Sven { path } => sven::files(path),
            Self::LinuxVul { path } => linux_vul::files(path),
            Self::CyberSecEval { path } => cyber_sec_eval::files(path),
            Self::DiverseVul { path } | Self::MegaVul { path } => files_with(path, &["json", "jsonl"]),
            Self::Csv { path, .. } => files_with(path, &["csv"]),
            Self::Parquet { path, .. } => files_with(path, &["parquet"]),
            Self::CveFixes { path } => match path {
                path if path.is_file() => Ok(vec![path.clone()]),
                path if path.is_dir() => files_with(path, &["db", "sqlite", "sqlite3"]),
                path => Err(CorpusError::Missing { path: path.clone() }),
            },
            _ => jsonl_files(self.path()),
        }
    }
}

/// Which column of a table holds what. In JSONL and Parquet, a name may be a path with dots (`fix.code`) into nested
/// objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnMap {
    /// The vulnerable function.
    pub vulnerable: String,
    /// The fixed function.
    #[serde(default)]
    pub secure: Option<String>,
    /// The record's id; else file and line.
    #[serde(default)]
    pub id: Option<String>,
    /// `python`, `c`, `cpp`, `java`, `javascript`, `go` or `php` (common spellings are understood).
    #[serde(default)]
    pub language: Option<String>,
    /// A CWE, or a list of them.
    #[serde(default)]
    pub cwe: Option<String>,
    /// A CVE id.
    #[serde(default)]
    pub cve: Option<String>,
    /// The upstream project.
    #[serde(default)]
    pub project: Option<String>,
    /// The fixing commit.
    #[serde(default)]
    pub commit: Option<String>,
    /// The day of the fix: a text that starts with `YYYY-MM-DD`, or seconds since 1970.
    #[serde(default)]
    pub date: Option<String>,
    /// The licence of the code.
    #[serde(default)]
    pub license: Option<String>,
    /// Path of the file; its extension gives the language of lines that name none.
    #[serde(default)]
    pub file_name: Option<String>,
    /// The function's name.
    #[serde(default)]
    pub function: Option<String>,
    /// Prose about the flaw.
    #[serde(default)]
    pub description: Option<String>,
    /// Language of lines that name none and whose file does not say.
    #[serde(default)]
    pub default_language: Option<Language>,
}

/// Bounds on what one line may hold; longer ones are dropped and counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadLimits {
    /// Bytes of one line of input.
    pub line_bytes: usize,
    /// Bytes of one function.
    pub code_bytes: usize,
}

impl Default for ReadLimits {
    /// 16 MiB a line, 1 MiB a function (the parser's own bound).
    fn default() -> Self {
        Self { line_bytes: 16 << 20, code_bytes: 1 << 20 }
    }
}

/// Reads a whole source.
///
/// # Errors
/// A path that is missing, has the wrong extension or holds no data, a file that is damaged as a whole, and I/O
/// errors. A bad line is no error: it is in `dropped`.
pub fn read(source: &Source, limits: &ReadLimits) -> Result<Imported, CorpusError> {
    let mut collector = Collector::new(source.dataset(), limits);
    for file in &source.files()? {
        let name = place_name(source.path(), file);
        read_file(source, file, &name, limits, &mut collector)?;
    }
    Ok(collector.imported)
}

fn read_file(
    source: &Source,
    file: &Path,
    name: &str,
    limits: &ReadLimits,
    collector: &mut Collector<'_>,
) -> Result<(), CorpusError> {
    let io = |source| CorpusError::Io { path: file.to_owned(), source };
    match source {
        Source::PrimeVulPaired { .. } => {
            return primevul::read_paired(file, name, Lines::open(file, limits.line_bytes)?, collector);
        }
        Source::CveFixes { .. } => return cve_fixes::read(file, name, collector),
        Source::Csv { columns, .. } => {
            for row in CsvRows::open(file, limits.line_bytes)? {
                let (line, row) = row.map_err(io)?;
                let record = row.and_then(|row| columns::record(&row, columns, "csv", name, line));
                collector.add(name, line, record);
            }
            return Ok(());
        }
        Source::Parquet { columns, .. } => {
            return parquet_rows(file, &mut |number, row| {
                let record = row.and_then(|row| columns::record(&row, columns, "parquet", name, number));
                collector.add(name, number, record);
            });
        }
        _ => {}
    }
    let items = match source {
        Source::LinuxVul { .. }
        | Source::CyberSecEval { .. }
        | Source::DiverseVul { .. }
        | Source::MegaVul { .. } => Items::open(file, limits.line_bytes)?,
        _ => Items::Lines(Lines::open(file, limits.line_bytes)?),
    };
    for line in items {
        let line = line.map_err(io)?;
        let record = object(&line).and_then(|object| match source {
            Source::Sven { .. } => sven::record(&object, file, name, line.number),
            Source::LinuxVul { .. } => linux_vul::record(&object, file, name, line.number),
            Source::CyberSecEval { .. } => cyber_sec_eval::record(&object, name, line.number),
            Source::DiverseVul { .. } => diverse_vul::record(&object, name, line.number),
            Source::MegaVul { .. } => mega_vul::record(&object, name, line.number),
            Source::Jsonl { columns, .. } => columns::record(&object, columns, "jsonl", name, line.number),
            Source::PrimeVulPlus { .. } => store::record(line.text(), &object),
            // The formats that are left have returned above.
            _ => primevul::record_single(&object),
        });
        collector.add(name, line.number, record);
    }
    Ok(())
}

/// The `.jsonl` files of a path, sorted by name.
pub(crate) fn jsonl_files(path: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    files_with(path, &["jsonl"])
}

/// The files of a path that have one of the extensions, sorted by name.
pub(crate) fn files_with(
    path: &Path,
    extensions: &'static [&'static str],
) -> Result<Vec<PathBuf>, CorpusError> {
    let fits = |file: &Path| {
        file.extension()
            .is_some_and(|own| extensions.iter().any(|extension| own.eq_ignore_ascii_case(extension)))
    };
    if path.is_file() {
        if fits(path) {
            return Ok(vec![path.to_owned()]);
        }
        return Err(CorpusError::WrongExtension { path: path.to_owned(), expected: extensions[0] });
    }
    if !path.exists() {
        return Err(CorpusError::Missing { path: path.to_owned() });
    }
    let io = |source| CorpusError::Io { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs_err::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.is_file() && fits(&file) {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(CorpusError::EmptyFolder { path: path.to_owned(), expected: extensions[0] });
    }
    files.sort();
    Ok(files)
}

/// The file as it is named in places: relative to the source's folder, or its own name.
fn place_name(root: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(root).ok().filter(|relative| !relative.as_os_str().is_empty());
    match relative {
        Some(relative) => relative.display().to_string(),
        None => file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
    }
}
