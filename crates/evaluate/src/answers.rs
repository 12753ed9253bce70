//! Answers out of JSON Lines files, in the forms that evaluation programs write.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::Suite;
use crate::suites::SuiteError;
use crate::suites::source::{Record, SourceFile, kind, short};

/// One answer to one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Place of the task in [`Suite::items`].
    pub item: usize,
    /// Which of the answers to this task and of this seed it is, from 0.
    pub sample: u32,
    /// The seed it was drawn with; 0 where that is not known.
    pub seed: u64,
    /// The model's words.
    pub text: String,
    /// Whether the model ended it itself.
    pub finished: bool,
    /// Whether the server says that it withheld the answer or that the model declined. Words that are a refusal are
    /// recognised without this.
    pub refused: bool,
}

/// Fields that may name the task: those of human-eval, of MultiPL-E, and of the suites' own files.
const TASK: [&str; 7] = ["task_id", "task", "id", "name", "ID", "prompt_id", "Prompt ID"];
/// Fields that may hold one answer (a text) or several (a list of texts).
const TEXT: [&str; 13] = [
    "completion",
    "solution",
    "answer",
    "output",
    "response",
    "generation",
    "samples",
    "completions",
    "solutions",
    "answers",
    "outputs",
    "responses",
    "generations",
];

/// Reads the answers in a JSON Lines file (or a JSON list) to the tasks of `suite`.
///
/// A line names its task in one of `task_id`, `task`, `id`, `name`, `ID`, `prompt_id`, `Prompt ID`, and has one answer (a
/// text) or several (a list of texts) in `completion(s)`, `solution(s)`, `answer(s)`, `output(s)`, `response(s)`,
/// `generation(s)` or `samples`. `seed` (a whole number) and `finished` (`false`: the answer was cut off) may be there;
/// other fields are not looked at. Several lines of one task and seed are several samples, in their order.
///
/// # Errors
/// [`SuiteError`] with file and line: what is no JSON, a line without task or answer, values of another type, an answer to
/// a task that the suite does not have.
pub fn read_answers(path: &Path, suite: &Suite) -> Result<Vec<Answer>, SuiteError> {
    if path.is_dir() {
        let suite = "a file of answers";
        return Err(SuiteError::Folder { path: path.to_path_buf(), suite, wanted: "a .jsonl file" });
    }
    parse_answers(&SourceFile::read(path)?, suite)
}

/// The same from a file that is at hand.
///
/// # Errors
/// As [`read_answers`].
pub fn parse_answers(file: &SourceFile, suite: &Suite) -> Result<Vec<Answer>, SuiteError> {
    let tasks = Tasks::new(suite);
    let mut samples: HashMap<(usize, u64), u32> = HashMap::new();
    let mut answers = Vec::new();
    for record in file.records()? {
        let item = tasks.find(&record)?;
        let seed = match record.get("seed") {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_u64().ok_or_else(|| record.wrong("seed", "a whole number", value))?,
        };
        let finished = match record.get("finished") {
            None | Some(Value::Null) => true,
            Some(value) => value.as_bool().ok_or_else(|| record.wrong("finished", "true or false", value))?,
        };
        for text in texts(&record)? {
            let count = samples.entry((item, seed)).or_default();
            answers.push(Answer { item, sample: *count, seed, text, finished, refused: false });
            *count += 1;
        }
    }
    if answers.is_empty() {
        return Err(SuiteError::Empty { path: file.path.clone(), suite: "answers" });
    }
    Ok(answers)
}

fn texts(record: &Record) -> Result<Vec<String>, SuiteError> {
    let Some((field, value)) = TEXT.iter().find_map(|&field| Some((field, record.get(field)?))) else {
        return Err(SuiteError::NoAnswer { place: record.place.clone(), fields: TEXT.join("`, `") });
    };
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(list) => list
            .iter()
            .map(|one| {
                one.as_str().map(str::to_owned).ok_or_else(|| record.wrong(field, "a list of texts", one))
            })
            .collect(),
        other => Err(SuiteError::WrongType {
            place: record.place.clone(),
            field: field.to_owned(),
            wanted: "a text or a list of texts",
            found: kind(other),
        }),
    }
}

