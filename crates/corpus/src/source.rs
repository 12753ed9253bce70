//! Which data set to read, and what became of each of its lines.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vul2safe_code::{Cwe, Language};

use crate::lines::{Line, Lines};
use crate::{CorpusError, SourceId, VulnerabilityRecord, columns, content_hash, primevul, store, sven};

// A run has one source, so the size of its largest variant costs nothing.
#[expect(clippy::large_enum_variant)]
/// A data set on disk. Every `path` may be one `.jsonl` file or a folder of them.
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
    /// Any JSONL, by the names of its columns.
    Jsonl {
        /// Folder or file.
        path: PathBuf,
        /// Which column holds what.
        columns: ColumnMap,
    },
    /// PrimeVul+ as this project writes it.
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
            | Self::Jsonl { path, .. }
            | Self::PrimeVulPlus { path } => path,
        }
    }

    /// The name that records of this source carry as their data set.
    pub fn dataset(&self) -> &'static str {
        match self {
            Self::Sven { .. } => "sven",
            Self::PrimeVul { .. } => "primevul",
            Self::PrimeVulPaired { .. } => "primevul-paired",
            Self::Jsonl { .. } => "jsonl",
            Self::PrimeVulPlus { .. } => "primevul-plus",
        }
    }
}

/// Which column of a JSONL file holds what. A name may be a path with dots (`fix.code`) into nested objects.
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
    /// `python`, `c` or `cpp` (common spellings are understood).
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
    /// The licence of the code.
    #[serde(default)]
    pub license: Option<String>,
    /// The function's name.
    #[serde(default)]
    pub function: Option<String>,
    /// Prose about the flaw.
    #[serde(default)]
    pub description: Option<String>,
    /// Language of lines that name none.
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

/// What a source gave. `read == records.len() + dropped.len()` always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The records, in the order of the input.
    pub records: Vec<VulnerabilityRecord>,
    /// What did not become a record, and why.
    pub dropped: Vec<Dropped>,
    /// What became a record only after it was mended, e.g. sides that stood in the wrong order.
    pub mended: Vec<Dropped>,
    /// Units of input: lines, or pairs of lines and lines without a partner where two lines make one record.
    pub read: usize,
}

impl Imported {
    /// How many were dropped, by reason.
    pub fn counts(&self) -> BTreeMap<DropReason, usize> {
        let mut counts = BTreeMap::new();
        for dropped in &self.dropped {
            *counts.entry(dropped.reason).or_insert(0) += 1;
        }
        counts
    }
}

/// A line that did not become a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Which record it would have been.
    pub source: SourceId,
    /// `file:line`, lines counted from 1.
    pub place: String,
    /// Why, as a word to count by.
    pub reason: DropReason,
    /// Why, in words.
    pub detail: String,
}

/// Why a line did not become a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The JSON ends in the middle.
    Truncated,
    /// The line is not UTF-8.
    NotUtf8,
    /// The line, or code in it, holds a NUL character.
    NulByte,
    /// The line is not a JSON object.
    NotJson,
    /// A field that is needed is absent.
    MissingField,
    /// A field has another type than it should.
    WrongType,
    /// A field has the right type and an impossible value.
    InvalidValue,
    /// The language is not one that can be parsed.
    UnknownLanguage,
    /// A side holds no code.
    EmptyCode,
    /// Both sides are the same text.
    IdenticalSides,
    /// The sides stand in the wrong order.
    SwappedSides,
    /// A line that should be half of a pair has no other half.
    PartnerMissing,
    /// The data set says that the function is not vulnerable.
    NotVulnerable,
    /// The line or the code is longer than allowed.
    TooLong,
    /// The same code came before.
    Duplicate,
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Truncated => "truncated",
            Self::NotUtf8 => "not_utf8",
            Self::NulByte => "nul_byte",
            Self::NotJson => "not_json",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::InvalidValue => "invalid_value",
            Self::UnknownLanguage => "unknown_language",
            Self::EmptyCode => "empty_code",
            Self::IdenticalSides => "identical_sides",
            Self::SwappedSides => "swapped_sides",
            Self::PartnerMissing => "partner_missing",
            Self::NotVulnerable => "not_vulnerable",
            Self::TooLong => "too_long",
            Self::Duplicate => "duplicate",
        })
    }
}

