//! The run folder: everything one command made, in one place, written so that a kill at any instant loses
//! at most one unit of work.
//!
//! A run folder holds the resolved configuration (`config.toml`), where it was made (`environment.json`),
//! which stages are done (`journal.jsonl`), the learning curves (`metrics.jsonl` and the same scalars for
//! TensorBoard), the answers with their token rewards (`samples/*.jsonl`) and the figures of the evaluation
//! (`evaluation.json`). Files that are replaced are written beside their place and renamed over it; files that
//! grow are lines of JSON, and a last line that a kill cut short is ignored by readers and removed by the next
//! writer.
//!
//! The crate refuses to know what a stage does: it neither trains nor judges, and computes no figure.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! use vul2safe_run::RunFolder;
//!
//! let path = place.path().join("first");
//! let run = RunFolder::create_or_resume(&path, "seed = 7\n", serde_json::json!({"version": "0.1.0"}))?;
//! if run.finished("sft").is_none() {
//!     let mut metrics = run.metrics("sft")?;
//!     metrics.log(1, &[("loss", 2.5), ("learning_rate", 1e-3)])?;
//!     run.finish("sft", 12.5, serde_json::json!({"steps": 1}))?;
//! }
//! drop(run); // frees the folder's lock
//!
//! let again = RunFolder::create_or_resume(&path, "seed = 7\n", serde_json::json!({"version": "0.1.0"}))?;
//! assert_eq!(again.finished("sft").map(|entry| entry.seconds), Some(12.5));
//! # Ok(())
//! # }
//! ```

mod atomic;
mod configuration;
mod data;
mod error;
mod evaluation;
mod experiment;
mod fingerprint;
mod folder;
mod journal;
mod lines;
mod metrics;
mod number;
mod samples;
mod tensorboard;

pub use atomic::write_atomic;
pub use data::{DataSection, DataSummary, read_data_summary};
pub use error::RunError;
pub use evaluation::{Comparison, EvaluationRow, EvaluationTable, Rate, read_evaluation};
pub use experiment::{
    ArmResult, CollapsedArm, CurvePoint, Estimate, ExperimentTable, SearchedSetting, SeedDifference,
    read_experiment,
};
pub use fingerprint::{fingerprint, machine};
pub use folder::{RunFolder, read_configuration, read_environment};
pub use journal::{StageEntry, read_journal};
pub use metrics::{MetricLine, Metrics, read_metrics};
pub use samples::{Sample, SampleToken, read_samples, write_samples};
