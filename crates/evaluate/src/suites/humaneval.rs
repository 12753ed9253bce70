//! HumanEval (github.com/openai/human-eval): JSON Lines, `task_id, prompt, entry_point, canonical_solution, test`.

use super::{Format, Layout, SourceFile, SuiteError, Tasks, python};
use crate::item::{Completion, Form, Item};
use vul2safe_code::Language;

pub(super) const FORMAT: Format = Format {
    word: "humaneval",
    name: "HumanEval",
    layout: Layout::File { wanted: "data/HumanEval.jsonl.gz" },
    parse,
};

/// Where the suite's authors end a base model's answer.
const STOP: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

fn parse(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    for record in files.iter().map(SourceFile::records).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let id = record.id("task_id")?;
        let prompt = record.filled("prompt")?;
        let entry_point = record.filled("entry_point")?;
        let test = record.text("test")?;
        if !python::is_name(entry_point) {
            return Err(SuiteError::broken(
                &record.place,
                format!("`entry_point` {entry_point:?} is no name"),
            ));
        }
        if !test.lines().any(|line| line.starts_with("def check(")) {
            let why = "`test` defines no `check`".to_owned();
            return Err(SuiteError::NoTest { place: record.place, id, why });
        }
        let head = python::head(prompt, Some(entry_point));
        let item = Item {
            request: super::pro::complete_request(prompt),
            form: Form::Completion(Completion {
                prompt: prompt.to_owned(),
                head,
                stop: STOP.map(str::to_owned).to_vec(),
                ..Completion::default()
            }),
            entry_point: Some(entry_point.to_owned()),
            functional: Some(python::check(&prompt[..head], test, entry_point)),
            reference: record.optional("canonical_solution")?.map(str::to_owned),
            ..Item::new(id, "HumanEval", Language::Python)
        };
        tasks.push(item, &record.place)?;
    }
    Ok(())
}
