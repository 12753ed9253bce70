//! Bytes of a suite's files, and records out of them.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::SuiteError;

/// More than this is read of no file; the largest suite has a few MB.
pub const MAXIMUM_FILE_BYTES: usize = 256 << 20;

/// One file of a suite: its path, and its bytes as they were before compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl SourceFile {
    /// Reads a file; gzip data is recognised by its first bytes, whatever the file is called.
    ///
    /// # Errors
    /// [`SuiteError::Io`], [`SuiteError::TooLarge`], [`SuiteError::Gzip`].
    pub fn read(path: &Path) -> Result<SourceFile, SuiteError> {
        let io = |source| SuiteError::Io { path: path.to_path_buf(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.take(MAXIMUM_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        SourceFile::new(path, bytes)
    }

    /// The same from bytes that are at hand.
    ///
    /// # Errors
    /// [`SuiteError::TooLarge`], [`SuiteError::Gzip`].
    pub fn new(path: &Path, bytes: Vec<u8>) -> Result<SourceFile, SuiteError> {
        let path = path.to_path_buf();
        let too_large = || SuiteError::TooLarge { path: path.clone(), limit: MAXIMUM_FILE_BYTES };
        if bytes.len() > MAXIMUM_FILE_BYTES {
            return Err(too_large());
        }
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Ok(SourceFile { path, bytes });
        }
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes.as_slice())
            .take(MAXIMUM_FILE_BYTES as u64 + 1)
            .read_to_end(&mut plain)
            .map_err(|error| SuiteError::Gzip { path: path.clone(), why: error.to_string() })?;
        if plain.len() > MAXIMUM_FILE_BYTES {
            return Err(too_large());
        }
        Ok(SourceFile { path, bytes: plain })
    }

    /// The file as text.
    pub(crate) fn text(&self) -> Result<&str, SuiteError> {
        std::str::from_utf8(&self.bytes).map_err(|error| SuiteError::NotText {
            place: self.path.display().to_string(),
            byte: error.valid_up_to(),
        })
    }

    /// The objects of a JSON file: a list, or one object a line.
    pub(crate) fn records(&self) -> Result<Vec<Record>, SuiteError> {
        let text = self.text()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with('[') { self.list(text) } else { self.lines(text) }
    }

    fn list(&self, text: &str) -> Result<Vec<Record>, SuiteError> {
        let values: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| SuiteError::broken(self.path.display().to_string(), error))?;
        values
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                Record::new(format!("{}: record {}", self.path.display(), index + 1), value)
            })
            .collect()
    }

    fn lines(&self, text: &str) -> Result<Vec<Record>, SuiteError> {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                let place = format!("{}:{}", self.path.display(), index + 1);
                let value =
                    serde_json::from_str(line).map_err(|error| SuiteError::broken(place.clone(), error))?;
                Record::new(place, value)
            })
            .collect()
    }
}

/// One object of a file, with its place for messages.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) place: String,
    fields: Map<String, Value>,
}

impl Record {
    /// A record of a JSON value.
    pub(crate) fn new(place: String, value: Value) -> Result<Record, SuiteError> {
        match value {
            Value::Object(fields) => Ok(Record { place, fields }),
            other => Err(SuiteError::Broken {
                place,
                why: format!("a JSON object is wanted, and this is {}", kind(&other)),
            }),
        }
    }

    /// Whether there is such a field.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// The first of `fields` that is there.
    pub(crate) fn either(&self, fields: [&'static str; 2]) -> &'static str {
        if self.has(fields[0]) || !self.has(fields[1]) { fields[0] } else { fields[1] }
    }

    fn value(&self, field: &'static str) -> Result<&Value, SuiteError> {
        self.fields.get(field).ok_or_else(|| SuiteError::Missing {
            place: self.place.clone(),
            field,
            found: self.names(),
        })
    }

    fn names(&self) -> String {
        if self.fields.is_empty() {
            return "no field".to_owned();
        }
        let names: Vec<String> =
            self.fields.keys().take(16).map(|name| format!("`{}`", short(name))).collect();
        names.join(", ")
    }

    pub(crate) fn wrong(&self, field: &str, wanted: &'static str, found: &Value) -> SuiteError {
        SuiteError::WrongType {
            place: self.place.clone(),
            field: field.to_owned(),
            wanted,
            found: kind(found),
        }
    }

    /// A text.
    pub(crate) fn text(&self, field: &'static str) -> Result<&str, SuiteError> {
        let value = self.value(field)?;
        value.as_str().ok_or_else(|| self.wrong(field, "a text", value))
    }

    /// A text that is not blank.
    pub(crate) fn filled(&self, field: &'static str) -> Result<&str, SuiteError> {
        let text = self.text(field)?;
        if text.trim().is_empty() {
            return Err(SuiteError::Broken { place: self.place.clone(), why: format!("`{field}` is empty") });
        }
        Ok(text)
    }

    /// A text that may be missing or null.
    pub(crate) fn optional(&self, field: &'static str) -> Result<Option<&str>, SuiteError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong(field, "a text", value)),
        }
    }

    /// A text or a whole number, as text.
    pub(crate) fn id(&self, field: &'static str) -> Result<String, SuiteError> {
        match self.value(field)? {
            Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
            Value::Number(number) if number.is_u64() => Ok(number.to_string()),
            other => Err(self.wrong(field, "a text or a whole number", other)),
        }
    }

    /// A list of texts that may be missing.
    pub(crate) fn texts(&self, field: &'static str) -> Result<Vec<String>, SuiteError> {
        let Some(value) = self.fields.get(field) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.wrong(field, "a list of texts", value))?;
        list.iter()
            .map(|text| {
                text.as_str().map(str::to_owned).ok_or_else(|| self.wrong(field, "a list of texts", text))
            })
            .collect()
    }

    /// Any value.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }
}

/// The kind of a JSON value, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The beginning of a text for a message.
pub(crate) fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

/// Refuses ids that occur twice.
#[derive(Default)]
pub(crate) struct Ids {
    places: HashMap<String, String>,
}

impl Ids {
    /// Remembers `id`, or says where it was before.
    pub(crate) fn take(&mut self, id: &str, place: &str) -> Result<(), SuiteError> {
        match self.places.insert(id.to_owned(), place.to_owned()) {
            None => Ok(()),
            Some(first) => Err(SuiteError::Duplicate { place: place.to_owned(), id: short(id), first }),
        }
    }
}
