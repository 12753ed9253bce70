//! The stages of a run, in order. Each reads files of the run folder and leaves files there, so that a run that was
//! killed goes on with the first stage that has not finished.

pub mod arm;
pub mod base;
pub mod build;
pub mod evaluate;
pub mod import;
pub mod prompts;
pub mod sft;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vul2safe_judge::Judge;
use vul2safe_model::{Model, Placement};
use vul2safe_run::{Metrics, RunFolder, write_atomic};
use vul2safe_sandbox::{Policy, Sandbox};
use vul2safe_tokens::Tokenizer;
use vul2safe_train::CallbackError;

use crate::failure::{Failure, Result};
use crate::progress::{Progress, duration};
use crate::recipe::Recipe;

/// What every stage is given.
pub struct Context<'a> {
    /// The resolved recipe.
    pub recipe: &'a Recipe,
    /// The run folder.
    pub run: &'a RunFolder,
    /// Where to say how far it is.
    pub progress: &'a Progress,
    /// Judges answers; starts the sandbox on first use.
    pub judge: Judge,
    /// As in [`RunOptions::keep_going`].
    pub keep_going: bool,
}

/// How a run is carried out, apart from its recipe.
#[derive(Clone)]
pub struct RunOptions {
    /// The run folder; none: `runs/<name>-seed<seed>`.
    pub out: Option<PathBuf>,
    /// Run untrusted code even where the sandbox cannot protect.
    pub allow_unprotected: bool,
    /// The last stage to carry out.
    pub until: Until,
    /// Run even where the estimate says that the memory will not do.
    pub ignore_memory_estimate: bool,
    /// Where the policy of an arm collapses, leave this arm out and go on with the others instead of stopping: one arm in one seed
    /// must not cost an experiment. The journal keeps the reason.
    pub keep_going: bool,
}

/// What a model is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be trained, all of it or an adapter on it.
    Train,
    /// To answer, and to stay as it is.
    Answer,
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// The SFT checkpoint.
    Sft,
    /// Every PPO arm.
    Arms,
    /// Evaluation and report.
    Report,
}

/// Carries out `recipe` from the first stage that is not finished, and returns the run folder's path.
///
/// # Errors
/// The first failure of a stage; what earlier stages finished stays.
pub fn run_recipe(recipe: &Recipe, options: &RunOptions, progress: &Progress) -> Result<PathBuf> {
    let out = options.out.clone().unwrap_or_else(|| default_folder(recipe));
    let resolved = recipe.to_toml()?;
    // What cannot work is found out before anything is written.
    check_arm_names(recipe)?;
    arm::check_requests(recipe)?;
    let device = recipe.device.find().map_err(Failure::from)?;
    if !options.ignore_memory_estimate {
        crate::memory::check(recipe, options.until)?;
    }
    let judge = open_judge(options.allow_unprotected)?;
    let run = RunFolder::create_or_resume(&out, &resolved, environment(recipe))?;
    progress.say(&format!("run folder {}", out.display()));
    if let Some(device) = device {
        progress.say(&format!("computing on {}: {}", recipe.device, device.name));
    }
    let context = Context { recipe, run: &run, progress, judge, keep_going: options.keep_going };

    context.stage("import", "reading vulnerability records", import::run)?;
    context.stage("build", "Vul2Safe: repair, verify, write implicit prompts", build::run)?;
    context.stage("base", "base model", base::run)?;
    base::forget_training(&context)?;
    if recipe.sft.enabled {
        context.stage("sft", "SFT on prompt → secure function", sft::run)?;
        sft::forget_training(&context)?;
    }
    if options.until == Until::Sft {
        return Ok(out);
    }
    for name in recipe.arms.keys() {
        context.stage(name, &format!("arm `{name}`"), |context| arm::run(context, name))?;
        if arm::collapsed(&run, name).is_none() {
            arm::forget_training(&context, name)?;
        }
    }
    if options.until == Until::Arms {
        return Ok(out);
    }
    for model in context.models() {
        context.stage(&format!("evaluate-{model}"), &format!("evaluating `{model}`"), |context| {
            evaluate::answer_and_judge(context, &model)
        })?;
    }
    context.stage("table", "rates, intervals and paired comparisons", evaluate::table)?;
    // The report is cheap and shows the journal itself, so it is written anew every time.
    let path = vul2safe_report::write(&out)?;
    progress.say(&format!("report {}", path.display()));
    Ok(out)
}

