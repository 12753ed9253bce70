//! Which stages of a run are done.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{RunError, lines};

/// The journal's name in the run folder.
pub(crate) const JOURNAL: &str = "journal.jsonl";

/// A stage that is done; one line of `journal.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageEntry {
    /// The stage's name, such as `sft`.
    pub stage: String,
    /// Wall-clock seconds of the try that finished it.
    pub seconds: f64,
    /// When it was finished, RFC 3339 in UTC.
    pub finished_at: String,
    /// What the stage has to say about its result; an object of a few figures.
    pub summary: serde_json::Value,
}

/// The finished stages of a run folder in the order in which they were finished; of a stage that was
/// finished more than once the last entry counts.
///
/// # Errors
/// [`RunError::Broken`] for a line that is not understood (a torn last line is ignored), [`RunError::Io`].
pub fn read_journal(run: &Path) -> Result<Vec<StageEntry>, RunError> {
    let lines = lines::read(&run.join(JOURNAL))?;
    Ok(last_of_each(lines.values.into_iter().map(|(_, entry)| entry)))
}

/// Reads the journal and makes it end with a whole line.
pub(crate) fn read_and_repair(run: &Path) -> Result<Vec<StageEntry>, RunError> {
    let path = run.join(JOURNAL);
    let lines = lines::read(&path)?;
    lines::repair(&path, &lines)?;
    Ok(last_of_each(lines.values.into_iter().map(|(_, entry)| entry)))
}

/// Appends one entry and returns when it is on the disk.
pub(crate) fn append(run: &Path, entry: &StageEntry) -> Result<(), RunError> {
    let path = run.join(JOURNAL);
    let not_json = |detail: String| RunError::NotJson { path: path.clone(), detail };
    if !entry.seconds.is_finite() {
        return Err(not_json(format!("the stage `{}` took {} seconds", entry.stage, entry.seconds)));
    }
    let mut line = serde_json::to_vec(entry).map_err(|error| not_json(error.to_string()))?;
    line.push(b'\n');
    let mut file: File = lines::appender(&path)?;
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(RunError::io(&path))?;
    crate::atomic::sync_folder(run)
}

/// Puts `entry` in, in place of an earlier one of the same stage.
pub(crate) fn insert(entries: &mut Vec<StageEntry>, entry: StageEntry) {
    entries.retain(|earlier| earlier.stage != entry.stage);
    entries.push(entry);
}

fn last_of_each(entries: impl Iterator<Item = StageEntry>) -> Vec<StageEntry> {
    let mut kept = Vec::new();
    for entry in entries {
        insert(&mut kept, entry);
    }
    kept
}
