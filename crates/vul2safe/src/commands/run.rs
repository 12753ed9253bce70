//! `demo`, `run` and `init`.

use std::path::Path;

use super::{Session, check_inputs, println, read_recipe, with_device};
use crate::cli::{DemoArguments, InitArguments, RunArguments};
use crate::experiment::{experiment_folder, run_experiment};
use crate::failure::{Failure, Result};
use crate::plan;
use crate::recipe::{DEMO, Recipe, STARTER, parse_recipe};
use crate::stages::{RunOptions, Until, default_folder, run_recipe};

pub(super) fn demo(session: &Session, arguments: &DemoArguments) -> Result<()> {
    let mut overrides = vec![format!("seed={}", arguments.seed)];
    overrides.extend(with_device(&arguments.set, arguments.device));
    let recipe = parse_recipe(DEMO, Path::new("the embedded recipe"), &overrides)?;
    carry_out(session, &recipe, arguments.out.as_deref(), arguments.dry_run, arguments.ignore_memory_estimate)
}

pub(super) fn run(session: &Session, arguments: &RunArguments) -> Result<()> {
    let set = with_device(&arguments.set, arguments.device);
    let recipe = parse_recipe(&read_recipe(&arguments.recipe)?, &arguments.recipe, &set)?;
    carry_out(session, &recipe, arguments.out.as_deref(), arguments.dry_run, arguments.ignore_memory_estimate)
}

fn carry_out(
    session: &Session,
    recipe: &Recipe,
    out: Option<&Path>,
    dry_run: bool,
    ignore_memory_estimate: bool,
) -> Result<()> {
    session.start_threads(recipe)?;
    if dry_run {
        return println(&plan::describe(recipe, out)?);
    }
    let default = if recipe.experiment.is_some() { experiment_folder } else { default_folder };
    check_inputs(recipe, &out.map_or_else(|| default(recipe), Path::to_path_buf))?;
    let options = RunOptions {
        out: out.map(Path::to_path_buf),
        allow_unprotected: session.allow_unprotected,
        until: Until::Report,
        ignore_memory_estimate,
        keep_going: false,
    };
    let folder = match &recipe.experiment {
        None => run_recipe(recipe, &options, &session.progress)?,
        Some(experiment) => run_experiment(recipe, experiment, &options, &session.progress)?,
    };
    println(&folder.join("report.html").display().to_string())
}

pub(super) fn init(arguments: &InitArguments) -> Result<()> {
    let path = &arguments.path;
    if path.exists() {
        return Err(Failure::user(format!("{} is there already", path.display()))
            .with_hint("give another name: `vul2safe init other.toml`"));
    }
    vul2safe_run::write_atomic(path, STARTER.as_bytes())?;
    println(&format!(
        "wrote {0}; next: edit [data] and [model], then `vul2safe run {0} --dry-run`",
        path.display()
    ))
}
