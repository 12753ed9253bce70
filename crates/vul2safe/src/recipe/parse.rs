//! Text to recipe, with errors that name the place and the nearest key.

use std::path::Path;

use vul2safe_model::{Precision, SamplingOptions};

use super::{BaseCorpus, Recipe, SourceKind, SuiteKind, apply_overrides};
use crate::failure::{Failure, Result};
use crate::stages::base::model_config;

/// No tokenizer in use has more entries; a larger number is a slip that would ask for the whole memory.
const LARGEST_VOCABULARY: usize = 1 << 20;
/// Above this the threads themselves would take the memory and the time.
pub const MOST_THREADS: usize = 1_024;

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
            // Its text names the key as well as the problem.
            let problem = error.to_string().trim().replace('\n', ", ");
            let failure = Failure::user(format!("--set: {problem}"));
            match nearest(error.message()) {
                Some(hint) => failure.with_hint(hint),
                None => failure.with_hint(
                    "--set takes the recipe's own keys, for instance `--set sft.training.epochs=2`",
                ),
            }
        })?;
    }
    validate(&recipe).map_err(|failure| {
        let hint = failure.hint.clone().unwrap_or_else(|| {
            "correct it in the recipe or with `--set key=value`; a key that is left out has a default"
                .to_owned()
        });
        failure.at(place.display()).with_hint(hint)
    })?;
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
    if recipe.data.source.has_columns() && recipe.data.columns.is_none() {
        let word = recipe.data.source.word();
        return Err(Failure::user(format!("`data.source = \"{word}\"` needs a `[data.columns]` table"))
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
        if base.vocabulary > LARGEST_VOCABULARY {
            return Err(Failure::user(format!(
                "`base.vocabulary = {}` is more than the {LARGEST_VOCABULARY} that are possible",
                base.vocabulary
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
        model_config(base, base.vocabulary, 0).check().map_err(|error| Failure::from(error).at("[base]"))?;
        base.training.optimizer.check().map_err(|error| Failure::from(error).at("[base.training]"))?;
    }
    if recipe.name.is_empty() || recipe.name.contains('/') {
        return Err(Failure::user(format!("`name = {:?}`: this cannot name a run folder", recipe.name))
            .with_hint("use a word without `/`; `--out` puts the run folder anywhere"));
    }
    validate_counts(recipe)?;
    let split = &recipe.data.split;
    let shares = [("validation", split.validation), ("test", split.test)];
    for (key, value) in shares {
        if !(0.0..=1.0).contains(&value) {
            return Err(Failure::user(format!("`data.split.{key} = {value}` must lie between 0 and 1")));
        }
    }
    if !(0.0..=1.0).contains(&split.near_duplicates) || split.near_duplicates == 0.0 {
        return Err(Failure::user(format!(
            "`data.split.near_duplicates = {}` must lie above 0 and be at most 1",
            split.near_duplicates
        ))
        .with_hint("0.8 joins code that is four fifths the same; 1 joins the same code only"));
    }
    if let Some(day) = &split.hold_out_from
        && !is_day(day)
    {
        return Err(Failure::user(format!("`data.split.hold_out_from = \"{day}\"` is no day"))
            .with_hint("write it as YYYY-MM-DD, for instance \"2021-07-01\""));
    }
    if split.validation + split.test > 1.0 {
        return Err(Failure::user(format!(
            "`data.split.validation = {}` and `data.split.test = {}` are more than everything together",
            split.validation, split.test
        )));
    }
    if let Some(teacher) = &recipe.teacher {
        teacher.check()?;
    }
    recipe.repair.check().map_err(|error| {
        let failure = Failure::user(error.to_string()).at("[repair]");
        match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })?;
    if recipe.threads > MOST_THREADS {
        return Err(Failure::user(format!(
            "`threads = {}`: more than {MOST_THREADS} are never useful",
            recipe.threads
        ))
        .with_hint("0 takes one thread a core"));
    }
    if recipe.model.base.is_some() && recipe.model.path.is_none() {
        return Err(Failure::user("`model.base` is the base of an adapter, but there is no `model.path`")
            .with_hint(
                "give the adapter's folder as `model.path`, or the model itself as `model.path` alone",
            ));
    }
    if let Some(lora) = &recipe.lora {
        lora.check().map_err(|error| {
            Failure::from(error).at("[lora]").with_hint("correct the `[lora]` section, or leave the key out")
        })?;
    }
    recipe.reward.check().map_err(|error| Failure::from(error).at("[reward]"))?;
    let trains = recipe.sft.enabled || !recipe.arms.is_empty();
    let adapter_given =
        recipe.model.path.as_ref().is_some_and(|path| vul2safe_model::Adapter::is_folder(path));
    let half_on_cpu = recipe.model.precision == Precision::Bfloat16 && recipe.device.is_cpu();
    if half_on_cpu && trains && recipe.lora.is_none() && !adapter_given {
        return Err(Failure::user(
            "`model.precision = \"bfloat16\"`: weights in bfloat16 cannot be trained on the processor",
        )
        .with_hint("add a `[lora]` section, which trains an adapter on them, or take `float32`"));
    }
    if recipe.sft.enabled {
        recipe.sft.training.optimizer.check().map_err(|error| Failure::from(error).at("[sft.training]"))?;
    }
    if !recipe.arms.is_empty() {
        recipe.ppo.training.check().map_err(|error| Failure::from(error).at("[ppo.training]"))?;
    }
    let sampling =
        SamplingOptions { temperature: recipe.evaluation.temperature, ..SamplingOptions::default() };
    sampling.check().map_err(|error| Failure::from(error).at("[evaluation]"))?;
    match (recipe.evaluation.suite, &recipe.evaluation.data) {
        (SuiteKind::Public(format), None) => {
            return Err(Failure::user(format!(
                "`evaluation.suite = \"{}\"` needs `evaluation.data`",
                format.word
            ))
            .with_hint("name the suite's file or folder; `docs/src/reference/suites.md` says which"));
        }
        (SuiteKind::Range | SuiteKind::Records, Some(path)) => {
            return Err(Failure::user(format!(
                "`evaluation.data = \"{}\"`: the suite `{}` reads no file",
                path.display(),
                recipe.evaluation.suite
            ))
            .with_hint(
                "remove the key, or name the public suite that the file holds in `evaluation.suite`",
            ));
        }
        _ => {}
    }
    let validation = &recipe.ppo.validation;
    if validation.take_best && (!validation.keep_best || validation.every == 0) {
        return Err(Failure::user("`ppo.validation.take_best`: no best model would be kept to take")
            .with_hint("set `ppo.validation.every` above 0 and leave `keep_best` on"));
    }
    recipe.ppo.harmless.check(recipe)?;
    for (key, families) in
        [("data.families", &recipe.data.families), ("evaluation.families", &recipe.evaluation.families)]
    {
        vul2safe_range::Selection::of(families).map_err(|error| {
            Failure::user(format!("`{key}`: {error}")).with_hint(error.hint().unwrap_or_default())
        })?;
    }
    if let Some(experiment) = &recipe.experiment {
        experiment.check(recipe)?;
    }
    for (name, arm) in &recipe.arms {
        arm.settings(name, recipe)?;
        if recipe.experiment.is_none() && (arm.seeds.is_some() || arm.tuned_as.is_some()) {
            return Err(Failure::user(format!(
                "`arms.{name}`: `seeds` and `tuned_as` are for an experiment"
            ))
            .with_hint("add an `[experiment]` table, or remove them"));
        }
        let plain =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !plain || ["base", "sft"].contains(&name.as_str()) {
            return Err(Failure::user(format!("`arms.{name}`: this cannot be the name of an arm"))
                .with_hint("use letters, digits, `-` and `_`; `base` and `sft` are taken"));
        }
        let best = name.strip_suffix("-best").or_else(|| name.strip_suffix("-training"));
        if best.is_some_and(|other| recipe.arms.contains_key(other)) {
            return Err(Failure::user(format!(
                "`arms.{name}`: the checkpoints of another arm have this name"
            ))
            .with_hint("give it a name that does not end in `-best` or `-training`"));
        }
    }
    Ok(())
}

/// Refuses a 0 where nothing would be made, trained or measured: hours later it would be the same refusal.
fn validate_counts(recipe: &Recipe) -> Result<()> {
    let makes_model = recipe.model.path.is_none();
    let (base, sft, ppo) = (&recipe.base, &recipe.sft, &recipe.ppo);
    let (trains, has_arms) = (sft.enabled, !recipe.arms.is_empty());
    let evaluation = &recipe.evaluation;
    let counts = [
        (recipe.data.source == SourceKind::Range, "data.records_per_family", recipe.data.records_per_family),
        (recipe.data.source != SourceKind::Range, "data.maximum_bytes", recipe.data.maximum_bytes),
        (makes_model && base.corpus == BaseCorpus::Range, "base.documents", base.documents),
        (makes_model, "base.training.epochs", base.training.epochs),
        (makes_model, "base.training.maximum_steps", base.training.maximum_steps.unwrap_or(1)),
        (makes_model, "base.maximum_positions", base.maximum_positions),
        (trains, "sft.maximum_tokens", sft.maximum_tokens),
        (trains, "sft.training.epochs", sft.training.epochs),
        (trains, "sft.training.maximum_steps", sft.training.maximum_steps.unwrap_or(1)),
        (has_arms, "ppo.maximum_prompt_tokens", ppo.maximum_prompt_tokens),
        (has_arms, "ppo.training.updates", ppo.training.updates),
        (evaluation.suite == SuiteKind::Range, "evaluation.per_family", evaluation.per_family),
        (evaluation.suite == SuiteKind::Records, "evaluation.maximum_tasks", evaluation.maximum_tasks),
        (true, "evaluation.maximum_new_tokens", evaluation.maximum_new_tokens),
    ];
    match counts.into_iter().find(|(used, _, value)| *used && *value == 0) {
        Some((_, key, _)) => Err(Failure::user(format!("`{key} = 0` must be at least 1"))),
        None => Ok(()),
    }
}

/// Whether a text is written as YYYY-MM-DD, month and day within their bounds.
fn is_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let number = |part: &str, digits: usize| {
        let plain = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse::<u32>().ok()).flatten()
    };
    matches!((number(year, 4), number(month, 2), number(day, 2)), (Some(_), Some(1..=12), Some(1..=31)))
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

    #[test]
    fn what_would_stop_a_late_stage_stops_the_recipe() {
        for (key, value) in [
            ("name", "a/b"),
            ("name", ""),
            ("data.records_per_family", "0"),
            ("data.split.test", "nan"),
            ("data.split.validation", "-0.5"),
            ("data.split.near_duplicates", "0.0"),
            ("data.split.hold_out_from", "\"yesterday\""),
            ("data.split.hold_out_from", "\"2021-13-01\""),
            ("data.split.test", "0.95"),
            ("repair.threshold", "nan"),
            ("repair.prompts_per_pair", "0"),
            ("base.documents", "0"),
            ("base.layers", "0"),
            ("base.vocabulary", "100000000000"),
            ("base.training.maximum_steps", "0"),
            ("base.training.optimizer.learning_rate", "nan"),
            ("sft.training.epochs", "0"),
            ("reward.failure", "inf"),
            ("ppo.training.updates", "0"),
            ("ppo.training.rollouts_per_update", "0"),
            ("evaluation.per_family", "0"),
            ("evaluation.maximum_new_tokens", "0"),
            ("evaluation.temperature", "-1"),
        ] {
            let failure = failure("", &[&format!("{key}={value}")]);
            let word = key.rsplit('.').next().unwrap_or(key);
            let word = if word == "layers" { "num_hidden_layers" } else { word };
            assert!(failure.message.contains(word), "{key}: {}", failure.message);
            assert!(failure.hint.is_some(), "{key}: {}", failure.message);
        }
    }

    #[test]
    fn a_device_is_a_word_and_a_wrong_one_is_refused() {
        let device = |word: &str| {
            let overrides = [format!("device={word}")];
            parse_recipe("", Path::new("r.toml"), &overrides).map(|recipe| recipe.device)
        };
        assert_eq!(device("cuda:1").expect("a device"), vul2safe_model::Device::Cuda(1));
        let refused = device("gpu").expect_err("no device");
        assert!(refused.message.contains("cuda:N") && refused.hint.is_some(), "{refused}");
        // On a GPU what is trained in bfloat16 has float32 copies.
        let half = |device: &str| {
            let overrides = [format!("device={device}"), "model.precision=bfloat16".to_owned()];
            parse_recipe("", Path::new("r.toml"), &overrides)
        };
        assert!(half("cpu").is_err() && half("cuda").is_ok());
    }

    #[test]
    fn an_override_of_the_wrong_type_names_its_key() {
        assert!(failure("", &["base.layers=x"]).message.contains("layers"));
    }
}
