//! How strict the loop is.

use serde::{Deserialize, Serialize};

/// Settings of [`crate::repair`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RepairConfig {
    /// Confidence from which a pair is accepted, in (0, 1).
    pub threshold: f64,
    /// Implicit prompts a pair gets at most.
    pub prompts_per_pair: usize,
    /// Share of leaf tokens that a repair may change, 0 to 1.
    pub maximum_changed_share: f64,
    /// Run the functional tests of records that have them.
    pub run_tests: bool,
    /// Rounds of criticism and revision.
    pub maximum_rounds: u32,
    /// Decides wordings and the order of styles.
    pub seed: u64,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self {
            threshold: 0.85,
            prompts_per_pair: 7,
            maximum_changed_share: 0.75,
            run_tests: true,
            maximum_rounds: 3,
            seed: 0,
        }
    }
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RepairError {
    /// A number outside its range.
    #[error("{setting} is {value}; it must be {range}")]
    OutOfRange {
        /// Name of the setting.
        setting: &'static str,
        /// What it was set to.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
}

impl RepairError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let Self::OutOfRange { setting, .. } = self;
        Some(format!("leave {setting} out to get its default"))
    }
}

impl RepairConfig {
    /// Whether every setting is possible.
    ///
    /// # Errors
    /// The first setting that is not.
    pub fn check(&self) -> Result<(), RepairError> {
        let share = |setting, value: f64, low_open: bool| {
            let low = if low_open { value > 0.0 } else { value >= 0.0 };
            if low && value <= 1.0 {
                return Ok(());
            }
            let range = if low_open { "above 0 and at most 1" } else { "from 0 to 1" };
            Err(RepairError::OutOfRange { setting, value, range })
        };
        share("threshold", self.threshold, false)?;
        share("maximum_changed_share", self.maximum_changed_share, true)?;
        for (setting, value) in [
            ("prompts_per_pair", self.prompts_per_pair as f64),
            ("maximum_rounds", f64::from(self.maximum_rounds)),
        ] {
            if value < 1.0 {
                return Err(RepairError::OutOfRange { setting, value, range: "1 or more" });
            }
        }
        Ok(())
    }
}
