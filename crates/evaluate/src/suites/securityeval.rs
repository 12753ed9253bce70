//! SecurityEval (github.com/s2e-lab/SecurityEval): JSON Lines, `ID, Prompt, Insecure_code`; its first version calls the
//! last field `Canonical_solution`.

use super::{Format, Layout, SourceFile, SuiteError, Tasks, pro, python};
use crate::item::{Completion, Form, Item};
use vul2safe_code::{Cwe, Language};

pub(super) const FORMAT: Format = Format {
    word: "securityeval",
    name: "SecurityEval",
    layout: Layout::File { wanted: "dataset.jsonl" },
    parse,
};

fn parse(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    for record in files.iter().map(SourceFile::records).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let id = record.id("ID")?;
        let prompt = record.filled("Prompt")?;
        let insecure = record.text(record.either(["Insecure_code", "Canonical_solution"]))?;
        let Some(cwe) = Cwe::parse(id.split('_').next().unwrap_or_default()) else {
            return Err(SuiteError::broken(
                &record.place,
                format!("the id {id:?} begins with no CWE number"),
            ));
        };
        let item = Item {
            request: pro::complete_request(prompt),
            form: Form::Completion(Completion {
                head: python::head(prompt, None),
                prompt: prompt.to_owned(),
                stop: ["\ndef ", "\nclass ", "\nif ", "\n@", "\nprint"].map(str::to_owned).to_vec(),
                ..Completion::default()
            }),
            insecure: Some(insecure.to_owned()),
            ..Item::new(&id, "SecurityEval", Language::Python).with_weakness(Some(cwe))
        };
        tasks.push(item, &record.place)?;
    }
    Ok(())
}
