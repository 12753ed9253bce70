//! The HTML report of a run: one file that needs no network, drawn from the run folder alone.
//!
//! It shows the evaluation's table with its intervals, the paired comparisons, the learning curves, what became of
//! each record, the time of each stage, and answers in which every token has the colour of its reward and the
//! reason on hover. Whatever a run has not made yet is named as missing, with the step that makes it.
//!
//! The crate refuses to compute: every figure it shows stands in a file of the run folder, and is only rounded,
//! with the unrounded value beside it in the page (`data-value`, `data-low`, `data-high`). It knows nothing of
//! models, rewards or security, and trusts no text: all of it is escaped, and characters that hide or reorder text
//! are made visible.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let path = place.path().join("first");
//! use vul2safe_run::RunFolder;
//!
//! let run = RunFolder::create_or_resume(&path, "name = \"first\"\nseed = 7\n", serde_json::json!({"seed": 7}))?;
//! run.finish("import", 0.4, serde_json::json!({"line": "803 records"}))?;
//!
//! let page = vul2safe_report::render(&path)?;
//! assert!(page.contains("803 records"));
//! assert!(page.contains("evaluation.json is not there yet"));
//! # Ok(())
//! # }
//! ```

mod answers;
mod chart;
mod curves;
mod error;
mod experiment;
mod figures;
mod format;
mod overview;
mod page;

use std::path::{Path, PathBuf};

pub use error::ReportError;

/// The file that [`write()`] makes in the run folder.
pub const REPORT: &str = "report.html";

/// The report of the run folder at `run`, as one HTML page; of an experiment's folder, the page of the experiment. The same
/// files give the same bytes.
///
/// # Errors
/// [`ReportError::Run`] if there is no run folder or one of its files is broken, with path, line and hint.
pub fn render(run: &Path) -> Result<String, ReportError> {
    match vul2safe_run::read_experiment(run)? {
        Some(table) => page::render_experiment(&experiment::page(&table)),
        None => page::render(&page::Page::read(run)?),
    }
}

/// Writes the report to `report.html` in the run folder, in place of an earlier one, and returns its path.
///
/// # Errors
/// As [`render`], and if the file cannot be written.
pub fn write(run: &Path) -> Result<PathBuf, ReportError> {
    let path = run.join(REPORT);
    vul2safe_run::write_atomic(&path, render(run)?.as_bytes())?;
    Ok(path)
}