/// A reason with its explanation, before the line's place is known.
pub(crate) type Refusal = (DropReason, String);

/// Reads a whole source.
///
/// # Errors
/// A path that is missing, has the wrong extension or holds no data, and I/O errors. A bad line is no error: it is
/// in `dropped`.
pub fn read(source: &Source, limits: &ReadLimits) -> Result<Imported, CorpusError> {
    let mut collector = Collector::new(source.dataset(), limits);
    let files = match source {
        Source::Sven { path } => sven::files(path)?,
        _ => jsonl_files(source.path())?,
    };
    for file in &files {
        let name = place_name(source.path(), file);
        let lines = Lines::open(file, limits.line_bytes)?;
        if let Source::PrimeVulPaired { .. } = source {
            primevul::read_paired(file, &name, lines, &mut collector)?;
            continue;
        }
        for line in lines {
            let line = line.map_err(|source| CorpusError::Io { path: file.clone(), source })?;
            let record = line.object().and_then(|object| match source {
                Source::Sven { .. } => sven::record(&object, file, &name, line.number),
                Source::Jsonl { columns, .. } => columns::record(&object, columns, &name, line.number),
                Source::PrimeVulPlus { .. } => store::record(line.text(), &object),
                Source::PrimeVul { .. } | Source::PrimeVulPaired { .. } => primevul::record_single(&object),
            });
            collector.add(&name, line.number, record);
        }
    }
    Ok(collector.imported)
}

/// Takes records and refusals, and makes the checks that hold for every source.
pub(crate) struct Collector<'a> {
    dataset: &'static str,
    limits: &'a ReadLimits,
    by_content: HashMap<String, String>,
    ids: HashSet<String>,
    pub(crate) imported: Imported,
}

impl<'a> Collector<'a> {
    fn new(dataset: &'static str, limits: &'a ReadLimits) -> Self {
        Self {
            dataset,
            limits,
            by_content: HashMap::new(),
            ids: HashSet::new(),
            imported: Imported::default(),
        }
    }

    /// Counts one unit of input and files it under records or dropped. Says whether it became a record.
    pub(crate) fn add(
        &mut self,
        file: &str,
        line: usize,
        record: Result<VulnerabilityRecord, Refusal>,
    ) -> bool {
        self.imported.read += 1;
        match record.and_then(|record| self.accept(record)) {
            Ok(record) => {
                self.imported.records.push(record);
                true
            }
            Err(refusal) => {
                let dropped = self.dropped(file, line, refusal);
                self.imported.dropped.push(dropped);
                false
            }
        }
    }

    /// Notes that the record just added had to be mended.
    pub(crate) fn mended(&mut self, file: &str, line: usize, refusal: Refusal) {
        let dropped = self.dropped(file, line, refusal);
        self.imported.mended.push(dropped);
    }

    fn dropped(&self, file: &str, line: usize, (reason, detail): Refusal) -> Dropped {
        let place = format!("{file}:{line}");
        Dropped {
            source: SourceId { dataset: self.dataset.into(), id: place.clone() },
            place,
            reason,
            detail,
        }
    }

