//! Lines of an untrusted file: bounded in memory, checked for UTF-8 and NUL, numbered from 1.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::collect::Refusal;
use crate::{CorpusError, DropReason};

/// One line that is not blank.
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: usize,
    /// Its text without the line end, or why it has none.
    pub(crate) content: Result<String, Refusal>,
}

impl Line {
    /// The text, or nothing when there is none.
    pub(crate) fn text(&self) -> &str {
        self.content.as_deref().unwrap_or("")
    }
}

/// The lines of a file. Blank lines are passed over.
pub(crate) struct Lines<R> {
    reader: R,
    number: usize,
    limit: usize,
}

impl Lines<BufReader<fs_err::File>> {
    /// Opens a file; lines longer than `limit` bytes are refused without being kept in memory.
    pub(crate) fn open(path: &Path, limit: usize) -> Result<Self, CorpusError> {
        let file =
            fs_err::File::open(path).map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
        Ok(Self::new(BufReader::new(file), limit))
    }
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader, number: 0, limit }
    }

    fn skip_line(&mut self) -> std::io::Result<usize> {
        let mut skipped = 0;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(skipped);
            }
            let (used, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(position) => (position + 1, true),
                None => (buffer.len(), false),
            };
            self.reader.consume(used);
            skipped += used;
            if ended {
                return Ok(skipped);
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = std::io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut bytes = Vec::new();
            // One byte more than allowed (and one for the line end) tells a line at the limit from one past it.
            let bound = (self.limit as u64).saturating_add(2);
            let read = match self.reader.by_ref().take(bound).read_until(b'\n', &mut bytes) {
                Ok(read) => read,
                Err(error) => return Some(Err(error)),
            };
            if read == 0 {
                return None;
            }
            self.number += 1;
            let number = self.number;
            let ended = bytes.last() == Some(&b'\n');
            while matches!(bytes.last(), Some(b'\n' | b'\r')) {
                bytes.pop();
            }
            if bytes.len() > self.limit {
                let rest = match if ended { Ok(0) } else { self.skip_line() } {
                    Ok(rest) => rest,
                    Err(error) => return Some(Err(error)),
                };
                let detail =
                    format!("the line has {} bytes or more, {} are allowed", bytes.len() + rest, self.limit);
                return Some(Ok(Line { number, content: Err((DropReason::TooLong, detail)) }));
            }
            if number == 1 && bytes.starts_with(b"\xEF\xBB\xBF") {
                bytes.drain(..3);
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Some(Ok(Line { number, content: checked_text(bytes) }));
        }
    }
}

/// Bytes as text, or why they are none.
pub(crate) fn checked_text(bytes: Vec<u8>) -> Result<String, Refusal> {
    if let Some(position) = bytes.iter().position(|byte| *byte == 0) {
        return Err((DropReason::NulByte, format!("NUL at byte {position} of the line")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        (DropReason::NotUtf8, format!("not UTF-8 from byte {position} of the line"))
    })
}
