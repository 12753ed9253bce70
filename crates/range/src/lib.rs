//! Our own tasks with functional and exploit tests, their generator and held-out levels.
//!
//! A *family* is one kind of function that people ask for, in Python: look up rows, read a file of a folder, make a
//! token. Each has a request in several wordings, several secure and several vulnerable ways to write it, functional
//! tests that both sides pass, and exploit tests that attack the answer for real. Names and contexts vary by seed;
//! some are held out. Harmless families have nothing to attack and measure retained quality.
//!
//! The crate refuses to run anything: judging is the caller's, see [`check()`]. Exploit tests are the oracle of an
//! evaluation and go into no vulnerability record; spans and prompts of records are made elsewhere.
//!
//! What is held out: [`Level::HeldOutNames`] tasks are named by reserved words only, which no vulnerability record
//! holds; the base corpus has each reserved word, but never both of a function name's words. The functions of
//! [`Level::HeldOutContexts`] tasks have effects of which no vulnerability record tells, and names of which neither
//! the records nor the base corpus has one.
//!
//! ```
//! use vul2safe_range::{Level, base_corpus, tasks, vulnerability_records};
//!
//! let exam = tasks(Level::HeldOutNames, 2, 7);
//! assert!(exam.iter().all(|task| task.request.contains(&task.function)));
//! let records = vulnerability_records(3, 7);
//! assert!(records.iter().all(|record| record.secure.as_ref() != Some(&record.vulnerable)));
//! assert_eq!(base_corpus(10, 0.5, 7).len(), 10);
//! ```

mod check;
mod families;
mod family;
mod generate;
mod names;
mod naming;
mod wording;

use std::fmt;

use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Severity};

pub use check::{Problem, check};
pub use generate::{base_corpus, tasks, vulnerability_records};

/// One way to answer a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Implementation {
    /// The variants it is made of, e.g. `bound + html f-string`.
    pub label: String,
    /// A complete module.
    pub code: String,
}

/// A request with all that is needed to judge an answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// `family/level/seed-number`.
    pub id: String,
    /// Name of the family.
    pub family: String,
    /// The weakness the request invites, the gravest where there are two; none if harmless.
    pub cwe: Option<Cwe>,
    /// How grave it is; none if harmless.
    pub severity: Option<Severity>,
    /// Which names and contexts it has.
    pub level: Level,
    /// The request, in the exam's wording; it never mentions security.
    pub request: String,
    /// Name of the function asked for.
    pub function: String,
    /// Python source of functional tests, `def test_NAME(answer): ...`.
    pub functional: String,
    /// Python source of exploit tests: an `AssertionError` says that the attack worked. None if harmless.
    pub exploit: Option<String>,
    /// How many processes an answer may start.
    pub processes: u32,
    /// Right answers that withstand the exploit tests.
    pub secure: Vec<Implementation>,
    /// Right answers that do not; empty if harmless.
    pub vulnerable: Vec<Implementation>,
}

/// How far a task is from what vulnerability records show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Words and contexts of the records.
    Train,
    /// Reserved words, contexts of the records.
    HeldOutNames,
    /// Words of the records, other contexts: another clause, another tag, another effect.
    HeldOutContexts,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Level::Train => "train",
            Level::HeldOutNames => "held_out_names",
            Level::HeldOutContexts => "held_out_contexts",
        })
    }
}

/// What a table of the families says of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyInfo {
    /// Name, as in [`Task::family`].
    pub name: &'static str,
    /// The weakness it invites, the gravest where there are two; none if harmless.
    pub cwe: Option<Cwe>,
    /// How grave it is; none if harmless.
    pub severity: Option<Severity>,
    /// Independent places where an answer can go wrong.
    pub sites: usize,
    /// Nothing to attack: measures retained quality.
    pub harmless: bool,
    /// What an answer does, in a line.
    pub summary: &'static str,
}

/// A request and an answer for the base model to learn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The request.
    pub request: String,
    /// A complete module.
    pub code: String,
}

/// All families, in the order in which tasks come.
pub fn families() -> Vec<FamilyInfo> {
    families::FAMILIES
        .iter()
        .map(|family| FamilyInfo {
            name: family.name,
            cwe: family.cwe.map(Cwe),
            severity: (!family.harmless()).then_some(family.severity),
            sites: if family.harmless() { 0 } else { family.sites.len() },
            harmless: family.harmless(),
            summary: family.summary,
        })
        .collect()
}

#[cfg(test)]
mod tests;
