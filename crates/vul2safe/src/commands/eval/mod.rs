//! `eval`, `eval run` and `eval compare`.

mod compare;
mod settings;
mod sources;

use vul2safe_corpus::read_primevul_plus;
use vul2safe_evaluate::{Entry, Judging, Log, Suite, SummaryOptions, read_log, render_summary, summarize};
use vul2safe_judge::{Judge, TestLimits};
use vul2safe_model::SamplingOptions;
use vul2safe_range::CopyIndex;
use vul2safe_run::write_atomic;

use super::{Session, println};
use crate::cli::{EvalArguments, EvalCommand, EvalRunArguments};
use crate::failure::{Failure, Result};
use crate::recipe::{EvaluationConfig, SuiteKind};
use crate::stages::evaluate::suite;
use crate::stages::{derive_seed, open_judge};

/// Seconds of one test of a public suite: some of their references compute for a while, and their own programs give 3 to 20.
const PUBLIC_TEST_SECONDS: f64 = 10.0;

pub(super) fn run(session: &Session, arguments: &EvalArguments) -> Result<()> {
    match (&arguments.command, &arguments.run) {
        (Some(EvalCommand::Compare(arguments)), _) => compare::run(arguments),
        (Some(EvalCommand::Run(arguments)), _) => evaluate(session, arguments),
        (None, Some(arguments)) => evaluate(session, arguments),
        (None, None) => Err(Failure::user("nothing to evaluate")
            .with_hint("name a model folder with `--model` or a file of answers with `--answers`")),
    }
}

fn evaluate(session: &Session, arguments: &EvalRunArguments) -> Result<()> {
    let config = EvaluationConfig {
        suite: arguments.suite,
        data: arguments.data.clone(),
        per_family: arguments.per_family,
        temperature: arguments.temperature,
        maximum_new_tokens: arguments.maximum_new_tokens,
        ..EvaluationConfig::default()
    };
    let sampling = SamplingOptions { temperature: arguments.temperature, ..SamplingOptions::default() };
    sampling.check().map_err(|error| Failure::from(error).with_hint("give `--temperature` 0 or more"))?;
    let sources = sources::sources(arguments)?;
    let suite = read_suite(&config, arguments)?;
    let training = match &arguments.training {
        Some(path) => {
            let pairs = read_primevul_plus(path)?;
            let sides = pairs.iter().flat_map(|pair| [pair.secure.as_str(), pair.vulnerable.as_str()]);
            Some(CopyIndex::new(sides))
        }
        None => None,
    };
    let judge = judge_of(session, arguments)?;
    let version = suite.version();
    fs_err::create_dir_all(&arguments.out)?;
    settings::check(arguments, &suite, &version, &sources)?;

    let mut models: Vec<(String, Vec<Entry>)> = Vec::new();
    for source in &sources {
        let judging = Judging {
            judge: &judge,
            suite: &suite.name,
            suite_version: &version,
            model: &source.name,
            training: training.as_ref(),
        };
        let path = arguments.out.join(format!("{}.jsonl", source.name));
        let log = Log::open(&path, &judging)?;
        session.progress.begin(&format!("evaluating `{}`", source.name));
        let judged = sources::answer_and_judge(source, &suite, &config, arguments, &judging, &log, session)?;
        session.progress.end(&format!("  {judged} answers judged"));
        drop(log);
        models.push((source.name.clone(), read_log(&path)?));
    }
    let options = SummaryOptions {
        at: arguments.at.clone(),
        tasks: suite.items.len(),
        left_out: suite.left_out.clone(),
    };
    let summary = summarize(&models, &options);
    write_json(&arguments.out.join("evaluation.json"), &summary.to_table())?;
    write_json(&arguments.out.join("summary.json"), &summary)?;
    if arguments.json { println(&to_json(&summary)?) } else { println(&render_summary(&summary)) }
}

fn read_suite(config: &EvaluationConfig, arguments: &EvalRunArguments) -> Result<Suite> {
    let pairs = match (config.suite, &config.data) {
        (SuiteKind::Records, Some(path)) => read_primevul_plus(path)?,
        (SuiteKind::Range, Some(path)) => {
            return Err(Failure::user(format!("--data {}: the range reads no file", path.display()))
                .with_hint("name the suite that the file holds with `--suite`"));
        }
        _ => Vec::new(),
    };
    let first = arguments.seed.first().copied().unwrap_or(0);
    suite(config, &pairs, derive_seed(first, "evaluation"))
}

fn judge_of(session: &Session, arguments: &EvalRunArguments) -> Result<Judge> {
    let mut limits = TestLimits::default();
    if matches!(arguments.suite, SuiteKind::Public(_)) {
        limits.test_seconds = PUBLIC_TEST_SECONDS;
    }
    if let Some(seconds) = arguments.test_seconds {
        if !(seconds.is_finite() && (0.01..=3600.0).contains(&seconds)) {
            return Err(Failure::user(format!("--test-seconds {seconds}: must lie between 0.01 and 3600"))
                .with_hint("leave it out for the suite's usual time"));
        }
        limits.test_seconds = seconds;
    }
    Ok(open_judge(session.allow_unprotected)?.with_limits(limits))
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Failure::program(format!("the figures cannot be written as JSON: {error}")))
}

fn write_json(path: &std::path::Path, value: &impl serde::Serialize) -> Result<()> {
    Ok(write_atomic(path, format!("{}\n", to_json(value)?).as_bytes())?)
}
