//! Elements of one JSON array, cut out of an untrusted file without reading it whole.

use std::io::BufRead;
use std::path::Path;

use crate::collect::Refusal;
use crate::lines::{Line, Lines, checked_text};
use crate::{CorpusError, DropReason};

/// The JSON values of a file: the elements where it is one array, else its lines. A [`Line`]'s number is then the
/// element's place in the array, from 1.
pub(crate) enum Items<R> {
    /// One array.
    Array(Elements<R>),
    /// One value a line.
    Lines(Lines<R>),
}

impl Items<std::io::BufReader<fs_err::File>> {
    /// Opens a file; values longer than `limit` bytes are refused without being kept in memory.
    pub(crate) fn open(path: &Path, limit: usize) -> Result<Self, CorpusError> {
        let io = |source| CorpusError::Io { path: path.to_owned(), source };
        let file = fs_err::File::open(path).map_err(io)?;
        Self::new(std::io::BufReader::new(file), limit).map_err(io)
    }
}

impl<R: BufRead> Items<R> {
    /// The first byte that is neither a byte order mark nor white space decides.
    pub(crate) fn new(mut reader: R, limit: usize) -> std::io::Result<Self> {
        if reader.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
            reader.consume(3);
        }
        loop {
            let buffer = reader.fill_buf()?;
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match buffer.get(blank) {
                Some(b'[') => {
                    reader.consume(blank + 1);
                    return Ok(Self::Array(Elements { reader, number: 0, limit, ended: false }));
                }
                // Line numbers stay right: nothing but this buffer's blank start has been looked at.
                Some(_) => return Ok(Self::Lines(Lines::new(reader, limit))),
                None if buffer.is_empty() => return Ok(Self::Lines(Lines::new(reader, limit))),
                None => reader.consume(blank),
            }
        }
    }
}

impl<R: BufRead> Iterator for Items<R> {
    type Item = std::io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Array(elements) => elements.next(),
            Self::Lines(lines) => lines.next(),
        }
    }
}

/// The elements of an array whose opening bracket has been read.
pub(crate) struct Elements<R> {
    reader: R,
    number: usize,
    limit: usize,
    ended: bool,
}

/// How an element ended.
enum End {
    Comma,
    Bracket,
    File,
}

impl<R: BufRead> Elements<R> {
    /// Reads up to the comma or bracket that ends an element. Brackets inside strings do not count.
    fn element(&mut self) -> std::io::Result<(Vec<u8>, usize, End)> {
        let (mut bytes, mut length) = (Vec::new(), 0_usize);
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok((bytes, length, End::File));
            }
            let mut end = None;
            let mut used = buffer.len();
            for (index, byte) in buffer.iter().enumerate() {
                if in_string {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => in_string = false,
                        _ => {}
                    }
                    continue;
                }
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b'}' => depth = depth.saturating_sub(1),
                    b']' if depth > 0 => depth -= 1,
                    b']' => end = Some(End::Bracket),
                    b',' if depth == 0 => end = Some(End::Comma),
                    _ => {}
                }
                if end.is_some() {
                    used = index;
                    break;
                }
            }
            length += used;
            // One byte past the limit is kept, as the mark of a value that is too long.
            let room = (self.limit + 1).saturating_sub(bytes.len());
            bytes.extend_from_slice(&buffer[..used.min(room)]);
            let consumed = used + usize::from(end.is_some());
            self.reader.consume(consumed);
            if let Some(end) = end {
                return Ok((bytes, length, end));
            }
        }
    }
}

impl<R: BufRead> Iterator for Elements<R> {
    type Item = std::io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let (bytes, length, end) = match self.element() {
                Ok(element) => element,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            };
            self.ended = !matches!(end, End::Comma);
            let blank = bytes.iter().all(u8::is_ascii_whitespace);
            if blank && matches!(end, End::Bracket) {
                // An empty array, or a comma before the bracket.
                continue;
            }
            self.number += 1;
            let number = self.number;
            let content: Result<String, Refusal> = if matches!(end, End::File) {
                Err((DropReason::Truncated, "the file ends before the array is closed".to_owned()))
            } else if bytes.len() > self.limit {
                let detail = format!("the element has {length} bytes, {} are allowed", self.limit);
                Err((DropReason::TooLong, detail))
            } else {
                checked_text(bytes)
            };
            return Some(Ok(Line { number, content }));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items(bytes: &[u8], limit: usize) -> Vec<Result<String, DropReason>> {
        Items::new(std::io::BufReader::with_capacity(3, bytes), limit)
            .unwrap()
            .map(|line| {
                line.unwrap().content.map(|text| text.trim().to_owned()).map_err(|(reason, _)| reason)
            })
            .collect()
    }

    #[test]
    fn an_array_is_cut_at_its_own_commas() {
        let found = items(b" [ {\"a\": \"],[\\\"\"},\n [1, {}] ,7]", 100);
        assert_eq!(found, [Ok("{\"a\": \"],[\\\"\"}".into()), Ok("[1, {}]".into()), Ok("7".into())]);
        assert_eq!(items(b"[]", 9), []);
        assert_eq!(items(b"\xEF\xBB\xBF{\"a\":1}\n{}\n", 9), [Ok("{\"a\":1}".into()), Ok("{}".into())]);
        assert_eq!(items(b"[1, {\"a\"", 9), [Ok("1".into()), Err(DropReason::Truncated)]);
        assert_eq!(
            items(b"[1,\"0123456789\",2]", 5),
            [Ok("1".into()), Err(DropReason::TooLong), Ok("2".into())]
        );
        assert_eq!(items(b"[\"\xFF\"]", 9), [Err(DropReason::NotUtf8)]);
    }

    proptest! {
        #[test]
        fn every_element_comes_back(values in proptest::collection::vec("\\PC{0,20}", 0..8), pretty: bool) {
            let list: Vec<serde_json::Value> = values.iter().map(|text| serde_json::json!({ "t": text, "l": [text] })).collect();
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) }.unwrap();
            let found = items(text.as_bytes(), 10_000);
            prop_assert_eq!(found.len(), list.len());
            for (found, value) in found.iter().zip(&list) {
                let read: serde_json::Value = serde_json::from_str(found.as_ref().unwrap()).unwrap();
                prop_assert_eq!(&read, value);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut array = b"[".to_vec();
            array.extend(bytes);
            items(&array, 20);
        }
    }
}
