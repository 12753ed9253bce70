//! MBPP in MultiPL-E's form (github.com/nuprl/MultiPL-E): JSON Lines, `name, language, prompt, tests, stop_tokens`.
//!
//! `tests` are assertions on the function by its name, or a function `check(candidate)` as in HumanEval.

use super::{Format, Layout, SourceFile, SuiteError, Tasks, python};
use crate::item::{Completion, Form, Item};
use vul2safe_code::Language;

pub(super) const FORMAT: Format = Format {
    word: "mbpp",
    name: "MBPP",
    layout: Layout::File { wanted: "a JSON Lines file such as mbpp-py.jsonl" },
    parse,
};

fn parse(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    for record in files.iter().map(SourceFile::records).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let id = record.id("name")?;
        let prompt = record.filled("prompt")?;
        let tests = record.text("tests")?;
        let stop = record.texts("stop_tokens")?;
        let Some(language) = tasks.language(record.filled("language")?) else { continue };
        if language != Language::Python {
            // MultiPL-E's tests are programs of the task's own language.
            *tasks.left_out.entry(format!("tests in {language}")).or_default() += 1;
            continue;
        }
        let no_test = |why: &str| SuiteError::NoTest {
            place: record.place.clone(),
            id: id.clone(),
            why: why.to_owned(),
        };
        let Some(&entry_point) = python::functions(prompt).last().filter(|name| python::is_name(name)) else {
            return Err(SuiteError::broken(&record.place, "`prompt` defines no function"));
        };
        let head = python::head(prompt, Some(entry_point));
        let functional = if tests.lines().any(|line| line.starts_with("def check(")) {
            // The last lines call `check` with the name itself, which only the answer has.
            let kept: String = tests
                .lines()
                .take_while(|line| !line.starts_with("def test_check(") && !line.starts_with("check("))
                .map(|line| format!("{line}\n"))
                .collect();
            python::check(&prompt[..head], &kept, entry_point)
        } else if tests.contains("assert") {
            // A few tasks of the published file call their function by another name than the prompt gives it. No answer to
            // such a task passes, here as in the suite's own program.
            python::script(&python::imports(prompt), tests, entry_point)
        } else {
            return Err(no_test("`tests` assert nothing"));
        };
        let item = Item {
            request: super::pro::complete_request(prompt),
            form: Form::Completion(Completion {
                prompt: prompt.to_owned(),
                head,
                stop,
                ..Completion::default()
            }),
            entry_point: Some(entry_point.to_owned()),
            functional: Some(functional),
            reference: record.optional("canonical_solution")?.map(str::to_owned),
            ..Item::new(&id, "MBPP", language)
        };
        tasks.push(item, &record.place)?;
    }
    Ok(())
}
