//! CWEval (github.com/Co1lin/CWEval): a folder with a file a task and language, `core/py/cwe_022_0_task.py`, beside its
//! pytest file, `cwe_022_0_test.py`.
//!
//! Of a task file, the text up to an optional line `BEGIN PROMPT` is preamble, up to `BEGIN SOLUTION` the prompt, up to an
//! optional `BEGIN ENTRYPOINT` the suite's own answer; the rest belongs behind every answer. The cases of a test file are
//! marked `functionality` or `security`. As in the suite, any failure of a `security` case says that the answer is not
//! secure. Cases on the suite's own `_unsafe` functions say nothing about an answer and are not run.
//!
//! Tests of C and C++ tasks run compiled programs by their path. Those tasks are judged by static findings alone.

use std::collections::BTreeMap;

use super::{Format, Layout, SourceFile, SuiteError, Tasks, python};
use crate::item::{Completion, Form, Item};
use vul2safe_code::{Cwe, Language};

pub(super) const FORMAT: Format = Format {
    word: "cweval",
    name: "CWEval",
    layout: Layout::Folder {
        wanted: "benchmark",
        belongs: |name| ["_task.", "_test.py", "_unsafe."].iter().any(|part| name.contains(part)),
    },
    parse,
};

/// What stands in for pytest, and runs the cases.
const RUNNER: &str = include_str!("cweval.py");

fn parse(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    let by_path: BTreeMap<String, &SourceFile> =
        files.iter().map(|file| (file.path.to_string_lossy().into_owned(), file)).collect();
    for (path, file) in &by_path {
        let Some((stem, extension)) = path.rsplit_once("_task.") else { continue };
        let parts: Vec<&str> = stem.rsplit(['/', '\\']).collect();
        let (name, folder) = (parts[0], parts.get(1).copied().unwrap_or_default());
        let Some(cwe) = cwe_of(name) else {
            return Err(SuiteError::broken(path.as_str(), "the file's name has no CWE number"));
        };
        let task = Parts::of(file)?;
        let Some(language) = tasks.language(extension) else { continue };
        let (functional, exploit) = match language {
            Language::Python => {
                let test = by_path.get(&format!("{stem}_test.py")).ok_or_else(|| SuiteError::NoTest {
                    place: path.clone(),
                    id: name.to_owned(),
                    why: "there is no pytest file beside it".to_owned(),
                })?;
                let text = test.text()?;
                for mark in ["functionality", "security"] {
                    if !text.contains(mark) {
                        return Err(SuiteError::NoTest {
                            place: test.path.display().to_string(),
                            id: name.to_owned(),
                            why: format!("no case is marked `{mark}`"),
                        });
                    }
                }
                (Some(tests(name, text, "functionality")), Some(tests(name, text, "security")))
            }
            _ => (None, None),
        };
        let head = match language {
            Language::Python => python::head(task.prompt, None),
            _ => 0,
        };
        let insecure = match by_path.get(&format!("{stem}_unsafe.{extension}")) {
            Some(file) => Some(Parts::of(file)?.solution.to_owned()),
            None => None,
        };
        let mark = language.as_str();
        let item = Item {
            request: format!(
                "Complete this code. Answer with the complete code in one block, without examples of use.\n\n\
                 ```{mark}\n{}{}\n```\n",
                task.preamble,
                task.prompt.trim_end()
            ),
            form: Form::Completion(Completion {
                before: task.preamble.to_owned(),
                prompt: task.prompt.to_owned(),
                head,
                after: task.entry_point.to_owned(),
                stop: if language == Language::Python {
                    ["\ndef ", "\nclass ", "\nif ", "\n@", "\nprint"].map(str::to_owned).to_vec()
                } else {
                    Vec::new()
                },
                fragment: false,
            }),
            functional,
            exploit,
            // The suite's tasks start programs such as `ls`.
            processes: 4,
            reference: Some(task.solution.to_owned()),
            insecure,
            ..Item::new(format!("{folder}/{name}"), format!("CWEval {folder}"), language)
                .with_weakness(Some(cwe))
        };
        tasks.push(item, path)?;
    }
    Ok(())
}

/// The number in `cwe_022_0` or `cwe_022_0_c`.
fn cwe_of(name: &str) -> Option<Cwe> {
    let mut words = name.split('_');
    (words.next() == Some("cwe")).then(|| words.next().and_then(Cwe::parse)).flatten()
}

/// The test source in the judge's form that runs the cases with this mark.
fn tests(name: &str, text: &str, mark: &str) -> String {
    format!(
        "_TASK = {}\n_MARK = {}\n_SOURCE = {}\n{RUNNER}\n\ndef test_{mark}(answer):\n    _run(answer)\n",
        python::literal(&format!("{name}_task")),
        python::literal(mark),
        python::literal(text),
    )
}

/// A task file, cut at its marks; lines with a mark belong to no part.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    preamble: &'a str,
    prompt: &'a str,
    solution: &'a str,
    entry_point: &'a str,
}

impl<'a> Parts<'a> {
    fn of(file: &'a SourceFile) -> Result<Parts<'a>, SuiteError> {
        let text = file.text()?;
        let (preamble, rest) = cut(text, "BEGIN PROMPT").unwrap_or(("", text));
        let Some((prompt, rest)) = cut(rest, "BEGIN SOLUTION") else {
            return Err(SuiteError::broken(file.path.display().to_string(), "no line with `BEGIN SOLUTION`"));
        };
        if prompt.trim().is_empty() {
            return Err(SuiteError::broken(
                file.path.display().to_string(),
                "nothing stands before `BEGIN SOLUTION`",
            ));
        }
        let (solution, entry_point) = cut(rest, "BEGIN ENTRYPOINT").unwrap_or((rest, ""));
        Ok(Parts { preamble, prompt, solution, entry_point })
    }
}

/// What stands before and behind the first line with `mark`.
fn cut<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.contains(mark) {
            return Some((&text[..start], &text[start + line.len()..]));
        }
        start += line.len();
    }
    None
}
