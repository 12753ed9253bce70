//! Every answer of the range gets the verdict it is meant to get, by running its tests.

use std::collections::HashMap;

use vul2safe_judge::{Judge, Submission, TestStyle, Verdict};
use vul2safe_range::{Level, Task, Trial, check, tasks, trials, vulnerability_records};
use vul2safe_sandbox::{Policy, Sandbox};

/// None where the machine has no python3 or its kernel cannot run a sandbox at all.
fn judge() -> Option<Judge> {
    // The code under test is our own, so a machine without landlock may run it as well.
    let sandbox = Sandbox::new(Policy { allow_unprotected: true }).map_err(|error| error.to_string());
    match sandbox.and_then(|sandbox| Judge::new(sandbox, None).map_err(|error| error.to_string())) {
        Ok(judge) => Some(judge),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
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

#[test]
fn every_implementation_gets_its_verdict_at_every_site() {
    let Some(judge) = judge() else { return };
    let mut problems = Vec::new();
    for (level, seed) in [
        (Level::Train, 1),
        (Level::HeldOutNames, 2),
        (Level::HeldOutContexts, 3),
        (Level::HeldOutContexts, 4),
        (Level::HeldOutFamilies, 5),
        (Level::HeldOutFamilies, 6),
    ] {
        let tasks = tasks(level, 1, seed);
        let all: Vec<(&Task, Trial<'_>)> =
            tasks.iter().flat_map(|task| trials(task).into_iter().map(move |trial| (task, trial))).collect();
        let verdicts =
            judge.judge_all(&all.iter().map(|(task, trial)| submission(task, trial)).collect::<Vec<_>>());
        let by_trial: HashMap<(&str, Trial<'_>), &Verdict> = all
            .iter()
            .zip(&verdicts)
            .map(|((task, trial), verdict)| ((task.id.as_str(), *trial), verdict))
            .collect();
        for task in &tasks {
            problems.extend(check(task, |trial| {
                let verdict = by_trial[&(task.id.as_str(), *trial)];
                (verdict.functional(), verdict.vulnerable())
            }));
        }
    }
    let lines: Vec<String> = problems
        .iter()
        .map(|one| format!("{} / {}: {}\n{}", one.task, one.implementation, one.message, one.code))
        .collect();
    assert!(problems.is_empty(), "{} problems:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn both_sides_of_every_record_pass_its_tests() {
    let Some(judge) = judge() else { return };
    let records = vulnerability_records(4, 5);
    for record in &records {
        let tests = record.tests.as_ref().expect("every record has tests");
        for side in [&record.vulnerable, record.secure.as_ref().expect("every record has a fix")] {
            let verdict = judge.judge(&Submission {
                language: record.language,
                answer: side,
                functional: Some(&tests.functional),
                exploit: None,
                processes: tests.processes,
                style: TestStyle::Calls,
            });
            assert_eq!(verdict.functional(), Some(true), "{}: {:?}\n{side}", record.id, verdict.functional);
        }
    }
}
