//! PrimeVul+ as Parquet: the same schema as the JSON lines, nested columns and all, as Python's `datasets` reads it.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde_json::Value;

use crate::table::parquet_rows;
use crate::{CorpusError, Prompt, RepairPair, Tests, check_pair};

/// Writes pairs as one Parquet file, all or nothing.
///
/// # Errors
/// I/O errors, with the path.
pub fn write_primevul_plus_parquet(path: &Path, pairs: &[RepairPair]) -> Result<(), CorpusError> {
    let write = |message: String| CorpusError::Write { path: path.to_owned(), message };
    let bytes = encoded(pairs, batch).map_err(|error| write(error.to_string()))?;
    vul2safe_run::write_atomic(path, &bytes).map_err(|error| write(error.to_string()))
}

/// Reads one Parquet file as strictly as the JSON lines are read.
pub(crate) fn read_pairs(path: &Path, pairs: &mut Vec<RepairPair>) -> Result<(), CorpusError> {
    let mut first_problem = None;
    parquet_rows(path, &mut |number, row| {
        if first_problem.is_some() {
            return;
        }
        let invalid = |field: &str, message: String| CorpusError::InvalidPair {
            path: path.to_owned(),
            line: number,
            field: field.into(),
            message,
        };
        let pair =
            row.map_err(|(reason, detail)| invalid("(row)", format!("{reason}: {detail}"))).and_then(|row| {
                serde_json::from_value::<RepairPair>(Value::Object(row))
                    .map_err(|error| invalid("(row)", error.to_string()))
            });
        match pair {
            Err(error) => first_problem = Some(error),
            Ok(pair) => match check_pair(&pair).into_iter().next() {
                Some(problem) => {
                    let (field, message) = problem.split_once(": ").unwrap_or(("(row)", &problem));
                    first_problem = Some(invalid(field, message.to_owned()));
                }
                None => pairs.push(pair),
            },
        }
    })?;
    first_problem.map_or(Ok(()), Err)
}

/// Rows of one group: enough for good compression, and few enough that a reader needs little memory.
const ROWS_OF_A_GROUP: usize = 1_000;

/// A view of the pairs, one row a prompt: the same rows as [`crate::sft_rows`], [`crate::chat_rows`] or
/// [`crate::rl_rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViewShape {
    Sft,
    Chat,
    Rl,
}

/// Writes the rows of a view as one Parquet file, all or nothing.
pub(crate) fn write_view(path: &Path, pairs: &[RepairPair], shape: ViewShape) -> Result<(), CorpusError> {
    let write = |message: String| CorpusError::Write { path: path.to_owned(), message };
    let batch = |pairs: &[RepairPair]| view_batch(pairs, shape);
    let bytes = encoded(pairs, batch).map_err(|error| write(error.to_string()))?;
    vul2safe_run::write_atomic(path, &bytes).map_err(|error| write(error.to_string()))
}

fn view_batch(pairs: &[RepairPair], shape: ViewShape) -> Result<RecordBatch, ArrowError> {
    let rows: Vec<(&RepairPair, &Prompt)> =
        pairs.iter().flat_map(|pair| pair.prompts.iter().map(move |prompt| (pair, prompt))).collect();
    let requests: Vec<String> = rows.iter().map(|(_, prompt)| prompt.request()).collect();
    let user = || requests.iter().map(|request| vec![("user", request.as_str())]);
    let answers: Vec<&str> = rows.iter().map(|(pair, _)| pair.secure.as_str()).collect();
    let mut columns = vec![
        texts("id", rows.iter().map(|(pair, _)| pair.id.as_str())),
        words("language", rows.iter().map(|(pair, _)| &pair.language)),
        texts("style", rows.iter().map(|(_, prompt)| prompt.style.as_str())),
        text_lists("cwe", rows.iter().map(|(pair, _)| pair.cwe.iter().map(ToString::to_string).collect())),
    ];
    match shape {
        ViewShape::Sft => {
            columns.push(messages("prompt", user())?);
            let completions = answers.iter().map(|answer| vec![("assistant", *answer)]);
            columns.push(messages("completion", completions)?);
        }
        ViewShape::Chat => {
            let both = requests.iter().zip(&answers);
            let conversations =
                both.map(|(request, answer)| vec![("user", request.as_str()), ("assistant", *answer)]);
            columns.push(messages("messages", conversations)?);
        }
        ViewShape::Rl => {
            columns.push(messages("prompt", user())?);
            columns.push(texts("vulnerable", rows.iter().map(|(pair, _)| pair.vulnerable.as_str())));
            columns.push(texts("secure", answers.iter().copied()));
            let of_rows: Vec<&RepairPair> = rows.iter().map(|(pair, _)| *pair).collect();
            columns.push(spans(&of_rows)?);
            let tests: Vec<Option<&Tests>> = of_rows.iter().map(|pair| pair.tests.as_ref()).collect();
            let functional = tests.iter().map(|tests| tests.map_or("", |tests| tests.functional.as_str()));
            columns.push(texts("functional_tests", functional));
            let processes = tests.iter().map(|tests| tests.map_or(0, |tests| i64::from(tests.processes)));
            columns.push(numbers("processes", processes));
        }
    }
    let (fields, arrays) = parts(columns);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// Conversations, each a list of `(role, content)`.
fn messages<'a>(
    name: &'static str,
    conversations: impl Iterator<Item = Vec<(&'a str, &'a str)>>,
) -> Result<Column, ArrowError> {
    let conversations: Vec<Vec<(&str, &str)>> = conversations.collect();
    let columns = vec![
        texts("role", conversations.iter().flatten().map(|(role, _)| *role)),
        texts("content", conversations.iter().flatten().map(|(_, content)| *content)),
    ];
    list(name, columns, conversations.iter().map(Vec::len))
}

