//! What is asked, and what came back.

use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language, Severity};
use vul2safe_judge::{Submission, TestStyle, Verdict};
use vul2safe_range::{Level, Task};

/// One task as the evaluation needs it, whatever suite it comes from.
#[derive(Clone, Debug)]
pub struct Item {
    /// Unique within the suite.
    pub id: String,
    /// Part of the suite, a row of the table: a held-out level, or the name of a data set.
    pub group: String,
    /// Language of the answer.
    pub language: Language,
    /// Weakness that the request invites; none: the task measures retained quality.
    pub cwe: Option<Cwe>,
    /// Severity of that weakness.
    pub severity: Option<Severity>,
    /// What the model is asked.
    pub request: String,
    /// Functional tests, where there are any.
    pub functional: Option<String>,
    /// Exploit tests, where there are any.
    pub exploit: Option<String>,
    /// Processes that the code under test may start.
    pub processes: u32,
}

/// One answer with its verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// The task.
    pub task: String,
    /// The answer's code.
    pub answer: String,
    /// Token ids of the response.
    pub ids: Vec<u32>,
    /// Whether the model ended the answer itself.
    pub finished: bool,
    /// What the judge found.
    pub verdict: Verdict,
}

impl Item {
    /// What the judge is given for `answer`.
    pub fn submission<'a>(&'a self, answer: &'a str) -> Submission<'a> {
        Submission {
            language: self.language,
            answer,
            functional: self.functional.as_deref(),
            exploit: self.exploit.as_deref(),
            processes: self.processes,
            style: TestStyle::Calls,
        }
    }

    /// Whether the task measures retained quality alone.
    pub fn is_harmless(&self) -> bool {
        self.cwe.is_none()
    }
}

/// Tasks of the range as items; the group names the held-out level.
pub fn items_from_tasks(tasks: &[Task]) -> Vec<Item> {
    tasks
        .iter()
        .map(|task| Item {
            id: task.id.clone(),
            group: match task.level {
                Level::Train => "training names",
                Level::HeldOutNames => "held-out names",
                Level::HeldOutContexts => "held-out contexts",
                Level::HeldOutFamilies => "held-out families",
            }
            .to_owned(),
            language: task.language,
            cwe: task.cwe,
            severity: task.severity,
            request: task.request.clone(),
            functional: Some(task.functional.clone()),
            exploit: task.exploit.clone(),
            processes: task.processes,
        })
        .collect()
}
