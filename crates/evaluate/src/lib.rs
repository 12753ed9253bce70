//! Public suites, answers to them, and what the answers are worth: rates with intervals and paired comparisons.
//!
//! A [`Format`] reads a suite from a file or folder; [`read_answers`] reads answers; [`assemble`] makes the program of an
//! answer; [`Log::judge`] has programs judged and keeps one line an answer, once each, whatever kills it; [`summarize`] and
//! [`compare()`] make figures of those lines. [`table()`] does the same for verdicts that a run keeps itself.
//!
//! What could not be found out is in no denominator of what it is not known of: it is never 0, and never "secure". Who
//! answers is the caller's. The crate knows nothing of rewards: what a model was paid for is no measure of what it does.
//!
//! ```
//! use std::path::Path;
//! use vul2safe_evaluate::{Format, SourceFile, assemble};
//!
//! let text = r#"[{"task_id": "own/0", "prompt": "def one():\n", "entry_point": "one",
//!     "test": "def check(candidate):\n    assert candidate() == 1\n"}]"#;
//! let path = Path::new("own.jsonl");
//! let suite = Format::by_word("humaneval").expect("known").parse(path, &[SourceFile::new(path, text.into())?])?;
//! let program = assemble(&suite.items[0], "Sure!\n```python\nreturn 1\n```").program;
//! assert_eq!(program, "def one():\n    return 1\n");
//!
//! let interval = vul2safe_evaluate::wilson(8, 10);
//! assert!(interval.low > 0.48 && interval.high < 0.95);
//! # Ok::<(), vul2safe_evaluate::SuiteError>(())
//! ```

mod answers;
mod assemble;
mod bootstrap;
mod compare;
mod curve;
mod entry;
mod item;
mod log;
mod render;
mod seeds;
mod statistics;
mod suites;
mod summary;
mod table;

pub use answers::{Answer, parse_answers, read_answers};
pub use assemble::{Assembled, assemble, cut_at_stop};
pub use bootstrap::{bootstrap, bootstrap_difference, sign_flips};
pub use compare::{Compared, PairedTest, compare};
pub use curve::Curve;
pub use entry::{COPIED_SHARE, Entry, Judging, KEPT_ANSWER_BYTES, State, TestState};
pub use item::{Answered, Completion, Form, Item, items_from_tasks};
pub use log::{Log, LogError, read_log};
pub use render::{render_comparison, render_summary};
pub use seeds::{over_seeds, sign_flips_of_seeds};
pub use statistics::{Interval, McNemar, mcnemar, paired_difference, pass_at_k, wilson};
pub use suites::{
    FORMATS, Format, Layout, MAXIMUM_FILE_BYTES, SourceFile, Suite, SuiteError, Tasks, range, range_of,
};
pub use summary::{Figure, IntervalKind, JudgedBy, Summary, SummaryOptions, SummaryRow, summarize};
pub use table::{rates_where, table};

/// What can be wrong with an evaluation's input.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A model has another number of answers than there are tasks.
    #[error("`{model}` has {answers} answers for {items} tasks")]
    AnswerCount {
        /// The model.
        model: String,
        /// Answers it has.
        answers: usize,
        /// Tasks there are.
        items: usize,
    },
    /// An answer belongs to another task than the one in its place.
    #[error("`{model}`: answer {index} is for the task `{found}`, expected `{expected}`")]
    AnswerOrder {
        /// The model.
        model: String,
        /// Place of the answer.
        index: usize,
        /// Task the answer is for.
        found: String,
        /// Task in that place.
        expected: String,
    },
}

impl EvaluateError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some("the answers were made for another suite; evaluate the model again".to_owned())
    }
}
