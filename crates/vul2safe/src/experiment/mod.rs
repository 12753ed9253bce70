//! An experiment: a search on development seeds, the whole run for every seed, figures over seeds. Each run has a folder of its
//! own in the experiment's; everything goes on where it was interrupted.

mod analysis;
mod figures;
mod groups;
mod search;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use vul2safe_run::RunFolder;

use crate::failure::{Failure, Result};
use crate::progress::{Progress, duration};
use crate::recipe::{ExperimentConfig, Recipe};
use crate::stages::{RunOptions, Until, check_arm_names, environment, run_recipe};

pub use figures::render_experiment;

/// One run of an experiment.
struct Run {
    name: String,
    recipe: Recipe,
    until: Until,
}

/// `runs/<name>`.
pub fn experiment_folder(recipe: &Recipe) -> PathBuf {
    Path::new("runs").join(&recipe.name)
}

/// Carries out the experiment of `recipe` from where it was left, and returns its folder.
///
/// # Errors
/// The first failure of a run; what was finished stays.
pub fn run_experiment(
    recipe: &Recipe,
    config: &ExperimentConfig,
    options: &RunOptions,
    progress: &Progress,
) -> Result<PathBuf> {
    let out = options.out.clone().unwrap_or_else(|| experiment_folder(recipe));
    check_arm_names(recipe)?;
    crate::stages::arm::check_requests(recipe)?;
    if !options.ignore_memory_estimate {
        crate::memory::check_several(recipe, Until::Report, workers(config))?;
    }
    let folder = RunFolder::create_or_resume(&out, &recipe.to_toml()?, environment(recipe))?;
    progress.say(&format!("experiment folder {}", out.display()));
    let driver = Driver { config, options, progress, folder: &folder };
    let found = match &config.search {
        None => search::Found::default(),
        Some(settings) => {
            let runs = search::runs(recipe, settings)?;
            driver.stage("search", "search on development seeds", || {
                driver.carry_out(&runs)?;
                search::choose(recipe, settings, &folder)
            })?;
            search::Found::read(settings, &folder)?
        }
    };
    let runs = runs(recipe, config, &found)?;
    driver.stage("runs", "the runs", || {
        driver.carry_out(&runs)?;
        Ok(json!({ "line": format!("{} runs", runs.len()) }))
    })?;
    let recipes: Vec<(String, Recipe)> = runs.into_iter().map(|run| (run.name, run.recipe)).collect();
    let table = analysis::analyse(recipe, config, &recipes, &found, &folder)?;
    table.write(&folder)?;
    progress.say(&render_experiment(&table));
    let path = vul2safe_report::write(&out)?;
    progress.say(&format!("report {}", path.display()));
    Ok(out)
}

/// How many runs go on at the same time.
fn workers(config: &ExperimentConfig) -> usize {
    match config.side_by_side {
        0 => rayon::current_num_threads(),
        some => some,
    }
}

/// The runs, the ones with most arms first, so that none of them is left for the end.
fn runs(recipe: &Recipe, config: &ExperimentConfig, found: &search::Found) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (index, seed) in config.run_seeds(recipe).into_iter().enumerate() {
        let mut one = Recipe { experiment: None, seed, ..recipe.clone() };
        one.name = format!("{}-seed{seed}", recipe.name);
        one.arms.retain(|_, arm| config.takes_part(arm, index));
        for (name, arm) in &mut one.arms {
            *arm = found.apply(name, arm)?;
            (arm.seeds, arm.tuned_as) = (None, None);
        }
        runs.push(Run { name: format!("seed-{seed}"), recipe: one, until: Until::Report });
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.recipe.arms.len()));
    Ok(runs)
}

struct Driver<'a> {
    config: &'a ExperimentConfig,
    options: &'a RunOptions,
    progress: &'a Progress,
    folder: &'a RunFolder,
}

impl Driver<'_> {
    /// Does `work` unless the journal says that it is finished.
    fn stage(&self, name: &str, title: &str, work: impl FnOnce() -> Result<Value>) -> Result<()> {
        if let Some(entry) = self.folder.finished(name) {
            self.progress.say(&format!("{title}: finished before, in {}", duration(entry.seconds)));
            return Ok(());
        }
        self.progress.say(title);
        let started = Instant::now();
        let summary = work()?;
        let seconds = started.elapsed().as_secs_f64();
        self.folder.finish(name, seconds, summary)?;
        self.progress.say(&format!("{title}: done ({})", duration(seconds)));
        Ok(())
    }

    /// Carries out the runs, as many at the same time as the recipe says, each with its share of the threads. After a failure
    /// no further run is begun; those that are under way end first.
    fn carry_out(&self, runs: &[Run]) -> Result<()> {
        let workers = workers(self.config).clamp(1, runs.len().max(1));
        let threads = (rayon::current_num_threads() / workers).max(1);
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<Failure>> = Mutex::new(None);
        let failed = || failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if failed() {
                            break;
                        }
                        if let Err(error) = self.carry_out_one(run, threads) {
                            let mut kept = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            kept.get_or_insert(error.at(format!("run `{}`", run.name)));
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    fn carry_out_one(&self, run: &Run, threads: usize) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|error| Failure::program(format!("the thread pool cannot be made: {error}")))?;
        let options = RunOptions {
            out: Some(self.folder.file(&run.name)),
            until: run.until,
            // Looked at for all of them together.
            ignore_memory_estimate: true,
            keep_going: true,
            ..self.options.clone()
        };
        let progress = self.progress.part(&run.name);
        pool.install(|| run_recipe(&run.recipe, &options, &progress)).map(|_| ())
    }
}
