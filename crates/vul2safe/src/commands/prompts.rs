//! `data prompts`.

use super::println;
use crate::cli::PromptsArguments;
use crate::failure::{Failure, Result};

pub(super) fn run(arguments: &PromptsArguments) -> Result<()> {
    let out = &arguments.out;
    fs_err::create_dir_all(out).map_err(|error| {
        Failure::user(error.to_string()).with_hint("name a folder that can be written to")
    })?;
    // The embedded ones alone: what stands in the folder may be no prompt yet.
    let prompts = vul2safe_repair::prompt_set(None)?;
    let written = prompts.export(out)?;
    for path in &written {
        println(&path.display().to_string())?;
    }
    if written.is_empty() {
        println(&format!("all prompts are in {} already; nothing was written", out.display()))?;
    }
    Ok(())
}
