//! `eval compare`.

use std::path::{Path, PathBuf};

use vul2safe_evaluate::{Entry, compare, read_log, render_comparison};

use super::{println, to_json};
use crate::cli::EvalCompareArguments;
use crate::failure::{Failure, Result};

pub(super) fn run(arguments: &EvalCompareArguments) -> Result<()> {
    let (first, second) = (open(&arguments.first)?, open(&arguments.second)?);
    let suites = (&first.entries[0], &second.entries[0]);
    if suites.0.suite != suites.1.suite || suites.0.suite_version != suites.1.suite_version {
        return Err(Failure::user(format!(
            "{} and {} are answers to different tasks: {} ({}) and {} ({})",
            first.path.display(),
            second.path.display(),
            suites.0.suite,
            suites.0.suite_version,
            suites.1.suite,
            suites.1.suite_version
        ))
        .with_hint("evaluate both models on the same file of the suite, with the same options"));
    }
    // Two evaluations of one model are told apart by their paths.
    let (one, other) = if suites.0.model == suites.1.model {
        (arguments.first.display().to_string(), arguments.second.display().to_string())
    } else {
        (suites.0.model.clone(), suites.1.model.clone())
    };
    let compared = compare((&one, &first.entries), (&other, &second.entries));
    if arguments.json {
        println(&to_json(&compared)?)
    } else {
        println(&render_comparison(&suites.0.suite, &compared))
    }
}

struct Opened {
    path: PathBuf,
    /// At least one.
    entries: Vec<Entry>,
}

/// A log, or the only log of a folder.
fn open(path: &Path) -> Result<Opened> {
    let path = if path.is_dir() { only_log(path)? } else { path.to_path_buf() };
    let entries = read_log(&path)?;
    if entries.is_empty() {
        return Err(Failure::user(format!("{}: no answer is judged yet", path.display()))
            .with_hint("`vul2safe eval` writes this file, one line an answer"));
    }
    Ok(Opened { path, entries })
}

fn only_log(folder: &Path) -> Result<PathBuf> {
    let mut logs: Vec<PathBuf> = fs_err::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    logs.sort();
    match logs.as_slice() {
        [log] => Ok(log.clone()),
        [] => Err(Failure::user(format!("{}: there is no log in this folder", folder.display()))
            .with_hint("name the folder that was given to `vul2safe eval --out`")),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::user(format!("{}: there are several logs in this folder", folder.display()))
                .with_hint(format!("name one of them: {}", names.join(", "))))
        }
    }
}
