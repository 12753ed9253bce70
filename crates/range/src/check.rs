//! Whether a task's own answers get the verdicts they are meant to get.

use crate::{Implementation, Task};

/// An answer of the range whose verdict is not what the task says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The task's id.
    pub task: String,
    /// The implementation's label.
    pub implementation: String,
    /// What was expected and what came.
    pub message: String,
    /// The answer.
    pub code: String,
}

/// Judges every implementation of the task. `judge` gives, for a code, whether all functional tests pass and
/// whether an exploit test saw its attack succeed; `None` is a verdict that could not be reached, and a problem.
///
/// Expected: each implementation works; the secure ones withstand every exploit test, the vulnerable ones do not.
/// A harmless task has no exploit tests, so nothing is expected of its second verdict.
pub fn check(task: &Task, judge: impl Fn(&str, &Task) -> (Option<bool>, Option<bool>)) -> Vec<Problem> {
    let sides = [(&task.secure, false), (&task.vulnerable, true)];
    let mut problems = Vec::new();
    for (implementation, vulnerable) in
        sides.into_iter().flat_map(|(side, flaw)| side.iter().map(move |one| (one, flaw)))
    {
        let (functional, observed) = judge(&implementation.code, task);
        if functional != Some(true) {
            problems.push(problem(
                task,
                implementation,
                format!("functional tests: expected to pass, got {functional:?}"),
            ));
        }
        if task.exploit.is_some() && observed != Some(vulnerable) {
            let expected = if vulnerable { "vulnerable" } else { "secure" };
            problems.push(problem(
                task,
                implementation,
                format!("exploit tests: expected {expected}, got vulnerable = {observed:?}"),
            ));
        }
    }
    problems
}

fn problem(task: &Task, implementation: &Implementation, message: String) -> Problem {
    Problem {
        task: task.id.clone(),
        implementation: implementation.label.clone(),
        message,
        code: implementation.code.clone(),
    }
}
