//! The figures of the evaluation: `evaluation.json`. They are computed elsewhere; this is their form.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::number::nullable_f64;
use crate::{RunError, RunFolder};

/// The file's name in the run folder.
const EVALUATION: &str = "evaluation.json";

/// All figures of one evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationTable {
    /// What was evaluated on, such as `range, held out, seed 7`.
    pub suite: String,
    /// One row for each model and group of tasks.
    pub rows: Vec<EvaluationRow>,
    /// Paired comparisons of two models on the same tasks.
    pub comparisons: Vec<Comparison>,
}

/// One model on one group of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRow {
    /// The model, such as `sft`.
    pub model: String,
    /// The group: `all`, a level such as `held-out names`, `harmless`, or a CWE.
    pub group: String,
    /// Answers in this row.
    pub answers: usize,
    /// By name: `vulnerable`, `vulnerable_high`, `vulnerable_medium`, `vulnerable_low`, `functional`, `both`,
    /// `absent`, `unparsable`, `not_run`. A rate with nothing to count (`of` = 0) is left out.
    pub rates: BTreeMap<String, Rate>,
}

/// A share with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many had the property.
    pub count: usize,
    /// Of how many for which it could be told.
    pub of: usize,
    /// `count / of`, between 0 and 1.
    #[serde(with = "nullable_f64")]
    pub value: f64,
    /// Lower end of the 95 % interval.
    #[serde(with = "nullable_f64")]
    pub low: f64,
    /// Upper end of the 95 % interval.
    #[serde(with = "nullable_f64")]
    pub high: f64,
}

/// Two models on the same tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The model whose rate is taken.
    pub first: String,
    /// The model whose rate is subtracted from it.
    pub second: String,
    /// The rate that is compared, such as `vulnerable`.
    pub measure: String,
    /// Rate of `first` minus rate of `second`.
    #[serde(with = "nullable_f64")]
    pub difference: f64,
    /// Lower end of the difference's 95 % interval.
    #[serde(with = "nullable_f64")]
    pub low: f64,
    /// Upper end of the difference's 95 % interval.
    #[serde(with = "nullable_f64")]
    pub high: f64,
    /// Two-sided p-value.
    #[serde(with = "nullable_f64")]
    pub p_value: f64,
    /// Pairs of answers that could be compared.
    pub pairs: usize,
}

impl EvaluationTable {
    /// Writes `evaluation.json`, in place of an earlier one.
    ///
    /// # Errors
    /// [`RunError::ReadOnly`], [`RunError::Io`].
    pub fn write(&self, run: &RunFolder) -> Result<(), RunError> {
        crate::data::write_json(run, EVALUATION, self)
    }
}

/// The evaluation of a run folder, or `None` if there is none yet.
///
/// # Errors
/// [`RunError::Broken`] with the line, [`RunError::Io`].
pub fn read_evaluation(run: &Path) -> Result<Option<EvaluationTable>, RunError> {
    crate::data::read_json(&run.join(EVALUATION))
}
