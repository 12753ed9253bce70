//! What was said about each record: JSON Lines, one file a record.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cache::Stored;
use crate::canonical::Key;
use crate::dialogue::Origin;
use crate::{Finish, LlmError, Message, Money, Request, Usage};

/// One exchange with a model; one line of a transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranscriptLine {
    /// When it was written, RFC 3339 in UTC.
    pub at: String,
    /// The record it is about.
    pub record: String,
    /// What it was for (`analyse`, …), where the request says so.
    pub role: Option<String>,
    /// Name and version of the prompt, where the request says so.
    pub prompt: Option<String>,
    /// The model, as the server names it.
    pub model: String,
    /// The key of the answer in the cache, in hexadecimal.
    pub key: String,
    /// Which of several answers to the same messages.
    pub sample: u32,
    /// What the model was given.
    pub messages: Vec<Message>,
    /// What it answered.
    pub answer: String,
    /// Its reasoning, where the server gives it apart.
    pub reasoning: Option<String>,
    /// Why the answer ends.
    pub finish: Finish,
    /// Its tokens.
    pub usage: Usage,
    /// What it cost when it was paid; nothing when no price is known.
    pub cost: Option<Money>,
    /// Whether it was not paid for now.
    pub cached: bool,
    /// What was wrong with its form, where something was.
    pub complaint: Option<String>,
}

/// What a line is made of.
pub(crate) struct Entry<'a> {
    pub request: &'a Request,
    pub messages: &'a [Message],
    pub key: Key,
    pub stored: &'a Stored,
    pub origin: Origin,
    pub complaint: Option<&'a str>,
}

/// The folder of transcripts. An exchange stands in a file once, however often the run is started again.
#[derive(Debug)]
pub(crate) struct Transcripts {
    folder: PathBuf,
    /// The keys that stand in each file that was opened.
    written: Mutex<HashMap<PathBuf, HashSet<String>>>,
}

impl Transcripts {
    pub fn new(folder: PathBuf) -> Result<Transcripts, LlmError> {
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
        Ok(Transcripts { folder, written: Mutex::default() })
    }

    /// Appends an exchange to the record's file, unless it stands there.
    pub fn add(&self, record: &str, entry: &Entry<'_>) -> Result<(), LlmError> {
        let path = self.folder.join(file_name(record));
        let key: String = entry.key.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = TranscriptLine {
            at: jiff::Timestamp::now().to_string(),
            record: record.to_owned(),
            role: entry.request.role.clone(),
            prompt: entry.request.prompt_version.clone(),
            model: entry.stored.model.clone(),
            key: key.clone(),
            sample: entry.request.sample,
            messages: entry.messages.to_vec(),
            answer: entry.stored.text.clone(),
            reasoning: entry.stored.reasoning.clone(),
            finish: entry.stored.finish.clone(),
            usage: entry.stored.usage,
            cost: entry.stored.cost,
            cached: entry.origin != Origin::Paid,
            complaint: entry.complaint.map(str::to_owned),
        };
        let mut text = serde_json::to_string(&line).map_err(|error| failed(&path, error))?;
        text.push('\n');
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = match written.get_mut(&path) {
            Some(keys) => keys,
            None => {
                let keys = read_and_repair(&path)?.into_iter().map(|line| line.key).collect();
                written.entry(path.clone()).or_insert(keys)
            }
        };
        if keys.contains(&key) {
            return Ok(());
        }
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(|error| failed(&path, error))?;
        file.write_all(text.as_bytes()).map_err(|error| failed(&path, error))?;
        keys.insert(key);
        Ok(())
    }
}

/// The exchanges about a record, in the order of their answers; none when there were none. A last line that a kill cut
/// short is left out.
///
/// # Errors
/// [`LlmError::File`] for a file that cannot be read or a line that is not understood.
pub fn read_transcript(folder: &Path, record: &str) -> Result<Vec<TranscriptLine>, LlmError> {
    Ok(read(&folder.join(file_name(record)))?.0)
}

