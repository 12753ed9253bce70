//! Tables: CSV as RFC 4180 describes it, and Parquet, each row as a JSON object with the column's names as keys.

use std::io::BufRead;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Number, Value};

use crate::collect::Refusal;
use crate::{CorpusError, DropReason};

/// One row, or why there is none.
pub(crate) type Row = Result<Map<String, Value>, Refusal>;

/// The rows of a CSV file whose first row names the columns. Quoted fields may hold line ends and doubled quotes.
pub(crate) struct CsvRows<R> {
    reader: R,
    names: Vec<String>,
    limit: usize,
    line: usize,
    ended: bool,
}

impl CsvRows<std::io::BufReader<fs_err::File>> {
    /// Opens a file and reads its header; rows longer than `limit` bytes are refused without being kept in memory.
    pub(crate) fn open(path: &Path, limit: usize) -> Result<Self, CorpusError> {
        let io = |source| CorpusError::Io { path: path.to_owned(), source };
        let file = fs_err::File::open(path).map_err(io)?;
        Self::new(std::io::BufReader::new(file), limit).map_err(io)
    }
}

impl<R: BufRead> CsvRows<R> {
    fn new(mut reader: R, limit: usize) -> std::io::Result<Self> {
        if reader.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
            reader.consume(3);
        }
        let mut rows = Self { reader, names: Vec::new(), limit, line: 1, ended: false };
        let header = rows.fields()?.unwrap_or(Ok(Vec::new()));
        rows.names = header.map_err(|(_, detail)| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, format!("header: {detail}"))
        })?;
        Ok(rows)
    }

    /// The fields of the next row; nothing at the end.
    fn fields(&mut self) -> std::io::Result<Option<Result<Vec<String>, Refusal>>> {
        let (mut fields, mut field, mut length) = (Vec::new(), Vec::new(), 0_usize);
        // A quote that was just read inside a quoted field either ends it or is the first half of a doubled one.
        let (mut quoted, mut after_quote, mut any) = (false, false, false);
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                self.ended = true;
                if !any {
                    return Ok(None);
                }
                if quoted && !after_quote {
                    let detail = "the file ends inside a quoted field".to_owned();
                    return Ok(Some(Err((DropReason::Truncated, detail))));
                }
                fields.push(field);
                break;
            }
            let (mut used, mut done) = (0, false);
            for byte in buffer {
                used += 1;
                any = true;
                self.line += usize::from(*byte == b'\n');
                length += 1;
                if quoted && !after_quote {
                    if *byte == b'"' {
                        after_quote = true;
                    } else if length <= self.limit {
                        field.push(*byte);
                    }
                    continue;
                }
                match byte {
                    b'"' if after_quote => {
                        after_quote = false;
                        field.push(b'"');
                    }
                    b'"' if field.is_empty() && !quoted => quoted = true,
                    b',' | b'\n' => {
                        if *byte == b'\n' && field.last() == Some(&b'\r') && !quoted {
                            field.pop();
                        }
                        fields.push(std::mem::take(&mut field));
                        (quoted, after_quote) = (false, false);
                        done = *byte == b'\n';
                        if done {
                            break;
                        }
                    }
                    // What stands between a closing quote and the comma is only ever a carriage return.
                    b'\r' if after_quote => {}
                    _ if length <= self.limit => field.push(*byte),
                    _ => {}
                }
            }
            self.reader.consume(used);
            if done {
                break;
            }
        }
        if length > self.limit {
            let detail = format!("the row has {length} bytes, {} are allowed", self.limit);
            return Ok(Some(Err((DropReason::TooLong, detail))));
        }
        let texts: Result<Vec<String>, _> = fields.into_iter().map(String::from_utf8).collect();
        Ok(Some(texts.map_err(|error| (DropReason::NotUtf8, format!("a field is not UTF-8: {error}")))))
    }
}

impl<R: BufRead> Iterator for CsvRows<R> {
    /// The line on which the row starts, and the row.
    type Item = std::io::Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let line = self.line;
            let fields = match self.fields() {
                Ok(fields) => fields?,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            };
            let row = match fields {
                Ok(fields) if fields.iter().all(String::is_empty) => continue,
                Ok(fields) if fields.len() != self.names.len() => {
                    let detail =
                        format!("the row has {} fields, the header {}", fields.len(), self.names.len());
                    Err((DropReason::WrongType, detail))
                }
                Ok(fields) => {
                    Ok(self.names.iter().cloned().zip(fields.into_iter().map(Value::String)).collect())
                }
                Err(refusal) => Err(refusal),
            };
            return Some(Ok((line, row)));
        }
        None
    }
}

