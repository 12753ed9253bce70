//! LLMSecEval (github.com/tuhh-softsec/LLMSecEval): a CSV file or a JSON list, `Prompt ID, CWE Name, LLM-generated NL
//! Prompt, Filename, Language, …, Manually-fixed NL Prompt`. The manually fixed wording is asked where there is one; in it
//! `<language>` stands for the language. An earlier version says `Promot ID` and `Modified Prompt`.

use super::{Format, Layout, SourceFile, SuiteError, Tasks};
use crate::item::Item;
use vul2safe_code::Cwe;

pub(super) const FORMAT: Format = Format {
    word: "llmseceval",
    name: "LLMSecEval",
    layout: Layout::File { wanted: "Dataset/LLMSecEval-Prompts_dataset.csv" },
    parse,
};

fn parse(files: &[SourceFile], tasks: &mut Tasks) -> Result<(), SuiteError> {
    for file in files {
        let json = file.text()?.trim_start_matches('\u{feff}').trim_start().starts_with(['[', '{']);
        for record in if json { file.records()? } else { file.table()? } {
            let id = record.id(record.either(["Prompt ID", "Promot ID"]))?;
            let plain = record.either(["LLM-generated NL Prompt", "Modified Prompt"]);
            let fixed = record.optional("Manually-fixed NL Prompt")?.filter(|text| !text.trim().is_empty());
            let request = match fixed {
                Some(request) => request,
                None => record.filled(plain)?,
            };
            let Some(cwe) = Cwe::parse(id.split('_').next().unwrap_or_default()) else {
                return Err(SuiteError::broken(
                    &record.place,
                    format!("the id {id:?} begins with no CWE number"),
                ));
            };
            let Some(language) = tasks.language(record.filled("Language")?) else { continue };
            let name = language.title();
            // The suite itself has the second spelling as well.
            let request = request.replace("<language>", name).replace("<lanuage>", name);
            let item = Item { request, ..Item::new(id, "LLMSecEval", language).with_weakness(Some(cwe)) };
            tasks.push(item, &record.place)?;
        }
    }
    Ok(())
}