/// Refuses an arm with the name of another stage: the journal could not tell them apart and would skip one of them.
pub(crate) fn check_arm_names(recipe: &Recipe) -> Result<()> {
    let taken = |name: &str| {
        ["import", "build", "base", "sft", "table"].contains(&name) || name.starts_with("evaluate-")
    };
    match recipe.arms.keys().find(|name| taken(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::user(format!("`arms.{name}`: a stage of the run has this name"))
            .with_hint("give the arm another name, such as `ppo-token`")),
    }
}

/// The metrics of a training that may have been continued: what an interrupted one wrote of the steps that are done
/// again is replaced.
struct StepLog<'a> {
    context: &'a Context<'a>,
    stage: &'a str,
    total: u64,
    metrics: Option<Metrics>,
}

impl<'a> StepLog<'a> {
    fn new(context: &'a Context<'a>, stage: &'a str, total: u64) -> Self {
        StepLog { context, stage, total, metrics: None }
    }

    fn step(&mut self, step: u64, values: &[(&str, f64)]) -> std::result::Result<(), CallbackError> {
        let metrics = match &mut self.metrics {
            Some(metrics) => metrics,
            None => {
                if step > 0 {
                    self.context.progress.say(&format!("  continuing after step {step}"));
                }
                self.metrics.insert(self.context.run.metrics_from(self.stage, step)?)
            }
        };
        let loss = values.iter().find(|(name, _)| *name == "loss").map_or(f64::NAN, |(_, loss)| *loss);
        self.context.progress.update(step, self.total, &format!("loss {loss:.3}"));
        metrics.log(step, values)?;
        Ok(())
    }
}

/// `runs/<name>-seed<seed>`.
pub fn default_folder(recipe: &Recipe) -> PathBuf {
    Path::new("runs").join(format!("{}-seed{}", recipe.name, recipe.seed))
}

/// A judge with its sandbox.
pub fn open_judge(allow_unprotected: bool) -> Result<Judge> {
    Ok(Judge::new(Sandbox::new(Policy { allow_unprotected })?, None)?)
}

/// Versions and seed, for `environment.json`.
pub(crate) fn environment(recipe: &Recipe) -> Value {
    json!({
        "vul2safe": env!("CARGO_PKG_VERSION"),
        "seed": recipe.seed,
        "threads": rayon::current_num_threads(),
        "device": recipe.device,
        "architecture": std::env::consts::ARCH,
        "operating_system": std::env::consts::OS,
    })
}

