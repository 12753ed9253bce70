//! What each word on the command line does. Data goes to stdout, everything else to stderr.

mod analyze;
mod beside;
mod build;
mod check;
mod data_report;
mod doctor;
mod eval;
mod export;
mod generate;
mod import;
mod mine;
mod paint;
mod prompts;
mod range;
mod run;
mod score;
mod show;
mod train;

use std::path::{Path, PathBuf};

use vul2safe_model::Device;

use crate::cli::{Cli, Command, DataCommand};
use crate::failure::{Failure, Result, read_text};
use crate::progress::Progress;
use crate::recipe::{MOST_THREADS, Recipe, SourceKind, SuiteKind, parse_recipe};
use crate::stages::base::Folder;

/// What the global options come to.
pub struct Session {
    /// Progress on stderr.
    pub progress: Progress,
    /// `--unsafe-no-sandbox`.
    pub allow_unprotected: bool,
    /// `--threads`, where it is given.
    threads: Option<usize>,
}

impl Session {
    /// Makes the one pool of the process: `--threads`, else the recipe's number; 0 is one thread a core. Called once, before
    /// anything uses a pool.
    fn start_threads(&self, recipe: &Recipe) -> Result<()> {
        start_threads(self.threads.unwrap_or(recipe.threads))
    }
}

fn start_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| Failure::program(format!("the thread pool cannot be made: {error}")))
}

/// Carries out a command.
///
/// # Errors
/// Whatever stopped it, with what to do.
pub fn dispatch(cli: Cli) -> Result<()> {
    if let Some(threads) = cli.global.threads
        && threads > MOST_THREADS
    {
        return Err(Failure::user(format!("--threads {threads}: more than {MOST_THREADS} are never useful"))
            .with_hint("leave it out, or give 0, for one thread a core"));
    }
    // Commands with a recipe make the pool once they have read it.
    if !matches!(cli.command, Command::Demo(_) | Command::Run(_) | Command::Train(_)) {
        start_threads(cli.global.threads.unwrap_or(0))?;
    }
    let session = Session {
        progress: Progress::new(cli.global.quiet),
        allow_unprotected: cli.global.unsafe_no_sandbox,
        threads: cli.global.threads,
    };
    match cli.command {
        Command::Demo(arguments) => run::demo(&session, &arguments),
        Command::Run(arguments) => run::run(&session, &arguments),
        Command::Init(arguments) => run::init(&arguments),
        Command::Data(DataCommand::Import(arguments)) => import::run(&arguments),
        Command::Data(DataCommand::Mine(arguments)) => mine::run(&arguments),
        Command::Data(DataCommand::Export(arguments)) => export::run(&arguments),
        Command::Data(DataCommand::Build(arguments)) => build::run(&session, &arguments),
        Command::Data(DataCommand::Show(arguments)) => show::run(&arguments),
        Command::Data(DataCommand::Report(arguments)) => data_report::run(&arguments),
        Command::Data(DataCommand::Check(arguments)) => check::run(&arguments),
        Command::Data(DataCommand::Prompts(arguments)) => prompts::run(&arguments),
        Command::Train(arguments) => train::run(&session, &arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Analyze(arguments) => analyze::run(&arguments),
        Command::Score(arguments) => score::run(&session, &arguments),
        Command::Eval(arguments) => eval::run(&session, &arguments),
        Command::Report(arguments) => {
            let path = vul2safe_report::write(&arguments.run)?;
            println(&path.display().to_string())
        }
        Command::Range(command) => range::run(&session, &command),
        Command::Doctor(arguments) => doctor::run(&arguments),
    }
}

/// A line on stdout; a reader that went away (`| head`) ends the program quietly.
fn println(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Makes sure, before any work is done, that `out` can be written and replaces nothing that is read.
fn check_output(out: &Path, input: &Path) -> Result<()> {
    if out.is_dir() {
        return Err(Failure::user(format!(
            "{}: this is a folder, and a file is to be written",
            out.display()
        ))
        .with_hint("name a file in it with `--out`"));
    }
    if let (Ok(out_file), Ok(input_file)) = (out.canonicalize(), input.canonicalize())
        && out_file == input_file
    {
        return Err(Failure::user(format!(
            "{}: this is the input, which writing would replace",
            out.display()
        ))
        .with_hint("name another file with `--out`"));
    }
    if let Some(parent) = out.parent() {
        fs_err::create_dir_all(parent)?;
    }
    Ok(())
}

/// Looks for what a new run reads before its folder is made: a folder keeps its configuration, so that a wrong path
/// could not be corrected in it. A run that is there may have finished with its inputs and is left to continue.
fn check_inputs(recipe: &Recipe, out: &Path) -> Result<()> {
    if out.join("config.toml").exists() {
        return Ok(());
    }
    if let Some(path) = recipe.data.path.as_ref().filter(|_| recipe.data.source != SourceKind::Range)
        && !path.exists()
    {
        return Err(Failure::user(format!("{}: no such file or folder", path.display()))
            .with_hint("check `data.path` (`--data`); relative paths start at the current folder"));
    }
    if let (SuiteKind::Public(format), Some(path)) = (recipe.evaluation.suite, &recipe.evaluation.data) {
        format.read(path)?;
    }
    if let Some(path) = &recipe.model.path {
        let folder = Folder::open(path, recipe.model.base.as_deref())?;
        vul2safe_tokens::Tokenizer::from_folder(folder.words())?;
        vul2safe_model::Config::from_folder(&folder.base)?;
    }
    Ok(())
}

/// What `--set` and `--device` change of a recipe. The device is one of the overrides, so that the recipe is judged with it.
fn with_device(set: &[String], device: Option<Device>) -> Vec<String> {
    set.iter().cloned().chain(device.map(|device| format!("device={device}"))).collect()
}

/// The recipe at `path` (the defaults without one) with `overrides`.
fn recipe(path: Option<&Path>, overrides: &[String]) -> Result<Recipe> {
    match path {
        Some(path) => {
            let text = read_recipe(path)?;
            parse_recipe(&text, path, overrides)
        }
        None => parse_recipe("", &PathBuf::from("defaults"), overrides),
    }
}

fn read_recipe(path: &Path) -> Result<String> {
    if path.is_file() && path.extension().is_none_or(|extension| extension != "toml") {
        return Err(Failure::user(format!("{}: a recipe is a `.toml` file", path.display()))
            .with_hint("`vul2safe init` writes a commented one"));
    }
    read_text(path, "recipe").map_err(|failure| match failure.hint {
        Some(hint) => {
            Failure { hint: Some(format!("{hint}\n`vul2safe init` writes a commented recipe")), ..failure }
        }
        None => failure,
    })
}
