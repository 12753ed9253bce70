//! An arm: what it does differently from the recipe's common settings.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vul2safe_corpus::SpanOrigin;
use vul2safe_reward::{Control, FailurePlacement, Placement, RewardConfig};
use vul2safe_train::{PpoConfig, PreferenceConfig, SftConfig};

use super::Recipe;
use super::harmless::check_share;
use crate::failure::{Failure, Result};

/// What one arm does differently.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArmConfig {
    /// How it learns.
    pub method: ArmMethod,
    /// Where the evidence is paid: on its own tokens, or all of it on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// λ of GAE: 0.95 for rewards on tokens, 1 for a reward on the last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// A control experiment: what is done to the evidence before it is paid.
    pub control: Control,
    /// Patterns come from spans of these origins only; empty: of all.
    pub spans: Vec<SpanOrigin>,
    /// Prompts of these styles only; empty: of all.
    pub styles: Vec<String>,
    /// Share of the training pairs whose sides are exchanged for this arm: repairs that teach the flaw.
    pub swapped_share: f64,
    /// Share of its answers that are to harmless requests, instead of `ppo.harmless.share`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harmless_share: Option<f64>,
    /// In an experiment: only in so many of the runs, the first ones; absent: in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<u64>,
    /// In an experiment: takes the setting that the search found for this arm, under its own keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned_as: Option<String>,
    /// Keys of `[reward]` that differ for this arm.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub reward: toml::Table,
    /// Keys of `[ppo.training]` that differ for this arm (of `[sft.training]` where the method is supervised).
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub training: toml::Table,
    /// `preference` only.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub preference: toml::Table,
}

/// How an arm learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArmMethod {
    /// PPO or GRPO on rewards.
    #[default]
    Ppo,
    /// SFT on the tokens of secure spans alone (SVEN's mask).
    MaskedSft,
    /// SFT on the secure side, and unlikelihood on the tokens of vulnerable spans (SafeCoder).
    Unlikelihood,
    /// DPO on the tokens that differ between the sides (localised preference optimisation).
    Preference,
}

/// The settings of an arm, the recipe's and its own put together.
#[derive(Clone, Debug)]
pub struct ArmSettings {
    /// The reward.
    pub reward: RewardConfig,
    /// PPO.
    pub ppo: PpoConfig,
    /// Supervised methods.
    pub supervised: SftConfig,
    /// Preference training.
    pub preference: PreferenceConfig,
    /// PPO: share of the answers that are to harmless requests.
    pub harmless_share: f64,
}

impl ArmConfig {
    /// The settings of the arm `name` in `recipe`.
    ///
    /// # Errors
    /// A key that does not exist, and values that make no sense.
    pub fn settings(&self, name: &str, recipe: &Recipe) -> Result<ArmSettings> {
        let place = |part: &str| format!("[arms.{name}{part}]");
        let reward: RewardConfig =
            merged(&recipe.reward, &self.reward).map_err(|failure| failure.at(place(".reward")))?;
        let reward = RewardConfig { placement: self.placement.unwrap_or(reward.placement), ..reward };
        reward.check().map_err(|error| Failure::from(error).at(place(".reward")))?;
        let none = toml::Table::new();
        let (of_ppo, of_supervised) = match self.method {
            ArmMethod::Ppo => (&self.training, &none),
            ArmMethod::MaskedSft | ArmMethod::Unlikelihood => (&none, &self.training),
            ArmMethod::Preference => (&none, &none),
        };
        let at = |failure: Failure| failure.at(place(".training"));
        let ppo: PpoConfig = merged(&recipe.ppo.training, of_ppo).map_err(at)?;
        let ppo = PpoConfig { lambda: self.lambda.unwrap_or(ppo.lambda), ..ppo };
        ppo.check().map_err(|error| Failure::from(error).at(place(".training")))?;
        let supervised: SftConfig = merged(&recipe.sft.training, of_supervised).map_err(at)?;
        supervised.optimizer.check().map_err(|error| Failure::from(error).at(place(".training")))?;
        let preference: PreferenceConfig = merged(&PreferenceConfig::default(), &self.preference)
            .map_err(|failure| failure.at(place(".preference")))?;
        preference.check().map_err(|error| Failure::from(error).at(place(".preference")))?;
        if !(0.0..=1.0).contains(&self.swapped_share) {
            let problem = format!("`swapped_share = {}` must lie between 0 and 1", self.swapped_share);
            return Err(Failure::user(problem).at(place("")));
        }
        if self.method == ArmMethod::Preference && !self.training.is_empty() {
            let problem = "`training` says nothing where the method is `preference`";
            return Err(Failure::user(problem)
                .with_hint(format!("put its keys under `arms.{name}.preference`"))
                .at(place("")));
        }
        if self.method != ArmMethod::Ppo && self.harmless_share.is_some() {
            let problem = "`harmless_share` is for PPO and GRPO, which sample answers";
            return Err(Failure::user(problem).with_hint("remove it").at(place("")));
        }
        let harmless_share = self.harmless_share.unwrap_or(recipe.ppo.harmless.share);
        check_share("harmless_share", harmless_share).map_err(|failure| failure.at(place("")))?;
        Ok(ArmSettings { reward, ppo, supervised, preference, harmless_share })
    }

