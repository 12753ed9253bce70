//! Harmless requests among the prompts of PPO.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Recipe, SuiteKind};
use crate::failure::{Failure, Result};

/// Requests that invite no weakness, so that function beside the weaknesses is trained for as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HarmlessConfig {
    /// Share of PPO's answers that are to such requests, from 0 to below 1; an arm may have its own.
    pub share: f64,
    /// Where they come from: `range`, with names that no evaluation has, or a public suite that is not evaluated on.
    pub suite: SuiteKind,
    /// Public suites: their file or folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// `range`: requests of each family.
    pub per_family: usize,
    /// `range`: the families, by name, of which those without a weakness count; empty: those of `data.families`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
}

impl Default for HarmlessConfig {
    fn default() -> Self {
        HarmlessConfig {
            share: 0.0,
            suite: SuiteKind::Range,
            data: None,
            per_family: 24,
            families: Vec::new(),
        }
    }
}

impl HarmlessConfig {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// A share that is none, a suite without its file, unknown families, and the suite that models are measured on.
    pub fn check(&self, recipe: &Recipe) -> Result<()> {
        check_share("ppo.harmless.share", self.share)?;
        vul2safe_range::Selection::of(&self.families).map_err(|error| {
            Failure::user(format!("`ppo.harmless.families`: {error}"))
                .with_hint(error.hint().unwrap_or_default())
        })?;
        let refuse = |problem: &str, hint: &str| {
            Err(Failure::user(format!("`ppo.harmless`: {problem}")).with_hint(hint))
        };
        match (self.suite, &self.data) {
            (SuiteKind::Range, None) => Ok(()),
            (SuiteKind::Records, _) => refuse(
                "records invite their weakness and are no harmless requests",
                "take `range` or a public suite",
            ),
            (SuiteKind::Range, Some(_)) => refuse(
                "the suite `range` reads no file",
                "remove `data`, or name the suite that the file holds",
            ),
            (SuiteKind::Public(_), None) => {
                refuse("a public suite needs its file or folder", "name it with `ppo.harmless.data`")
            }
            (SuiteKind::Public(_), Some(data)) if recipe.evaluation.data.as_ref() == Some(data) => refuse(
                "these are the tasks that models are measured on",
                "take others than `evaluation.data`",
            ),
            (SuiteKind::Public(_), Some(_)) => Ok(()),
        }
    }
}

/// Refuses a share that leaves no prompt of a pair, or is none.
pub(super) fn check_share(key: &str, share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    Err(Failure::user(format!("`{key} = {share}` must lie between 0 and 1, and below 1"))
        .with_hint("the other prompts are those of the training pairs; 0.25 is a beginning"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::recipe::parse_recipe;

    #[test]
    fn slips_are_named_before_anything_runs() {
        let suite = "suite = \"humaneval\"\n";
        for (text, part) in [
            ("share = 1.0\n".to_owned(), "below 1"),
            ("share = -0.1\n".to_owned(), "ppo.harmless.share"),
            ("families = [\"path_reed\"]\n".to_owned(), "path_reed"),
            ("suite = \"records\"\n".to_owned(), "records"),
            ("data = \"x.jsonl\"\n".to_owned(), "reads no file"),
            (suite.to_owned(), "file or folder"),
            (format!("{suite}data = \"h.jsonl\"\n[evaluation]\n{suite}data = \"h.jsonl\"\n"), "measured on"),
        ] {
            let text = format!("[ppo.harmless]\n{text}");
            let failure = parse_recipe(&text, Path::new("r.toml"), &[]).expect_err("must be refused");
            assert!(failure.message.contains(part), "{failure}");
        }
        let arm = "[arms.a]\nmethod = \"preference\"\nharmless_share = 0.2\n";
        let failure = parse_recipe(arm, Path::new("r.toml"), &[]).expect_err("must be refused");
        assert!(failure.message.contains("harmless_share"), "{failure}");
    }
}
