//! The search: the same settings for each of some arms, on seeds that are in no figure of the result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vul2safe_evaluate::over_seeds;
use vul2safe_run::{RunFolder, SearchedSetting, write_atomic};

use super::Run;
use super::figures::{curve, points};
use crate::failure::{Failure, Result, read_text};
use crate::recipe::{ArmConfig, Recipe, SearchConfig};
use crate::stages::Until;
use crate::stages::arm::collapsed;

/// What the search found, in the experiment's folder.
const FILE: &str = "search.json";

/// The setting of each arm that was searched for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    /// By arm: the place of the setting that is taken.
    taken: BTreeMap<String, usize>,
    /// The recipe's settings.
    #[serde(skip)]
    settings: Vec<toml::Table>,
    /// Everything that was tried.
    pub tried: Vec<SearchedSetting>,
}

impl Found {
    pub fn read(search: &SearchConfig, folder: &RunFolder) -> Result<Found> {
        let path = folder.file(FILE);
        let found: Found =
            serde_json::from_str(&read_text(&path, "result of the search")?).map_err(|error| {
                Failure::user(format!("{}: {error}", path.display()))
                    .with_hint("this file is made by the search; begin the experiment in another folder")
            })?;
        Ok(Found { settings: search.settings.clone(), ..found })
    }

    fn setting(&self, arm: &str) -> Option<&toml::Table> {
        self.taken.get(arm).and_then(|&place| self.settings.get(place))
    }

    /// The arm with what was found for it.
    pub fn apply(&self, name: &str, arm: &ArmConfig) -> Result<ArmConfig> {
        if let Some(setting) = self.setting(name) {
            return arm.with(name, setting);
        }
        match arm.tuned_as.as_ref().and_then(|other| self.setting(other)) {
            Some(setting) => arm.under(name, setting),
            None => Ok(arm.clone()),
        }
    }
}

/// The name that an arm with a setting has in the runs of the search.
fn trial(arm: &str, index: usize) -> String {
    format!("{arm}-setting-{}", index + 1)
}

/// A run for each development seed, with an arm for each setting of each arm.
pub(super) fn runs(recipe: &Recipe, search: &SearchConfig) -> Result<Vec<Run>> {
    search
        .seeds
        .iter()
        .map(|&seed| {
            let mut one = Recipe { experiment: None, seed, arms: BTreeMap::new(), ..recipe.clone() };
            one.name = format!("{}-search{seed}", recipe.name);
            if search.updates > 0 {
                one.ppo.training.updates = search.updates;
            }
            for name in &search.arms {
                for (index, setting) in search.settings.iter().enumerate() {
                    let arm = ArmConfig { seeds: None, ..recipe.arms[name].with(name, setting)? };
                    one.arms.insert(trial(name, index), arm);
                }
            }
            Ok(Run { name: format!("search-{seed}"), recipe: one, until: Until::Arms })
        })
        .collect()
}

/// Takes for each arm the setting with the highest mean secure-pass@1 over the training, the first of equals; none with which its
/// policy collapsed in a seed.
pub(super) fn choose(recipe: &Recipe, search: &SearchConfig, folder: &RunFolder) -> Result<Value> {
    let mut found = Found { settings: search.settings.clone(), ..Found::default() };
    for name in &search.arms {
        let first = found.tried.len();
        for (index, setting) in search.settings.iter().enumerate() {
            let mut means = [Vec::new(), Vec::new(), Vec::new()];
            let mut collapsed_in = Vec::new();
            for &seed in &search.seeds {
                let path = folder.file(&format!("search-{seed}"));
                if collapsed(&RunFolder::open(&path)?, &trial(name, index)).is_some() {
                    collapsed_in.push(seed);
                    continue;
                }
                let points = points(&path, &trial(name, index))?;
                means[0].extend(curve(&points, "both").map(|curve| curve.mean()));
                means[1].extend(curve(&points, "vulnerable").map(|curve| curve.mean()));
                means[2].extend(
                    curve(&points, "functional").map(|curve| curve.at(curve.budget()) - curve.first()),
                );
            }
            let [both, vulnerable, functional_change] =
                means.map(|values| over_seeds(&values).map_or(f64::NAN, |(mean, _)| mean));
            if both.is_nan() && collapsed_in.is_empty() {
                let problem = format!("the search has no secure-pass@1 of `{name}` to choose by");
                return Err(Failure::user(problem)
                    .with_hint("the suite of `[evaluation]` must have functional and exploit tests"));
            }
            let setting = toml::to_string(setting).unwrap_or_default().trim().replace('\n', "; ");
            let arm = name.clone();
            found.tried.push(SearchedSetting {
                arm,
                setting,
                both,
                vulnerable,
                functional_change,
                chosen: false,
                collapsed: collapsed_in,
            });
        }
        let tried = &mut found.tried[first..];
        let best = (0..tried.len())
            .rev()
            .filter(|&index| tried[index].collapsed.is_empty())
            .max_by(|&one, &other| tried[one].both.total_cmp(&tried[other].both));
        let Some(best) = best else {
            return Err(Failure::user(format!("`{name}` collapsed with every setting of the search"))
                .with_hint("add settings with lower learning rates or higher KL coefficients"));
        };
        tried[best].chosen = true;
        found.taken.insert(name.clone(), best);
    }
    let bytes = serde_json::to_vec_pretty(&found)
        .map_err(|error| Failure::program(format!("the search cannot be written as JSON: {error}")))?;
    write_atomic(&folder.file(FILE), &bytes)?;
    // What comes of each arm, for those who look on; whether it fits is found out before hours of runs.
    for (name, arm) in &recipe.arms {
        found.apply(name, arm)?.settings(name, recipe)?;
    }
    Ok(json!({ "line": format!("{} settings of {} arms", search.settings.len(), search.arms.len()) }))
}
