//! What stands beside a PrimeVul+ file: what was rejected, and what was said to and by language models.

use std::path::{Path, PathBuf};

use vul2safe_llm::{TranscriptLine, read_transcript};
use vul2safe_repair::Rejection;

use crate::failure::Result;
use crate::stages::read_lines;

/// `plus.jsonl` has `plus.ENDING` beside it (from `data build`), the file of a run folder has `ENDING` in the same folder.
fn beside(data: &Path, ending: &str) -> Option<PathBuf> {
    let own = data.with_extension(ending);
    if own.exists() {
        return Some(own);
    }
    let is_of_run = data.file_name().is_some_and(|name| name == "primevul-plus.jsonl");
    Some(data.with_file_name(ending)).filter(|path| is_of_run && path.exists())
}

/// What was rejected; nothing where there is no such file.
pub(super) fn rejected(data: &Path) -> Result<Option<Vec<Rejection>>> {
    beside(data, "rejected.jsonl").map(|path| read_lines(&path)).transpose()
}

/// The dialogues about records.
pub(super) struct Dialogues {
    folder: Option<PathBuf>,
}

impl Dialogues {
    /// Those beside `data`, if there are any.
    pub(super) fn beside(data: &Path) -> Dialogues {
        Dialogues { folder: beside(data, "dialogue").filter(|path| path.is_dir()) }
    }

    /// Whether there are none at all, as when no language model was asked.
    pub(super) fn are_absent(&self) -> bool {
        self.folder.is_none()
    }

    /// The exchanges about a record, in their order; none where there were none.
    pub(super) fn about(&self, record: &str) -> Result<Vec<TranscriptLine>> {
        match &self.folder {
            Some(folder) => Ok(read_transcript(folder, record)?),
            None => Ok(Vec::new()),
        }
    }
}

/// One exchange in a line: what for, which model, its tokens and price, and what was wrong with its form.
pub(super) fn headline(exchange: &TranscriptLine) -> String {
    let mut parts = vec![
        exchange.role.clone().unwrap_or_else(|| "exchange".to_owned()),
        exchange.model.clone(),
        format!("{} tokens in, {} out", exchange.usage.prompt_tokens, exchange.usage.completion_tokens),
    ];
    parts.extend(exchange.cost.map(|cost| cost.to_string()));
    if exchange.sample > 0 {
        parts.push(format!("sample {}", exchange.sample + 1));
    }
    parts.extend(exchange.complaint.iter().map(|complaint| format!("asked again: {complaint}")));
    parts.join(" · ")
}
