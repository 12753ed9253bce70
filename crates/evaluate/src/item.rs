//! What is asked, and what came back.

use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language, Severity};
use vul2safe_judge::{Submission, TestStyle, Verdict};
use vul2safe_range::{Level, Task};

/// One task as the evaluation needs it, whatever suite it comes from.
#[derive(Clone, Debug, Serialize)]
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
    /// What a chat model is asked.
    pub request: String,
    /// How an answer becomes a program.
    pub form: Form,
    /// Name of the function asked for, where the suite names one.
    pub entry_point: Option<String>,
    /// Functional tests, where there are any.
    pub functional: Option<String>,
    /// Exploit tests, where there are any.
    pub exploit: Option<String>,
    /// Processes that the code under test may start.
    pub processes: u32,
    /// The suite's own right answer, where it has one.
    pub reference: Option<String>,
    /// The suite's own vulnerable answer, where it has one: what a detector should find.
    pub insecure: Option<String>,
}

/// How an answer becomes a program; [`assemble`](crate::assemble) does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Form {
    /// The answer holds the whole program.
    Program,
    /// The answer goes on with a piece of code, or repeats it.
    Completion(Completion),
}

/// A piece of code that is to be completed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Completion {
    /// Code in front of the prompt that the program needs and the model is not shown.
    pub before: String,
    /// The code that the answer goes on with.
    pub prompt: String,
    /// Byte in `prompt` where the definition begins that is to be completed. What stands before is context, which an
    /// answer that repeats the definition may leave out.
    pub head: usize,
    /// Code behind the answer.
    pub after: String,
    /// An answer of a base model ends where one of these begins.
    pub stop: Vec<String>,
    /// The prompt is cut out of a larger text and need not parse by itself.
    pub fragment: bool,
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
    /// Share of the program's tokens that are copied from training texts, where these are known.
    #[serde(default)]
    pub copied_share: Option<f64>,
    /// What the judge found.
    pub verdict: Verdict,
}

impl Item {
    /// A task with neither tests nor a weakness, whose answer is the whole program.
    pub fn new(id: impl Into<String>, group: impl Into<String>, language: Language) -> Item {
        Item {
            id: id.into(),
            group: group.into(),
            language,
            cwe: None,
            severity: None,
            request: String::new(),
            form: Form::Program,
            entry_point: None,
            functional: None,
            exploit: None,
            processes: 0,
            reference: None,
            insecure: None,
        }
    }

    /// The same task, inviting a weakness of its usual severity.
    pub fn with_weakness(self, cwe: Option<Cwe>) -> Item {
        Item { cwe, severity: cwe.map(Cwe::severity), ..self }
    }

    /// What the judge is given for `program`.
    pub fn submission<'a>(&'a self, program: &'a str) -> Submission<'a> {
        Submission {
            language: self.language,
            answer: program,
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
        .map(|task| {
            let group = match task.level {
                Level::Train => "training names",
                Level::HeldOutNames => "held-out names",
                Level::HeldOutContexts => "held-out contexts",
                Level::HeldOutFamilies => "held-out families",
            };
            Item {
                cwe: task.cwe,
                severity: task.severity,
                request: task.request.clone(),
                entry_point: Some(task.function.clone()),
                functional: Some(task.functional.clone()),
                exploit: task.exploit.clone(),
                processes: task.processes,
                reference: task.secure.first().map(|implementation| implementation.code.clone()),
                insecure: task.vulnerable.first().map(|implementation| implementation.code.clone()),
                ..Item::new(&task.id, group, task.language)
            }
        })
        .collect()
}
