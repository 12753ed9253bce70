//! `range list`, `range show`, `range check` and `range export`.

use std::collections::HashMap;
use std::path::Path;

use vul2safe_judge::{Submission, TestStyle, Verdict};
use vul2safe_range::{ExportedTask, FamilyInfo, Level, Task, Trial, check, families, tasks, trials};
use vul2safe_run::write_atomic;

use super::{Session, println};
use crate::cli::{LevelKind, RangeCommand};
use crate::failure::{Failure, Result};
use crate::stages::open_judge;

/// Trials that are judged together: enough to keep every core busy.
const BATCH: usize = 256;

pub(super) fn run(session: &Session, command: &RangeCommand) -> Result<()> {
    match command {
        RangeCommand::List { json } => list(*json),
        RangeCommand::Show { family, level, seed, json } => show(family, *level, *seed, *json),
        RangeCommand::Check { per_family, seed, family } => check_all(session, *per_family, *seed, family),
        RangeCommand::Export { out, level, per_family, seed, implementations } => {
            export(out.as_deref(), level, *per_family, *seed, *implementations)
        }
    }
}

fn list(json: bool) -> Result<()> {
    if json {
        return families().iter().try_for_each(print_json);
    }
    println(&format!(
        "{:<16} {:<8} {:<23} {:<8} {:<8}  summary",
        "family", "language", "weaknesses by site", "severity", "held out"
    ))?;
    for family in families() {
        let weaknesses: Vec<String> = family.sites.iter().map(|site| site.cwe.to_string()).collect();
        println(&format!(
            "{:<16} {:<8} {:<23} {:<8} {:<8}  {}",
            family.name,
            family.language,
            if family.harmless { "–".to_owned() } else { weaknesses.join(" ") },
            family.severity.map_or_else(|| "–".to_owned(), |severity| severity.to_string()),
            if family.held_out { "yes" } else { "" },
            family.summary
        ))?;
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::program(format!("this cannot be written as JSON: {error}")))?;
    println(&text)
}

/// The family of that name.
fn named(name: &str) -> Result<FamilyInfo> {
    families().into_iter().find(|family| family.name == name).ok_or_else(|| {
        Failure::user(format!("there is no family `{name}`")).with_hint("`vul2safe range list` lists them")
    })
}

fn show(family: &str, level: Option<LevelKind>, seed: u64, json: bool) -> Result<()> {
    let family = named(family)?;
    let usual = if family.held_out { Level::HeldOutFamilies } else { Level::HeldOutNames };
    let level = level.map_or(usual, Level::from);
    let Some(task) = tasks(level, 1, seed).into_iter().find(|task| task.family == family.name) else {
        let only = if family.held_out { "held-out-families" } else { "the other levels" };
        return Err(Failure::user(format!("`{}` has no task of the level {level}", family.name))
            .with_hint(format!("its tasks are of {only}")));
    };
    if json {
        return print_json(&ExportedTask::new(task, true));
    }
    println(&format!(
        "# {} ({})\n\n## request\n{}\n\n## functional tests\n{}",
        task.id, task.language, task.request, task.functional
    ))?;
    if let Some(exploit) = &task.exploit {
        println(&format!("## exploit tests\n{exploit}"))?;
    }
    for implementation in task.secure.iter().chain(&task.vulnerable) {
        let kind = match &implementation.flawed[..] {
            [] => "secure".to_owned(),
            flawed => format!("vulnerable at {}", flawed.join(", ")),
        };
        println(&format!("## {kind}: {}\n{}", implementation.label, implementation.code))?;
    }
    Ok(())
}

fn check_all(session: &Session, per_family: usize, seed: u64, only: &[String]) -> Result<()> {
    for name in only {
        named(name)?;
    }
    let judge = open_judge(session.allow_unprotected)?;
    let tasks: Vec<Task> = Level::ALL
        .into_iter()
        .flat_map(|level| tasks(level, per_family, seed))
        .filter(|task| only.is_empty() || only.contains(&task.family))
        .collect();
    let all: Vec<(&Task, Trial<'_>)> =
        tasks.iter().flat_map(|task| trials(task).into_iter().map(move |trial| (task, trial))).collect();
    let mut verdicts: HashMap<(&str, Trial<'_>), Verdict> = HashMap::with_capacity(all.len());
    for batch in all.chunks(BATCH) {
        let submissions: Vec<Submission<'_>> =
            batch.iter().map(|(task, trial)| submission(task, trial)).collect();
        let judged = batch.iter().map(|(task, trial)| (task.id.as_str(), *trial));
        verdicts.extend(judged.zip(judge.judge_all(&submissions)));
        session.progress.update(verdicts.len() as u64, all.len() as u64, "trials judged");
    }
    let mut wrong = 0_usize;
    for task in &tasks {
        let problems = check(task, |trial| {
            let verdict = &verdicts[&(task.id.as_str(), *trial)];
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
    let implementations: usize = tasks.iter().map(|task| task.secure.len() + task.vulnerable.len()).sum();
    let counted = format!("{implementations} implementations of {} tasks, {} trials", tasks.len(), all.len());
    if wrong > 0 {
        return Err(Failure::program(format!("{wrong} problems in {counted}")));
    }
    println(&format!("{counted}: no problem"))
}

fn submission<'a>(task: &Task, trial: &Trial<'a>) -> Submission<'a> {
    Submission {
        language: task.language,
        answer: trial.code,
        functional: trial.functional,
        exploit: trial.exploit,
        processes: task.processes,
        style: TestStyle::Calls,
    }
}

fn export(
    out: Option<&Path>,
    levels: &[LevelKind],
    per_family: usize,
    seed: u64,
    implementations: bool,
) -> Result<()> {
    let levels: Vec<Level> = match levels {
        [] => Level::HELD_OUT.to_vec(),
        some => Level::ALL
            .into_iter()
            .filter(|level| some.iter().any(|&one| Level::from(one) == *level))
            .collect(),
    };
    let lines = levels
        .into_iter()
        .flat_map(|level| tasks(level, per_family, seed))
        .map(|task| ExportedTask::new(task, implementations));
    let Some(out) = out else { return lines.into_iter().try_for_each(|line| print_json(&line)) };
    let mut bytes = Vec::new();
    let mut count = 0_usize;
    for line in lines {
        serde_json::to_writer(&mut bytes, &line)
            .map_err(|error| Failure::program(format!("{}: {error}", line.task_id)))?;
        bytes.push(b'\n');
        count += 1;
    }
    write_atomic(out, &bytes)?;
    println(&format!("{count} tasks → {}", out.display()))
}
