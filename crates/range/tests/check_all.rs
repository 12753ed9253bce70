//! Every answer of the range gets the verdict it is meant to get, by running its tests.

use std::collections::HashMap;

use vul2safe_code::Language;
use vul2safe_judge::{Judge, Submission, TestStyle, Verdict};
use vul2safe_range::{Level, Task, check, tasks, vulnerability_records};
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

fn submission<'a>(task: &'a Task, code: &'a str) -> Submission<'a> {
    Submission {
        language: Language::Python,
        answer: code,
        functional: Some(&task.functional),
        exploit: task.exploit.as_deref(),
        processes: task.processes,
        style: TestStyle::Calls,
    }
}

#[test]
fn every_implementation_gets_its_verdict() {
    let Some(judge) = judge() else { return };
    for (level, seed) in [
        (Level::Train, 1),
        (Level::HeldOutNames, 2),
        (Level::HeldOutContexts, 3),
        (Level::HeldOutContexts, 4),
    ] {
        let tasks = tasks(level, 1, seed);
        let submissions: Vec<(&Task, &str)> = tasks
            .iter()
            .flat_map(|task| {
                task.secure.iter().chain(&task.vulnerable).map(move |one| (task, one.code.as_str()))
            })
            .collect();
        let verdicts = judge
            .judge_all(&submissions.iter().map(|(task, code)| submission(task, code)).collect::<Vec<_>>());
        let by_code: HashMap<(&str, &str), &Verdict> = submissions
            .iter()
            .zip(&verdicts)
            .map(|((task, code), verdict)| ((task.id.as_str(), *code), verdict))
            .collect();
        for task in &tasks {
            let problems = check(task, |code, task| {
                let verdict = by_code[&(task.id.as_str(), code)];
                (verdict.functional(), verdict.vulnerable())
            });
            assert!(problems.is_empty(), "{problems:#?}");
        }
    }
}

#[test]
fn both_sides_of_every_record_pass_its_tests() {
    let Some(judge) = judge() else { return };
    let records = vulnerability_records(4, 5);
    for record in &records {
        let tests = record.tests.as_ref().expect("every record has tests");
        for side in [&record.vulnerable, record.secure.as_ref().expect("every record has a fix")] {
            let verdict = judge.judge(&Submission {
                language: Language::Python,
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
