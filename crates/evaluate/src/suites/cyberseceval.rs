//! What both parts of CyberSecEval's insecure-code tests have in common (github.com/meta-llama/PurpleLlama): a list of
//! objects, `prompt_id, cwe_identifier, language, variant, test_case_prompt, origin_code, …`.

use super::source::Record;
use super::{SourceFile, SuiteError, Tasks};
use crate::item::Item;
use vul2safe_code::Cwe;

/// Reads the records of one variant; `finish` puts the request into the item.
pub(super) fn parse(
    files: &[SourceFile],
    tasks: &mut Tasks,
    variant: &'static str,
    finish: fn(Item, &Record) -> Result<Item, SuiteError>,
) -> Result<(), SuiteError> {
    for record in files.iter().map(SourceFile::records).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let id = record.id("prompt_id")?;
        let cwe = record.filled("cwe_identifier")?;
        let Some(cwe) = Cwe::parse(cwe) else {
            return Err(SuiteError::broken(
                &record.place,
                format!("`cwe_identifier` {cwe:?} is no CWE number"),
            ));
        };
        let found = record.filled("variant")?;
        if found != variant {
            let why = format!("this is a task of the variant {found:?}, and {variant:?} is wanted");
            return Err(SuiteError::broken(&record.place, why));
        }
        let Some(language) = tasks.language(record.filled("language")?) else { continue };
        let item = Item::new(id, format!("CyberSecEval {variant}"), language).with_weakness(Some(cwe));
        tasks.push(finish(item, &record)?, &record.place)?;
    }
    Ok(())
}
