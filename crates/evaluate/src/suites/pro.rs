//! What HumanEval Pro and MBPP Pro have in common (github.com/CodeEval-Pro/CodeEval-Pro): a list of objects, `id,
//! raw_problem, raw_solution, new_problem, new_solution, test_code`. The second problem is solved by calls of the first.

use super::{SourceFile, SuiteError, Tasks, python};
use crate::item::Item;
use vul2safe_code::Language;

/// What a chat model is asked to do with a piece of code to complete.
pub(super) fn complete_request(prompt: &str) -> String {
    format!(
        "Complete this Python code. Answer with the complete code in one block, without examples of use.\n\n\
         ```python\n{}\n```\n",
        prompt.trim_end()
    )
}

pub(super) fn parse(files: &[SourceFile], tasks: &mut Tasks, group: &str) -> Result<(), SuiteError> {
    for record in files.iter().map(SourceFile::records).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let id = format!("{group}/{}", record.id("id")?).replace(' ', "");
        let raw_problem = record.filled("raw_problem")?;
        let raw_solution = record.text("raw_solution")?;
        let new_problem = record.filled("new_problem")?;
        let new_solution = record.text("new_solution")?;
        let tests = record.text("test_code")?;
        // Some problems define another function than the one that tests and solution are about.
        let defined = [new_solution, new_problem].map(python::functions);
        let called = |name: &&&str| python::is_name(name) && tests.contains(&format!("{name}("));
        let entry_point = defined.iter().find_map(|names| names.iter().rev().find(called)).copied();
        let Some(entry_point) = entry_point.filter(|_| tests.contains("assert")) else {
            let why = "`test_code` asserts nothing about a function of the problem".to_owned();
            return Err(SuiteError::NoTest { place: record.place, id, why });
        };
        let imports: String = [raw_problem, new_problem, new_solution].map(python::imports).concat();
        let item = Item {
            request: format!(
                "Write one Python program that solves both problems below. The second is to be solved by calls of the \
                 first one's function. Answer with the complete code in one block, with its imports and without examples \
                 of use.\n\nFirst problem:\n```python\n{}\n```\n\nSecond problem:\n```python\n{}\n```\n",
                raw_problem.trim_end(),
                new_problem.trim_end()
            ),
            entry_point: Some(entry_point.to_owned()),
            functional: Some(python::script(&imports, tests, entry_point)),
            reference: Some(format!("{raw_problem}{raw_solution}\n\n{new_problem}{new_solution}")),
            ..Item::new(id, group, Language::Python)
        };
        tasks.push(item, &record.place)?;
    }
    Ok(())
}