fn encoded(
    pairs: &[RepairPair],
    batch: impl Fn(&[RepairPair]) -> Result<RecordBatch, ArrowError>,
) -> Result<Vec<u8>, ArrowError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROWS_OF_A_GROUP))
        .build();
    let schema = batch(&[])?.schema();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties))?;
    for pairs in pairs.chunks(ROWS_OF_A_GROUP) {
        writer.write(&batch(pairs)?)?;
    }
    writer.close()?;
    Ok(bytes)
}

/// A column under construction: name, whether it may be null, values.
type Column = (&'static str, bool, ArrayRef);

fn batch(pairs: &[RepairPair]) -> Result<RecordBatch, ArrowError> {
    let columns = vec![
        texts("id", pairs.iter().map(|pair| pair.id.as_str())),
        words("language", pairs.iter().map(|pair| &pair.language)),
        text_lists("cwe", pairs.iter().map(|pair| pair.cwe.iter().map(ToString::to_string).collect())),
        optional_texts("cve", pairs.iter().map(|pair| pair.cve.as_deref())),
        optional_texts("project", pairs.iter().map(|pair| pair.project.as_deref())),
        optional_texts("commit", pairs.iter().map(|pair| pair.commit.as_deref())),
        optional_texts("date", pairs.iter().map(|pair| pair.date.as_deref())),
        optional_texts("file_name", pairs.iter().map(|pair| pair.file_name.as_deref())),
        optional_texts("license", pairs.iter().map(|pair| pair.license.as_deref())),
        texts("vulnerable", pairs.iter().map(|pair| pair.vulnerable.as_str())),
        texts("secure", pairs.iter().map(|pair| pair.secure.as_str())),
        structure(
            "repair",
            vec![
                texts("by", pairs.iter().map(|pair| pair.repair.by.as_str())),
                numbers("rounds", pairs.iter().map(|pair| i64::from(pair.repair.rounds))),
            ],
            None,
        )?,
        (
            "confidence",
            false,
            Arc::new(Float64Array::from_iter_values(pairs.iter().map(|pair| pair.confidence))),
        ),
        evidence(pairs)?,
        spans(&pairs.iter().collect::<Vec<_>>())?,
        prompts(pairs)?,
        tests(pairs)?,
        words("split", pairs.iter().map(|pair| &pair.split)),
        structure(
            "source",
            vec![
                texts("dataset", pairs.iter().map(|pair| pair.source.dataset.as_str())),
                texts("id", pairs.iter().map(|pair| pair.source.id.as_str())),
            ],
            None,
        )?,
        texts("hash", pairs.iter().map(|pair| pair.hash.as_str())),
    ];
    let (fields, arrays) = parts(columns);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

fn evidence(pairs: &[RepairPair]) -> Result<Column, ArrowError> {
    let all = || pairs.iter().flat_map(|pair| &pair.evidence);
    let columns = vec![
        texts("check", all().map(|evidence| evidence.check.as_str())),
        words("verdict", all().map(|evidence| &evidence.verdict)),
        texts("detail", all().map(|evidence| evidence.detail.as_str())),
    ];
    list("evidence", columns, pairs.iter().map(|pair| pair.evidence.len()))
}

fn spans(pairs: &[&RepairPair]) -> Result<Column, ArrowError> {
    let all = || pairs.iter().flat_map(|pair| &pair.spans);
    let cwe: Vec<Option<String>> = all().map(|span| span.cwe.map(|cwe| cwe.to_string())).collect();
    // A text has at most 1 MiB, so its offsets fit.
    let columns = vec![
        words("side", all().map(|span| &span.side)),
        numbers("start", all().map(|span| span.start as i64)),
        numbers("end", all().map(|span| span.end as i64)),
        words("kind", all().map(|span| &span.kind)),
        optional_texts("cwe", cwe.iter().map(Option::as_deref)),
        texts("reason", all().map(|span| span.reason.as_str())),
        words("by", all().map(|span| &span.by)),
    ];
    list("spans", columns, pairs.iter().map(|pair| pair.spans.len()))
}

fn prompts(pairs: &[RepairPair]) -> Result<Column, ArrowError> {
    let all = || pairs.iter().flat_map(|pair| &pair.prompts);
    let columns = vec![
        texts("text", all().map(|prompt| prompt.text.as_str())),
        texts("style", all().map(|prompt| prompt.style.as_str())),
        optional_texts("prefix", all().map(|prompt| prompt.prefix.as_deref())),
        text_lists("checks", all().map(|prompt| prompt.checks.clone())),
    ];
    list("prompts", columns, pairs.iter().map(|pair| pair.prompts.len()))
}

fn tests(pairs: &[RepairPair]) -> Result<Column, ArrowError> {
    let functional =
        |pair: &RepairPair| pair.tests.as_ref().map_or(String::new(), |tests| tests.functional.clone());
    let functional: Vec<String> = pairs.iter().map(functional).collect();
    let columns = vec![
        texts("functional", functional.iter().map(String::as_str)),
        numbers(
            "processes",
            pairs.iter().map(|pair| pair.tests.as_ref().map_or(0, |tests| i64::from(tests.processes))),
        ),
    ];
    structure("tests", columns, Some(pairs.iter().map(|pair| pair.tests.is_some()).collect()))
}

fn texts<'a>(name: &'static str, values: impl Iterator<Item = &'a str>) -> Column {
    (name, false, Arc::new(StringArray::from_iter_values(values)))
}

fn optional_texts<'a>(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Column {
    (name, true, Arc::new(values.collect::<StringArray>()))
}