/// The tasks of a suite by their ids, and by what stands behind the last `/` where that is unique.
struct Tasks {
    by_id: HashMap<String, usize>,
    by_end: HashMap<String, Option<usize>>,
}

impl Tasks {
    fn new(suite: &Suite) -> Tasks {
        let by_id = suite.items.iter().enumerate().map(|(index, item)| (item.id.clone(), index)).collect();
        let mut by_end: HashMap<String, Option<usize>> = HashMap::new();
        for (index, item) in suite.items.iter().enumerate() {
            let end = item.id.rsplit('/').next().unwrap_or(&item.id).to_owned();
            by_end.entry(end).and_modify(|found| *found = None).or_insert(Some(index));
        }
        Tasks { by_id, by_end }
    }

    fn find(&self, record: &Record) -> Result<usize, SuiteError> {
        let Some(&field) = TASK.iter().find(|&&field| record.has(field)) else {
            return Err(SuiteError::NoAnswer { place: record.place.clone(), fields: TASK.join("`, `") });
        };
        let id = record.id(field)?;
        let found = self.by_id.get(&id).copied().or_else(|| self.by_end.get(&id).copied().flatten());
        found.ok_or_else(|| SuiteError::UnknownTask { place: record.place.clone(), id: short(&id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Item;
    use std::collections::BTreeMap;
    use vul2safe_code::Language;

    fn suite() -> Suite {
        let items = ["HumanEval/0", "HumanEval/1"].map(|id| Item::new(id, "HumanEval", Language::Python));
        Suite { name: "HumanEval".to_owned(), items: items.to_vec(), left_out: BTreeMap::new() }
    }

    fn read(text: &str) -> Result<Vec<Answer>, SuiteError> {
        parse_answers(&SourceFile::new(Path::new("a.jsonl"), text.as_bytes().to_vec())?, &suite())
    }

    fn answer(item: usize, sample: u32, seed: u64, text: &str) -> Answer {
        Answer { item, sample, seed, text: text.to_owned(), finished: true, refused: false }
    }

    #[test]
    fn the_forms_of_other_programs() {
        let expected = vec![answer(0, 0, 0, "x"), answer(0, 1, 0, "y"), answer(1, 0, 0, "z")];
        for text in [
            "{\"task_id\": \"HumanEval/0\", \"completion\": \"x\"}\n{\"task_id\": \"HumanEval/0\", \"completion\": \"y\"}\n\n\
             {\"task_id\": \"HumanEval/1\", \"completion\": \"z\"}\n",
            "{\"id\": 0, \"samples\": [\"x\", \"y\"]}\n{\"id\": \"1\", \"answer\": \"z\", \"model\": \"m\"}",
            "[{\"task\": \"HumanEval/0\", \"outputs\": [\"x\", \"y\"]}, {\"task\": \"HumanEval/1\", \"solution\": \"z\"}]",
        ] {
            assert_eq!(read(text).expect("well formed"), expected, "{text}");
        }
        let cut =
            read("{\"id\": 0, \"answer\": \"x\", \"seed\": 7, \"finished\": false}").expect("well formed");
        assert_eq!(cut, [Answer { finished: false, ..answer(0, 0, 7, "x") }]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, words) in [
            ("{\"id\": 0, \"answer\": 5}", ["a.jsonl:1", "`answer`"]),
            ("{\"id\": 0, \"samples\": [\"x\", null]}", ["a.jsonl:1", "null"]),
            ("\n{\"id\": 0}", ["a.jsonl:2", "completion"]),
            ("{\"answer\": \"x\"}", ["a.jsonl:1", "task_id"]),
            ("{\"id\": 9, \"answer\": \"x\"}", ["a.jsonl:1", "`9`"]),
            ("{\"id\": 0, \"answer\": \"x", ["a.jsonl:1", "EOF"]),
            ("{\"id\": 0, \"answer\": \"x\", \"seed\": -1}", ["a.jsonl:1", "`seed`"]),
            ("7", ["a.jsonl:1", "object"]),
            ("", ["a.jsonl", "answers"]),
        ] {
            let error = read(text).expect_err(text);
            let message = error.to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{text}: {message}");
            assert!(error.hint().is_some());
        }
    }
}
