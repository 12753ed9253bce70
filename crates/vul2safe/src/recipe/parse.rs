//! Text to recipe, with errors that name the place and the nearest key.

use std::path::Path;

use super::{ArmConfig, Recipe, SourceKind, apply_overrides};
use crate::failure::{Failure, Result};

/// Reads a recipe from `text` (`place` names it in errors) and applies `overrides` of the form `key=value`.
///
/// # Errors
/// Text that is not TOML, an unknown key, a value of the wrong type, an override that names no key, and settings
/// that contradict each other.
pub fn parse_recipe(text: &str, place: &Path, overrides: &[String]) -> Result<Recipe> {
    // The file alone first: its errors can then show line and column.
    let mut recipe: Recipe = toml::from_str(text).map_err(|error| explain(&error, place))?;
    if !overrides.is_empty() {
        let mut table: toml::Table = toml::from_str(text).map_err(|error| explain(&error, place))?;
        apply_overrides(&mut table, overrides)?;
        recipe = Recipe::deserialize_table(table).map_err(|error| {
            let failure = Failure::user(format!("--set: {}", error.message().trim()));
            match nearest(error.message()) {
                Some(hint) => failure.with_hint(hint),
                None => failure.with_hint(
                    "--set takes the recipe's own keys, for instance `--set sft.training.epochs=2`",
                ),
            }
        })?;
    }
    validate(&recipe).map_err(|failure| failure.at(place.display()))?;
    Ok(recipe)
}

impl Recipe {
    fn deserialize_table(table: toml::Table) -> std::result::Result<Recipe, toml::de::Error> {
        table.try_into()
    }

    /// The recipe with every default written out, as the run folder keeps it.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|error| {
            Failure::program(format!("the resolved recipe cannot be written as TOML: {error}"))
        })
    }
}

fn explain(error: &toml::de::Error, place: &Path) -> Failure {
    let failure = Failure::user(format!("{}: {}", place.display(), error.to_string().trim_end()));
    match nearest(error.message()) {
        Some(hint) => failure.with_hint(hint),
        None => failure.with_hint("`vul2safe init` writes a commented recipe to compare with"),
    }
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": the known name nearest to `x`.
fn nearest(message: &str) -> Option<String> {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (given, known) = quoted.split_first()?;
    if !message.contains("unknown") {
        return None;
    }
    let best = known.iter().min_by_key(|name| strsim::damerau_levenshtein(given, name))?;
    (strsim::damerau_levenshtein(given, best) <= 1 + given.len() / 3)
        .then(|| format!("did you mean `{best}`?"))
}

fn validate(recipe: &Recipe) -> Result<()> {
    let base = &recipe.base;
    if recipe.data.source != SourceKind::Range && recipe.data.path.is_none() {
        return Err(Failure::user(format!(
            "`data.source = \"{}\"` needs `data.path`",
            recipe.data.source.word()
        ))
        .with_hint("set it in the recipe or with `--set data.path=...`"));
    }
    if recipe.data.source == SourceKind::Jsonl && recipe.data.columns.is_none() {
        return Err(Failure::user("`data.source = \"jsonl\"` needs a `[data.columns]` table")
            .with_hint("name the columns, for instance `vulnerable = \"before\"` and `secure = \"after\"`"));
    }
    if recipe.model.path.is_none() {
        if base.heads == 0 || !base.hidden_size.is_multiple_of(base.heads * 2) {
            return Err(Failure::user(format!(
                "`base.hidden_size = {}` must be an even multiple of `base.heads = {}`",
                base.hidden_size, base.heads
            )));
        }
        if base.key_value_heads == 0 || !base.heads.is_multiple_of(base.key_value_heads) {
            return Err(Failure::user(format!(
                "`base.key_value_heads = {}` must divide `base.heads = {}`",
                base.key_value_heads, base.heads
            )));
        }
        if base.vocabulary < 300 {
            return Err(Failure::user(format!(
                "`base.vocabulary = {}` is too small: 256 bytes and the special tokens need at least 300",
                base.vocabulary
            )));
        }
        if !(0.0..=1.0).contains(&base.vulnerable_share) {
            return Err(Failure::user(format!(
                "`base.vulnerable_share = {}` is a share and lies between 0 and 1",
                base.vulnerable_share
            )));
        }
    }
    for (name, ArmConfig { lambda, .. }) in &recipe.arms {
        if !(0.0..=1.0).contains(lambda) {
            return Err(Failure::user(format!("`arms.{name}.lambda = {lambda}` must lie between 0 and 1")));
        }
        let plain =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !plain || ["base", "sft"].contains(&name.as_str()) {
            return Err(Failure::user(format!("`arms.{name}`: this cannot be the name of an arm"))
                .with_hint("use letters, digits, `-` and `_`; `base` and `sft` are taken"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str, overrides: &[&str]) -> Failure {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        parse_recipe(text, Path::new("recipe.toml"), &overrides).expect_err("must be refused")
    }

    #[test]
    fn every_default_survives_a_round_trip() {
        let text = Recipe::default().to_toml().expect("serialises");
        let again = parse_recipe(&text, Path::new("config.toml"), &[]).expect("parses");
        assert_eq!(again.to_toml().expect("serialises"), text);
    }

    #[test]
    fn a_typo_names_line_and_nearest_key() {
        let failure = failure("seed = 1\n[data]\nsuorce = \"sven\"\n", &[]);
        assert!(failure.message.contains("line 3"), "{}", failure.message);
        assert_eq!(failure.hint.as_deref(), Some("did you mean `source`?"));
    }

    #[test]
    fn an_override_with_a_typo_names_the_nearest_key() {
        let failure = failure("", &["data.pth=/x"]);
        assert_eq!(failure.hint.as_deref(), Some("did you mean `path`?"));
    }

    #[test]
    fn overrides_reach_nested_keys_and_keep_types() {
        let overrides =
            ["seed=7".to_owned(), "data.source=sven".to_owned(), "data.path=some/where".to_owned()];
        let recipe = parse_recipe("", Path::new("r.toml"), &overrides).expect("parses");
        assert_eq!(recipe.seed, 7);
        assert_eq!(recipe.data.source, SourceKind::Sven);
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(failure("[data]\nsource = \"sven\"\n", &[]).message.contains("data.path"));
        assert!(failure("[base]\nhidden_size = 30\n", &[]).message.contains("base.hidden_size"));
        assert!(
            failure("[arms.sft]\nplacement = \"token\"\nlambda = 1.0\n", &[]).message.contains("arms.sft")
        );
    }
}
