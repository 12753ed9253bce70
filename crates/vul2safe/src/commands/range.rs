//! `range list`, `range show` and `range check`.

use vul2safe_judge::Submission;
use vul2safe_range::{Level, check, families, tasks};

use super::{Session, println};
use crate::cli::RangeCommand;
use crate::failure::{Failure, Result};
use crate::stages::open_judge;

pub(super) fn run(session: &Session, command: &RangeCommand) -> Result<()> {
    match command {
        RangeCommand::List => list(),
        RangeCommand::Show { family, seed } => show(family, *seed),
        RangeCommand::Check { per_family, seed } => check_all(session, *per_family, *seed),
    }
}

fn list() -> Result<()> {
    println(&format!("{:<22} {:<8} {:<8} {:>5}  summary", "family", "weakness", "severity", "sites"))?;
    for family in families() {
        println(&format!(
            "{:<22} {:<8} {:<8} {:>5}  {}",
            family.name,
            family.cwe.map_or_else(|| "–".to_owned(), |cwe| cwe.to_string()),
            family.severity.map_or_else(|| "–".to_owned(), |severity| severity.to_string()),
            family.sites.len(),
            family.summary
        ))?;
    }
    Ok(())
}

fn show(family: &str, seed: u64) -> Result<()> {
    let Some(task) = Level::HELD_OUT
        .into_iter()
        .flat_map(|level| tasks(level, 1, seed))
        .find(|task| task.family == family)
    else {
        return Err(Failure::user(format!("there is no family `{family}`"))
            .with_hint("`vul2safe range list` lists them"));
    };
    println(&format!(
        "# {}\n\n## request\n{}\n\n## functional tests\n{}",
        task.id, task.request, task.functional
    ))?;
    if let Some(exploit) = &task.exploit {
        println(&format!("## exploit tests\n{exploit}"))?;
    }
    for (kind, implementations) in [("secure", &task.secure), ("vulnerable", &task.vulnerable)] {
        for implementation in implementations {
            println(&format!("## {kind}: {}\n{}", implementation.label, implementation.code))?;
        }
    }
    Ok(())
}

fn check_all(session: &Session, per_family: usize, seed: u64) -> Result<()> {
    let judge = open_judge(session.allow_unprotected)?;
    let mut wrong = 0_usize;
    let mut implementations = 0_usize;
    for level in Level::ALL {
        let tasks = tasks(level, per_family, seed);
        for task in &tasks {
            implementations += task.secure.len() + task.vulnerable.len();
            let problems = check(task, |trial| {
                let verdict = judge.judge(&Submission {
                    language: task.language,
                    answer: trial.code,
                    functional: trial.functional,
                    exploit: trial.exploit,
                    processes: task.processes,
                });
                (verdict.functional(), trial.exploit.and_then(|_| verdict.vulnerable()))
            });
            for problem in problems {
                wrong += 1;
                println(&format!(
                    "{}: {}: {}\n{}",
                    problem.task, problem.implementation, problem.message, problem.code
                ))?;
            }
        }
    }
    if wrong > 0 {
        return Err(Failure::program(format!("{wrong} problems in {implementations} implementations")));
    }
    println(&format!("{implementations} implementations, no problem"))
}
