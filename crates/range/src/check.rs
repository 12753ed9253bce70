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

/// One thing to judge: an answer of a task with all of its exploit tests, or with those of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Trial<'a> {
    /// The answer.
    pub code: &'a str,
    /// Functional tests; none where another trial of the same answer has them.
    pub functional: Option<&'a str>,
    /// Exploit tests; none if harmless.
    pub exploit: Option<&'a str>,
}

/// Every trial that [`check()`] asks about, so that a caller can judge them together.
pub fn trials(task: &Task) -> Vec<Trial<'_>> {
    implementations(task)
        .flat_map(|one| {
            std::iter::once(whole(task, one)).chain(attacked_apart(task).map(|site| Trial {
                code: &one.code,
                functional: None,
                exploit: Some(&site.exploit),
            }))
        })
        .collect()
}

/// Judges every implementation of the task. `judge` gives, for a trial, whether all functional tests pass and
/// whether an exploit test saw its attack succeed; `None` is a verdict that could not be reached, and a problem.
///
/// Expected: each implementation works; the secure ones withstand every exploit test, the vulnerable ones do not. Where
/// there are several sites, the tests of each site tell whether this site is flawed, whatever the others are. As for each
/// combination of flawed sites every variant of every site is tried, this says that mending one place flips the
/// verdict of the tests of this place, and of no other.
/// A harmless task has no exploit tests, so nothing is expected of its second verdict.
pub fn check(task: &Task, judge: impl Fn(&Trial<'_>) -> (Option<bool>, Option<bool>)) -> Vec<Problem> {
    let mut problems = Vec::new();
    for one in implementations(task) {
        let mut problem = |message: String| {
            problems.push(Problem {
                task: task.id.clone(),
                implementation: one.label.clone(),
                message,
                code: one.code.clone(),
            });
        };
        let (functional, observed) = judge(&whole(task, one));
        if functional != Some(true) {
            problem(format!("functional tests: expected to pass, got {functional:?}"));
        }
        let expected = |flawed: bool| if flawed { "vulnerable" } else { "secure" };
        let flawed = !one.flawed.is_empty();
        if task.exploit.is_some() && observed != Some(flawed) {
            problem(format!("exploit tests: expected {}, got vulnerable = {observed:?}", expected(flawed)));
        }
        for site in attacked_apart(task) {
            let flawed = one.flawed.contains(&site.name);
            let trial = Trial { code: &one.code, functional: None, exploit: Some(&site.exploit) };
            let (_, observed) = judge(&trial);
            if observed != Some(flawed) {
                problem(format!(
                    "exploit tests of `{}`: expected {}, got vulnerable = {observed:?}",
                    site.name,
                    expected(flawed)
                ));
            }
        }
    }
    problems
}

fn implementations(task: &Task) -> impl Iterator<Item = &Implementation> {
    task.secure.iter().chain(&task.vulnerable)
}

fn whole<'a>(task: &'a Task, one: &'a Implementation) -> Trial<'a> {
    Trial { code: &one.code, functional: Some(&task.functional), exploit: task.exploit.as_deref() }
}

/// The sites whose tests are tried on their own. A single site's tests are all that there are.
fn attacked_apart(task: &Task) -> impl Iterator<Item = &crate::TaskSite> {
    task.sites.iter().filter(|_| task.sites.len() > 1)
}
