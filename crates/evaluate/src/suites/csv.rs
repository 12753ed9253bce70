//! Comma-separated values with a header line (RFC 4180): fields may be quoted and hold line ends.

use serde_json::{Map, Value};

use super::SuiteError;
use super::source::{Record, SourceFile};

impl SourceFile {
    /// The rows as records, by the names of the header.
    pub(crate) fn table(&self) -> Result<Vec<Record>, SuiteError> {
        let text = self.text()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rows = rows(text)
            .map_err(|(line, why)| SuiteError::broken(format!("{}:{line}", self.path.display()), why))?
            .into_iter();
        let Some((_, header)) = rows.next() else { return Ok(Vec::new()) };
        rows.filter(|(_, row)| row.len() > 1 || row.iter().any(|field| !field.trim().is_empty()))
            .map(|(line, row)| {
                let place = format!("{}:{line}", self.path.display());
                if row.len() != header.len() {
                    let why = format!("{} fields, and the header has {}", row.len(), header.len());
                    return Err(SuiteError::Broken { place, why });
                }
                let fields: Map<String, Value> = header
                    .iter()
                    .map(|name| name.trim().to_owned())
                    .zip(row.into_iter().map(Value::String))
                    .collect();
                Record::new(place, Value::Object(fields))
            })
            .collect()
    }
}

/// The line, counted from 1, on which a row begins, and its fields.
type Row = (usize, Vec<String>);

/// The rows, or the line on which something is wrong, and what.
fn rows(text: &str) -> Result<Vec<Row>, (usize, &'static str)> {
    let mut rows = Vec::new();
    let mut row: Vec<String> = Vec::new();
    let mut field = String::new();
    let (mut line, mut first_line) = (1, 1);
    // `quoted`: inside quotes; `closed`: after the closing quote of a field.
    let (mut quoted, mut closed) = (false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => (quoted, closed) = (false, true),
            '"' if field.is_empty() && !closed => quoted = true,
            '\n' if quoted => {
                line += 1;
                field.push('\n');
            }
            _ if quoted => field.push(character),
            ',' => {
                row.push(std::mem::take(&mut field));
                closed = false;
            }
            '\r' if matches!(characters.peek(), None | Some('\n')) => {}
            '\n' => {
                row.push(std::mem::take(&mut field));
                rows.push((first_line, std::mem::take(&mut row)));
                closed = false;
                line += 1;
                first_line = line;
            }
            _ if closed => return Err((line, "text after the closing quote of a field")),
            _ => field.push(character),
        }
    }
    if quoted {
        return Err((first_line, "a quoted field is not closed"));
    }
    if !field.is_empty() || !row.is_empty() || closed {
        row.push(field);
        rows.push((first_line, row));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quoted(field: &str) -> String {
        format!("\"{}\"", field.replace('"', "\"\""))
    }

    #[test]
    fn quotes_commas_and_line_ends() {
        let text = "a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n,\n";
        let found = rows(text).expect("well formed");
        let expected = vec![
            (1, vec!["a".to_owned(), "b".to_owned()]),
            (2, vec!["1".to_owned(), "x, \"y\"\nz".to_owned()]),
            (4, vec![String::new(), String::new()]),
        ];
        assert_eq!(found, expected);
        assert_eq!(rows("a\n\"b"), Err((2, "a quoted field is not closed")));
        assert_eq!(rows("\"a\"b"), Err((1, "text after the closing quote of a field")));
        assert_eq!(rows(""), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(table in prop::collection::vec(prop::collection::vec(".{0,8}", 2..4), 1..5)) {
            let text: String = table
                .iter()
                .map(|row| row.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(",") + "\n")
                .collect();
            let found: Vec<Vec<String>> = rows(&text).expect("well formed").into_iter().map(|(_, row)| row).collect();
            prop_assert_eq!(found, table);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\",\r\na-c]{0,40}") {
            let _ = rows(&text);
        }
    }
}
