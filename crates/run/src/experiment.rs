//! The figures of an experiment over several seeds: `experiment.json`. They are computed elsewhere; this is their form.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::number::nullable_f64;
use crate::{RunError, RunFolder};

/// The file's name in the experiment's folder.
const EXPERIMENT: &str = "experiment.json";

/// All figures of one experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExperimentTable {
    /// The experiment's name.
    pub name: String,
    /// What was to be measured, as it was written down before the runs.
    pub endpoints: Vec<String>,
    /// Every seed that was run.
    pub seeds: Vec<u64>,
    /// Wall-clock seconds of all stages.
    #[serde(with = "nullable_f64")]
    pub seconds: f64,
    /// Names of the measures with what they mean, in the order in which they are shown.
    pub measures: Vec<(String, String)>,
    /// Models in the order of the table: base, SFT, then the arms.
    pub arms: Vec<ArmResult>,
    /// Paired differences over seeds.
    pub differences: Vec<SeedDifference>,
    /// What the search on development seeds tried.
    pub search: Vec<SearchedSetting>,
    /// Arms whose policy collapsed in a run. They are in no figure of that seed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collapsed: Vec<CollapsedArm>,
}

/// An arm that collapsed in one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollapsedArm {
    /// The arm.
    pub arm: String,
    /// The run's seed.
    pub seed: u64,
    /// At which update, and by what it was seen.
    pub why: String,
}

/// One model over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// The arm, or `base` or `sft`.
    pub arm: String,
    /// How it was made.
    pub description: String,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// By group of tasks (`all`, a held-out level, `harmless`, …) and measure.
    pub groups: BTreeMap<String, BTreeMap<String, Estimate>>,
    /// By measure: what was measured while it was trained.
    pub curves: BTreeMap<String, Vec<CurvePoint>>,
}

/// The mean of one figure a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean over seeds.
    #[serde(with = "nullable_f64")]
    pub mean: f64,
    /// Lower end of the 95 % interval; not finite for one seed.
    #[serde(with = "nullable_f64")]
    pub low: f64,
    /// Upper end of the 95 % interval.
    #[serde(with = "nullable_f64")]
    pub high: f64,
    /// Each seed's figure, in the order of the arm's seeds that have one.
    pub values: Vec<f64>,
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Answers trained on.
    pub rollouts: u64,
    /// Mean over seeds.
    #[serde(with = "nullable_f64")]
    pub mean: f64,
    /// Lower end of the 95 % interval.
    #[serde(with = "nullable_f64")]
    pub low: f64,
    /// Upper end of the 95 % interval.
    #[serde(with = "nullable_f64")]
    pub high: f64,
}

/// Two arms on the seeds that both have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedDifference {
    /// The arm whose figure is taken.
    pub first: String,
    /// The arm whose figure is subtracted from it.
    pub second: String,
    /// Group of tasks.
    pub group: String,
    /// What is compared.
    pub measure: String,
    /// Figure of `first` minus figure of `second`, mean over seeds.
    #[serde(with = "nullable_f64")]
    pub difference: f64,
    /// Lower end of the 95 % interval.
    #[serde(with = "nullable_f64")]
    pub low: f64,
    /// Upper end of the 95 % interval.
    #[serde(with = "nullable_f64")]
    pub high: f64,
    /// Two-sided, by changes of sign.
    #[serde(with = "nullable_f64")]
    pub p_value: f64,
    /// Seeds that both have.
    pub seeds: usize,
}

/// One setting that the search tried for an arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchedSetting {
    /// The arm.
    pub arm: String,
    /// The setting, as TOML on one line.
    pub setting: String,
    /// Mean secure-pass@1 over the training, over development seeds: what is chosen by.
    #[serde(with = "nullable_f64")]
    pub both: f64,
    /// Mean rate of vulnerable answers over the training.
    #[serde(with = "nullable_f64")]
    pub vulnerable: f64,
    /// Functional rate at the end less the one at the start.
    #[serde(with = "nullable_f64")]
    pub functional_change: f64,
    /// Whether it is the one that was taken.
    pub chosen: bool,
    /// Development seeds in which the policy collapsed; such a setting is not taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collapsed: Vec<u64>,
}

impl ExperimentTable {
    /// Writes `experiment.json`, in place of an earlier one.
    ///
    /// # Errors
    /// [`RunError::ReadOnly`], [`RunError::Io`].
    pub fn write(&self, run: &RunFolder) -> Result<(), RunError> {
        crate::data::write_json(run, EXPERIMENT, self)
    }

    /// The result of an arm.
    pub fn arm(&self, name: &str) -> Option<&ArmResult> {
        self.arms.iter().find(|arm| arm.arm == name)
    }
}

impl ArmResult {
    /// A figure of a group.
    pub fn figure(&self, group: &str, measure: &str) -> Option<&Estimate> {
        self.groups.get(group)?.get(measure)
    }
}

/// The experiment of a folder, or `None` if there is none (yet).
///
/// # Errors
/// [`RunError::Broken`] with the line, [`RunError::Io`].
pub fn read_experiment(run: &Path) -> Result<Option<ExperimentTable>, RunError> {
    crate::data::read_json(&run.join(EXPERIMENT))
}