/// Every row of a Parquet file, nested columns included, given to `take` with its number from 1.
///
/// # Errors
/// A file that is no Parquet, uses a codec other than Snappy and Zstandard, or breaks off.
pub(crate) fn parquet_rows(path: &Path, take: &mut dyn FnMut(usize, Row)) -> Result<(), CorpusError> {
    let broken = |error: parquet::errors::ParquetError| CorpusError::BrokenFile {
        path: path.to_owned(),
        kind: "Parquet",
        message: error.to_string(),
    };
    let file =
        fs_err::File::open(path).map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
    let (file, _) = file.into_parts();
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    for (index, row) in reader.get_row_iter(None).map_err(broken)?.enumerate() {
        let row = row.map_err(broken)?;
        let object = row.into_columns().into_iter().map(|(name, field)| Ok((name, value(field)?))).collect();
        take(index + 1, object);
    }
    Ok(())
}

/// A Parquet value as JSON.
fn value(field: Field) -> Result<Value, Refusal> {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => Value::Bool(flag),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float(number) => float(f64::from(number)),
        Field::Double(number) => float(number),
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => match String::from_utf8(bytes.data().to_vec()) {
            Ok(text) => Value::String(text),
            Err(error) => return Err((DropReason::NotUtf8, format!("a field is not UTF-8: {error}"))),
        },
        Field::Group(row) => Value::Object(
            row.into_columns()
                .into_iter()
                .map(|(name, field)| Ok((name, value(field)?)))
                .collect::<Result<_, Refusal>>()?,
        ),
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().cloned().map(value).collect::<Result<_, Refusal>>()?)
        }
        other => Value::String(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(text: &[u8], limit: usize) -> Vec<(usize, Result<String, DropReason>)> {
        CsvRows::new(std::io::BufReader::with_capacity(4, text), limit)
            .unwrap()
            .map(|row| {
                let (line, row) = row.unwrap();
                (line, row.map(|row| Value::Object(row).to_string()).map_err(|(reason, _)| reason))
            })
            .collect()
    }

    #[test]
    fn quoted_fields_hold_commas_quotes_and_line_ends() {
        let text = b"\xEF\xBB\xBFa,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\n,\n\"q\",5\n3\n\"\xFF\",1\n\"open,";
        let found = rows(text, 100);
        assert_eq!(
            found,
            [
                (2, Ok("{\"a\":\"1\",\"b\":\"x, \\\"y\\\"\\nz\"}".into())),
                (6, Ok("{\"a\":\"q\",\"b\":\"5\"}".into())),
                (7, Err(DropReason::WrongType)),
                (8, Err(DropReason::NotUtf8)),
                (9, Err(DropReason::Truncated)),
            ]
        );
        let long = format!("a\n\"{}\"\nok\n", "x".repeat(50));
        assert_eq!(
            rows(long.as_bytes(), 20),
            [(2, Err(DropReason::TooLong)), (3, Ok("{\"a\":\"ok\"}".into()))]
        );
    }

    proptest! {
        #[test]
        fn written_rows_are_read_again(cells in proptest::collection::vec(("[a-z\",\n\r ]{0,9}x", "\\PC{1,9}"), 0..6)) {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let mut text = "a,b\n".to_owned();
            for (first, second) in &cells {
                text.push_str(&format!("{},{}\r\n", quote(first), quote(second)));
            }
            let found: Vec<_> = CsvRows::new(text.as_bytes(), 1_000).unwrap().map(|row| row.unwrap().1.unwrap()).collect();
            prop_assert_eq!(found.len(), cells.len());
            for (row, (first, second)) in found.iter().zip(&cells) {
                prop_assert_eq!(row["a"].as_str(), Some(first.as_str()));
                prop_assert_eq!(row["b"].as_str(), Some(second.as_str()));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(rows) = CsvRows::new(bytes.as_slice(), 30) {
                prop_assert!(rows.count() <= bytes.len());
            }
        }
    }
}
