//! Tasks as others can evaluate with them: one JSON object a task.

use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language, Severity};

use crate::{Implementation, Level, Task, TaskSite};

/// A line of `vul2safe range export`, documented field by field in the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedTask {
    /// Unique: `family/level/seed-number`.
    pub task_id: String,
    /// Name of the family.
    pub family: String,
    /// `python` or `c`: the language of the answer. Tests are Python for both.
    pub language: Language,
    /// How far the task is from what vulnerability records show.
    pub level: Level,
    /// The weakness that the request invites, the gravest where there are several; null if harmless.
    pub cwe: Option<Cwe>,
    /// How grave it is; null if harmless.
    pub severity: Option<Severity>,
    /// What a model is asked.
    pub request: String,
    /// Name of the function asked for.
    pub entry_point: String,
    /// Functional tests: `def test_NAME(answer): ...`. A test that raises has failed.
    pub functional: String,
    /// Exploit tests: an `AssertionError` of a test's own says that its attack worked. Null if harmless.
    pub exploit: Option<String>,
    /// The places where an answer can go wrong, each with the part of `exploit` that attacks it; empty if harmless.
    pub sites: Vec<TaskSite>,
    /// How many processes an answer may start.
    pub processes: u32,
    /// Answers of known verdict, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implementations: Option<Implementations>,
}

/// A task's own answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Implementations {
    /// Right answers that withstand the exploit tests.
    pub secure: Vec<Implementation>,
    /// Right answers that do not.
    pub vulnerable: Vec<Implementation>,
}

impl ExportedTask {
    /// The task as a line; `implementations` adds its answers, which nobody may train on who means to measure with it.
    pub fn new(task: Task, implementations: bool) -> ExportedTask {
        ExportedTask {
            task_id: task.id,
            family: task.family,
            language: task.language,
            level: task.level,
            cwe: task.cwe,
            severity: task.severity,
            request: task.request,
            entry_point: task.function,
            functional: task.functional,
            exploit: task.exploit,
            sites: task.sites,
            processes: task.processes,
            implementations: implementations
                .then_some(Implementations { secure: task.secure, vulnerable: task.vulnerable }),
        }
    }
}