/// The lines and the bytes of whole lines.
fn read(path: &Path) -> Result<(Vec<TranscriptLine>, usize, usize), LlmError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(path, error)),
    };
    let mut lines = Vec::new();
    let mut whole = 0;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        whole += line.len();
        let line = serde_json::from_slice(line)
            .map_err(|error| failed(path, format!("line {}: {error}", index + 1)))?;
        lines.push(line);
    }
    Ok((lines, whole, bytes.len()))
}

/// Reads the file and removes a last line that a kill cut short.
fn read_and_repair(path: &Path) -> Result<Vec<TranscriptLine>, LlmError> {
    let (lines, whole, length) = read(path)?;
    if whole < length {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(whole as u64))
            .map_err(|error| failed(path, error))?;
    }
    Ok(lines)
}

fn failed(path: &Path, detail: impl ToString) -> LlmError {
    LlmError::File { path: path.to_path_buf(), detail: detail.to_string() }
}

/// Characters of an id that stand in its file's name; a hash of the whole follows a longer or changed one.
const LONGEST_NAME: usize = 100;

/// A file name for any id: no path, no name that only differs in case or in characters that file systems do not know.
fn file_name(record: &str) -> String {
    let kept: String = record
        .chars()
        .map(
            |character| {
                if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '_' }
            },
        )
        .take(LONGEST_NAME)
        .collect();
    let plain = kept == record
        && !kept.starts_with('.')
        && !kept.is_empty()
        && !kept.chars().any(|character| character.is_ascii_uppercase());
    if plain {
        return format!("{kept}.jsonl");
    }
    let hash = blake3::hash(record.as_bytes()).to_hex();
    format!("{}-{}.jsonl", kept.trim_start_matches('.'), &hash[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_of<'a>(request: &'a Request, stored: &'a Stored, key: u8) -> Entry<'a> {
        Entry {
            request,
            messages: &request.messages,
            key: [key; 32],
            stored,
            origin: Origin::Paid,
            complaint: None,
        }
    }

    #[test]
    fn an_exchange_stands_there_once_and_a_torn_line_is_repaired() {
        let folder = tempfile::tempdir().expect("a folder");
        let request = Request::user("hello");
        let stored = Stored {
            text: "hi".into(),
            reasoning: None,
            finish: Finish::Stop,
            usage: Usage::default(),
            cost: None,
            model: "m".into(),
        };
        let open = || Transcripts::new(folder.path().to_path_buf()).expect("opened");
        let first = open();
        first.add("r", &entry_of(&request, &stored, 1)).expect("written");
        first.add("r", &entry_of(&request, &stored, 1)).expect("known");
        let path = folder.path().join("r.jsonl");
        let mut torn = fs::read(&path).expect("read");
        torn.extend_from_slice(b"{\"at\": \"20");
        fs::write(&path, torn).expect("written");
        assert_eq!(read_transcript(folder.path(), "r").expect("read").len(), 1);
        let second = open();
        second.add("r", &entry_of(&request, &stored, 1)).expect("known");
        second.add("r", &entry_of(&request, &stored, 2)).expect("written");
        let lines = read_transcript(folder.path(), "r").expect("read");
        assert_eq!(lines.iter().map(|line| line.key[..2].to_owned()).collect::<Vec<_>>(), ["01", "02"]);
    }

    #[test]
    fn any_id_names_a_file_in_the_folder() {
        let long = "x".repeat(5_000);
        let ids =
            ["sven-1", "../../etc/passwd", "a/b", "a_b", "A_b", ".", "", "..", "ü", "con\0", long.as_str()];
        let names: HashSet<String> = ids.iter().map(|id| file_name(id).to_lowercase()).collect();
        assert_eq!(names.len(), ids.len());
        for name in names {
            assert!(
                !name.contains(['/', '\\', '\0']) && !name.starts_with('.') && name.len() < 200,
                "{name}"
            );
        }
    }
}