fn numbers(name: &'static str, values: impl Iterator<Item = i64>) -> Column {
    (name, false, Arc::new(Int64Array::from_iter_values(values)))
}

/// Enumerations as the words that their JSON has.
fn words<'a, T: Serialize + 'a>(name: &'static str, values: impl Iterator<Item = &'a T>) -> Column {
    let words = values.map(|value| match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        other => unreachable!("`{name}` is an enumeration without data, whose JSON is a word: {other:?}"),
    });
    (name, false, Arc::new(StringArray::from_iter_values(words)))
}

fn text_lists(name: &'static str, values: impl Iterator<Item = Vec<String>>) -> Column {
    let field = Arc::new(Field::new("item", DataType::Utf8, false));
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(field);
    for list in values {
        for text in list {
            builder.values().append_value(text);
        }
        builder.append(true);
    }
    (name, false, Arc::new(builder.finish()))
}

fn parts(columns: Vec<Column>) -> (Fields, Vec<ArrayRef>) {
    let fields = columns
        .iter()
        .map(|(name, null, array)| Field::new(*name, array.data_type().clone(), *null))
        .collect();
    (fields, columns.into_iter().map(|(_, _, array)| array).collect())
}

/// A nested object; `present` says in which rows it is there, none: in all.
fn structure(
    name: &'static str,
    columns: Vec<Column>,
    present: Option<Vec<bool>>,
) -> Result<Column, ArrowError> {
    let (fields, arrays) = parts(columns);
    let may_be_null = present.is_some();
    let array = StructArray::try_new(fields, arrays, present.map(Into::into))?;
    Ok((name, may_be_null, Arc::new(array)))
}

/// Lists of nested objects, `lengths` of them in each row.
fn list(
    name: &'static str,
    columns: Vec<Column>,
    lengths: impl Iterator<Item = usize>,
) -> Result<Column, ArrowError> {
    let (_, _, items) = structure(name, columns, None)?;
    let field = Arc::new(Field::new("item", items.data_type().clone(), false));
    let array = ListArray::try_new(field, arrow_offsets(lengths), items, None)?;
    Ok((name, false, Arc::new(array)))
}

fn arrow_offsets(lengths: impl Iterator<Item = usize>) -> arrow_buffer::OffsetBuffer<i32> {
    arrow_buffer::OffsetBuffer::from_lengths(lengths)
}