    fn accept(&mut self, mut record: VulnerabilityRecord) -> Result<VulnerabilityRecord, Refusal> {
        for (side, code) in [("vulnerable", Some(&record.vulnerable)), ("secure", record.secure.as_ref())] {
            let Some(code) = code else { continue };
            if code.len() > self.limits.code_bytes {
                let detail = format!(
                    "the {side} side has {} bytes, {} are allowed",
                    code.len(),
                    self.limits.code_bytes
                );
                return Err((DropReason::TooLong, detail));
            }
            if code.trim().is_empty() {
                return Err((DropReason::EmptyCode, format!("the {side} side holds no code")));
            }
            if code.contains('\0') {
                return Err((DropReason::NulByte, format!("the {side} side holds a NUL character")));
            }
        }
        let secure = record.secure.as_deref().unwrap_or("");
        if record.vulnerable.trim_end() == secure.trim_end() {
            return Err((DropReason::IdenticalSides, "vulnerable and secure side are the same text".into()));
        }
        let hash = content_hash(record.language, &record.vulnerable, secure);
        if let Some(first) = self.by_content.get(&hash) {
            return Err((DropReason::Duplicate, format!("the same code as {first}")));
        }
        // Ids name files in the run folder and rows in reports, so two records must not share one.
        let mut id = record.id.clone();
        let mut copy = 2;
        while !self.ids.insert(id.clone()) {
            id = format!("{}-{copy}", record.id);
            copy += 1;
        }
        record.id = id;
        self.by_content.insert(hash, record.id.clone());
        Ok(record)
    }
}

impl Line {
    /// The line as a JSON object.
    pub(crate) fn object(&self) -> Result<serde_json::Map<String, Value>, Refusal> {
        let text = match &self.content {
            Ok(text) => text,
            Err(refusal) => return Err(refusal.clone()),
        };
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err((DropReason::NotJson, "the line is JSON but not an object".into())),
            Err(error) if error.is_eof() => {
                Err((DropReason::Truncated, format!("the line ends in the middle of its JSON: {error}")))
            }
            Err(error) => Err((DropReason::NotJson, error.to_string())),
        }
    }
}

/// The `.jsonl` files of a path, sorted by name.
pub(crate) fn jsonl_files(path: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    if path.is_file() {
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) {
            return Ok(vec![path.to_owned()]);
        }
        return Err(CorpusError::WrongExtension { path: path.to_owned(), expected: "jsonl" });
    }
    if !path.exists() {
        return Err(CorpusError::Missing { path: path.to_owned() });
    }
    let io = |source| CorpusError::Io { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs_err::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.is_file() && file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"))
        {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(CorpusError::EmptyFolder { path: path.to_owned(), expected: ".jsonl file" });
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

/// A string field that must be there.
pub(crate) fn required<'v>(
    object: &'v serde_json::Map<String, Value>,
    field: &str,
) -> Result<&'v str, Refusal> {
    match object.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            Err((DropReason::WrongType, format!("field `{field}` is {}, not a string", kind(other))))
        }
        None => Err((DropReason::MissingField, format!("field `{field}` is absent"))),
    }
}

/// A text that may be absent; empty strings and the words `None`, `null` and `nan` count as absent.
pub(crate) fn optional(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let absent =
        text.is_empty() || ["none", "null", "nan"].iter().any(|word| text.eq_ignore_ascii_case(word));
    (!absent).then_some(text)
}

/// The CWEs of a string, a number or a list of them. What is no CWE (`NVD-CWE-noinfo`) is left out.
pub(crate) fn weaknesses(value: Option<&Value>) -> Vec<Cwe> {
    let mut found = Vec::new();
    let mut add = |text: &str| {
        for part in text.split([',', ';', '|', ' ', '[', ']', '\'', '"']).filter(|part| !part.is_empty()) {
            if let Some(cwe) = Cwe::parse(part)
                && !found.contains(&cwe)
            {
                found.push(cwe);
            }
        }
    };
    match value {
        Some(Value::String(text)) => add(text),
        Some(Value::Number(number)) => add(&number.to_string()),
        Some(Value::Array(items)) => {
            for item in items {
                match item {
                    Value::String(text) => add(text),
                    Value::Number(number) => add(&number.to_string()),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    found
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