impl Context<'_> {
    /// Runs a stage unless the journal says that it is finished.
    fn stage(&self, name: &str, title: &str, work: impl FnOnce(&Self) -> Result<Value>) -> Result<()> {
        if let Some(entry) = self.run.finished(name) {
            self.progress.say(&format!("{title}: finished before, in {}", duration(entry.seconds)));
            return Ok(());
        }
        self.progress.begin(title);
        let started = Instant::now();
        let outcome = work(self);
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(summary) => {
                let line = summary.get("line").and_then(Value::as_str).unwrap_or("done").to_owned();
                self.run.finish(name, seconds, summary)?;
                self.progress.end(&format!("  {line} ({})", duration(seconds)));
                Ok(())
            }
            Err(failure) => {
                self.progress.end(&format!("  stopped after {}", duration(seconds)));
                let out = self.run.path().display().to_string();
                let hint = failure.hint.clone().unwrap_or_default();
                Err(failure.at(format!("stage `{name}`")).with_hint(
                    format!("{hint}\nfinished stages are kept in {out}; the same command continues there")
                        .trim_start()
                        .to_owned(),
                ))
            }
        }
    }

    /// Models in the order of the table: base, SFT, then the arms, without those that collapsed.
    pub fn models(&self) -> Vec<String> {
        let start = if self.recipe.sft.enabled { &["base", "sft"][..] } else { &["base"][..] };
        let arms = self.recipe.arms.keys().filter(|name| arm::collapsed(self.run, name).is_none());
        start.iter().map(|&name| name.to_owned()).chain(arms.cloned()).collect()
    }

    /// The model that every arm starts from.
    pub fn arm_start(&self) -> &'static str {
        if self.recipe.sft.enabled { "sft" } else { "base" }
    }

    /// Where the recipe wants a model, and how.
    pub fn placement(&self, purpose: Purpose) -> Placement {
        let Recipe { device, model, lora, .. } = self.recipe;
        let frozen = purpose == Purpose::Answer || lora.is_some();
        Placement { device: *device, precision: model.precision, frozen }
    }

    /// Reads a model of this run to the recipe's device, the base's weights in the recipe's precision.
    pub fn open(&self, folder: &Path, purpose: Purpose) -> Result<(Model, Tokenizer)> {
        let model = &self.recipe.model;
        // The base is given for the adapter to start from; those of the run name their base themselves.
        let base = model.base.as_deref().filter(|_| model.path.as_deref() == Some(folder));
        base::open_model(folder, base, self.placement(purpose))
    }

    /// Folder of a model of this run.
    pub fn model_folder(&self, name: &str) -> PathBuf {
        match &self.recipe.model.path {
            Some(path) if name == "base" => path.clone(),
            _ => self.run.file(&format!("checkpoints/{name}")),
        }
    }

    /// A seed for one purpose, so that no two parts of a run draw the same numbers.
    pub fn seed(&self, purpose: &str) -> u64 {
        derive_seed(self.recipe.seed, purpose)
    }

    /// The same, moved by a seed of the stage's own settings, so that it can be varied alone.
    pub fn seed_for(&self, purpose: &str, own: u64) -> u64 {
        self.seed(purpose).wrapping_add(own)
    }

    /// Writes one JSON value a line.
    pub fn write_lines<T: Serialize>(&self, name: &str, values: &[T]) -> Result<()> {
        write_lines(&self.run.file(name), values)
    }

    /// Reads one JSON value a line.
    pub fn read_lines<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>> {
        read_lines(&self.run.file(name))
    }
}

/// FNV-1a over the purpose, mixed with the run's seed.
pub fn derive_seed(seed: u64, purpose: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in purpose.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Writes one JSON value a line, all or nothing.
pub fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let mut bytes = Vec::new();
    for value in values {
        serde_json::to_writer(&mut bytes, value).map_err(|error| {
            Failure::program(format!("{}: a value cannot be written as JSON: {error}", path.display()))
        })?;
        bytes.push(b'\n');
    }
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    Ok(write_atomic(path, &bytes)?)
}

/// Reads one JSON value a line.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = crate::failure::read_text(path, "JSON Lines file")?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                Failure::user(format!("{}:{}: {error}", path.display(), index + 1))
                    .with_hint("this file is made by another step; delete it and run that step again")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse_recipe;

    #[test]
    fn an_arm_cannot_have_the_name_of_a_stage() {
        let recipe = |name: &str| {
            let text = format!("[arms.{name}]\nplacement = \"token\"\nlambda = 1.0\n");
            parse_recipe(&text, Path::new("r.toml"), &[]).expect("parses")
        };
        for name in ["table", "import", "build", "evaluate-sft"] {
            let failure = check_arm_names(&recipe(name)).expect_err("must be refused");
            assert!(failure.message.contains(name) && failure.hint.is_some(), "{failure}");
        }
        check_arm_names(&recipe("tables")).expect("a name of its own");
    }
}