    /// The arm with the keys of `setting` in place of its own.
    ///
    /// # Errors
    /// A key that no arm has, a value of the wrong kind.
    pub fn with(&self, name: &str, setting: &toml::Table) -> Result<ArmConfig> {
        merged(self, setting)
            .map_err(|failure| failure.at(format!("[arms.{name}], as `experiment.search` sets it")))
    }

    /// The arm with the keys of `setting` where it has none of its own.
    ///
    /// # Errors
    /// As [`ArmConfig::with`].
    pub fn under(&self, name: &str, setting: &toml::Table) -> Result<ArmConfig> {
        let own = toml::Table::try_from(self).map_err(|error| {
            Failure::program(format!("the arm `{name}` cannot be written as TOML: {error}"))
        })?;
        ArmConfig::default().with(name, setting)?.with(name, &own)
    }

    /// How it learns, in words.
    pub fn describe(&self, settings: &ArmSettings) -> String {
        let ArmSettings { reward, ppo, supervised, preference, harmless_share } = settings;
        match self.method {
            ArmMethod::Ppo => format!(
                "{} updates of {} rollouts, ≤ {} tokens each; evidence on {}, {}{}{}",
                ppo.updates,
                ppo.rollouts_per_update,
                ppo.maximum_new_tokens,
                match reward.placement {
                    Placement::Token => "its own tokens",
                    Placement::Last => "the last token",
                },
                match ppo.advantage {
                    vul2safe_train::AdvantageKind::Gae => format!("λ = {}", ppo.lambda),
                    vul2safe_train::AdvantageKind::Group => "GRPO".to_owned(),
                    vul2safe_train::AdvantageKind::GroupToken => "GRPO on tokens".to_owned(),
                },
                match reward.failure_placement {
                    FailurePlacement::Departures if reward.placement == Placement::Token => {
                        "; failures where the answer breaks or departs"
                    }
                    FailurePlacement::Break if reward.placement == Placement::Token => {
                        "; failures where the answer breaks"
                    }
                    _ => "",
                },
                if *harmless_share > 0.0 {
                    format!("; {:.0} % to harmless requests", 100.0 * harmless_share)
                } else {
                    String::new()
                },
            ),
            ArmMethod::MaskedSft => format!("SFT on secure spans, {} epochs", supervised.epochs),
            ArmMethod::Unlikelihood => {
                format!("SFT, vulnerable spans unlearned, {} epochs", supervised.epochs)
            }
            ArmMethod::Preference => {
                format!("preference on changed tokens, β = {}, {} epochs", preference.beta, preference.epochs)
            }
        }
    }
}

/// `common` with the keys of `own` in their places.
fn merged<T: Serialize + DeserializeOwned>(common: &T, own: &toml::Table) -> Result<T> {
    let mut table = toml::Table::try_from(common)
        .map_err(|error| Failure::program(format!("the settings cannot be written as TOML: {error}")))?;
    overlay(&mut table, own);
    table.try_into().map_err(|error: toml::de::Error| {
        Failure::user(error.to_string().trim().replace('\n', ", "))
            .with_hint("an arm's tables take the keys of the common tables of the same name")
    })
}

fn overlay(table: &mut toml::Table, own: &toml::Table) {
    for (key, value) in own {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => overlay(inner, value),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::recipe::parse_recipe;

    fn settings(text: &str) -> Result<ArmSettings> {
        let recipe = parse_recipe(text, Path::new("r.toml"), &[])?;
        let (name, arm) = recipe.arms.iter().next().expect("an arm");
        arm.settings(name, &recipe)
    }

    #[test]
    fn an_arm_has_the_common_settings_but_for_its_own() {
        let settings = settings(
            "[reward]\nfailure = 2.0\n[ppo.training]\nupdates = 7\noptimizer = { learning_rate = 5e-5 }\n\
             [arms.grpo]\nplacement = \"last\"\nreward = { negative = 0.5 }\n\
             training = { advantage = \"group\", answers_per_prompt = 4, optimizer = { weight_decay = 0.1 } }\n",
        )
        .expect("good settings");
        assert_eq!((settings.reward.failure, settings.reward.negative), (2.0, 0.5));
        assert_eq!(settings.reward.placement, Placement::Last);
        assert_eq!((settings.ppo.updates, settings.ppo.answers_per_prompt), (7, 4));
        let optimizer = &settings.ppo.optimizer;
        assert_eq!((optimizer.learning_rate, optimizer.weight_decay), (5e-5, 0.1));
    }

    #[test]
    fn slips_in_an_arm_are_named_before_anything_runs() {
        for (text, part) in [
            ("[arms.a]\nreward = { negativ = 0.5 }\n", "negativ"),
            ("[arms.a]\nmethod = \"ppoo\"\n", "ppoo"),
            ("[arms.a]\ntraining = { advantage = \"group\" }\n", "answers_per_prompt"),
            ("[arms.a]\nlambda = 1.5\n", "lambda"),
            ("[arms.a]\nswapped_share = 2.0\n", "swapped_share"),
            ("[arms.a]\nmethod = \"preference\"\ntraining = { epochs = 1 }\n", "preference"),
            ("[arms.a]\nmethod = \"preference\"\npreference = { beta = 0.0 }\n", "beta"),
        ] {
            let failure = settings(text).expect_err("must be refused");
            assert!(failure.message.contains(part), "{failure}");
        }
    }
}
