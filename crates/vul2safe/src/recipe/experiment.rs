//! An experiment: several seeds of the whole run, arms tuned alike beforehand, figures over seeds.

use serde::{Deserialize, Serialize};

use super::{ArmConfig, ArmMethod, Recipe};
use crate::failure::{Failure, Result};

/// Several seeds of the run that the rest of the recipe describes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExperimentConfig {
    /// Runs: with the recipe's seed, the next one, and so on. Base model, SFT and arms of a run all have its seed.
    pub seeds: u64,
    /// Runs that go on at the same time, each with its share of the threads; 0: one a thread.
    pub side_by_side: usize,
    /// What is to be measured, in words, written down before the runs; goes into the report as it stands.
    pub endpoints: Vec<String>,
    /// Arms whose differences to every other arm are computed; empty: all arms.
    pub compare: Vec<String>,
    /// Settings tried for each of some arms on development seeds; absent: the arms are taken as they stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchConfig>,
}

/// The same settings tried for each of some arms. An arm gets the one with the highest mean secure-pass@1 over its training.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchConfig {
    /// Seeds that are in no figure of the result.
    pub seeds: Vec<u64>,
    /// The arms. Others take what was found for the arm that their `tuned_as` names.
    pub arms: Vec<String>,
    /// Updates of each try; 0: as in the runs.
    pub updates: usize,
    /// Keys of an arm, each table one try.
    pub settings: Vec<toml::Table>,
}

impl Default for ExperimentConfig {
    fn default() -> Self {
        ExperimentConfig {
            seeds: 8,
            side_by_side: 1,
            endpoints: Vec::new(),
            compare: Vec::new(),
            search: None,
        }
    }
}

impl ExperimentConfig {
    /// Refuses what could not be run or would say nothing.
    ///
    /// # Errors
    /// Names the key.
    pub(super) fn check(&self, recipe: &Recipe) -> Result<()> {
        let refuse = |key: &str, problem: String, hint: &str| {
            Err(Failure::user(format!("`experiment.{key}`: {problem}")).with_hint(hint.to_owned()))
        };
        if self.seeds == 0 {
            return refuse("seeds", "is 0, but must be at least 1".to_owned(), "intervals need 2 or more");
        }
        if self.side_by_side != 1 && !recipe.device.is_cpu() {
            let problem = "runs on one GPU go one after the other".to_owned();
            return refuse("side_by_side", problem, "leave it out, or set it to 1");
        }
        if recipe.ppo.validation.every == 0 {
            let problem = "the curves need measurements while an arm trains".to_owned();
            return refuse("seeds", problem, "set `ppo.validation.every`, for instance to 5");
        }
        let unknown = |names: &[String]| names.iter().find(|name| !recipe.arms.contains_key(*name)).cloned();
        if let Some(name) = unknown(&self.compare) {
            return refuse("compare", format!("there is no arm `{name}`"), "name arms of this recipe");
        }
        let Some(search) = &self.search else { return Ok(()) };
        if let Some(name) = unknown(&search.arms) {
            return refuse("search.arms", format!("there is no arm `{name}`"), "name arms of this recipe");
        }
        if search.seeds.is_empty() || search.arms.is_empty() || search.settings.is_empty() {
            let hint = "give it seeds, arms and settings, or leave the table out";
            return refuse("search", "there is nothing to try".to_owned(), hint);
        }
        if let Some(seed) = search.seeds.iter().find(|seed| self.run_seeds(recipe).contains(seed)) {
            let problem = format!("{seed} is a seed of the runs as well");
            return refuse("search.seeds", problem, "what was chosen by cannot be measured by again");
        }
        for name in &search.arms {
            let arm = &recipe.arms[name];
            if arm.method != ArmMethod::Ppo || arm.tuned_as.is_some() {
                let problem = format!("`{name}` is no PPO arm of its own");
                return refuse("search.arms", problem, "only arms that sample have curves to choose by");
            }
            for setting in &search.settings {
                arm.with(name, setting)?.settings(name, recipe)?;
            }
        }
        for (name, arm) in &recipe.arms {
            if let Some(other) = arm.tuned_as.as_ref().filter(|other| !search.arms.contains(other)) {
                return Err(Failure::user(format!(
                    "`arms.{name}.tuned_as`: nothing is searched for `{other}`"
                ))
                .with_hint("name an arm of `experiment.search.arms`"));
            }
        }
        Ok(())
    }

    /// The seeds of the runs.
    pub fn run_seeds(&self, recipe: &Recipe) -> Vec<u64> {
        (0..self.seeds).map(|index| recipe.seed.wrapping_add(index)).collect()
    }

    /// Whether an arm takes part in the run with this place among the seeds.
    pub fn takes_part(&self, arm: &ArmConfig, index: usize) -> bool {
        arm.seeds.is_none_or(|seeds| (index as u64) < seeds)
    }
}
