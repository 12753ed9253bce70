//! What each word on the command line does. Data goes to stdout, everything else to stderr.

mod analyze;
mod build;
mod check;
mod eval;
mod generate;
mod import;
mod paint;
mod range;
mod run;
mod score;
mod show;
mod train;

use std::path::{Path, PathBuf};

use crate::cli::{Cli, Command, DataCommand};
use crate::failure::{Failure, Result, read_text};
use crate::progress::Progress;
use crate::recipe::{Recipe, parse_recipe};

/// What the global options come to.
pub struct Session {
    /// Progress on stderr.
    pub progress: Progress,
    /// `--unsafe-no-sandbox`.
    pub allow_unprotected: bool,
}

/// Carries out a command.
///
/// # Errors
/// Whatever stopped it, with what to do.
pub fn dispatch(cli: Cli) -> Result<()> {
    if let Some(threads) = cli.global.threads {
        if threads == 0 {
            return Err(Failure::user("--threads 0: there must be at least one thread"));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| Failure::program(format!("the thread pool cannot be made: {error}")))?;
    }
    let session = Session {
        progress: Progress::new(cli.global.quiet),
        allow_unprotected: cli.global.unsafe_no_sandbox,
    };
    match cli.command {
        Command::Demo(arguments) => run::demo(&session, &arguments),
        Command::Run(arguments) => run::run(&session, &arguments),
        Command::Init(arguments) => run::init(&arguments),
        Command::Data(DataCommand::Import(arguments)) => import::run(&arguments),
        Command::Data(DataCommand::Build(arguments)) => build::run(&session, &arguments),
        Command::Data(DataCommand::Show(arguments)) => show::run(&arguments),
        Command::Data(DataCommand::Check(arguments)) => check::run(&arguments),
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
        Command::Doctor => doctor(),
    }
}

/// What the sandbox can enforce here.
fn doctor() -> Result<()> {
    println(&format!("vul2safe {}", env!("CARGO_PKG_VERSION")))?;
    let capabilities = vul2safe_sandbox::Sandbox::capabilities();
    let verdict =
        if capabilities.protects() { "can run untrusted code" } else { "refuses to run untrusted code here" };
    println(&format!("sandbox: {verdict}"))?;
    for line in capabilities.enforced() {
        println(&format!("  enforced  {line}"))?;
    }
    for line in capabilities.missing() {
        println(&format!("  missing   {line}"))?;
    }
    Ok(())
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
