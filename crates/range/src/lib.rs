//! Our own tasks with functional and exploit tests, their generator and held-out levels.
//!
//! A *family* is one kind of function that people ask for, in Python or C: look up rows, read a file of a folder, make a
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
//! the records nor the base corpus has one. [`Level::HeldOutFamilies`] tasks are of families that have no record at all: the
//! base corpus has them, and what their secure answers are made of is in no record of another family.
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
mod copied;
mod export;
mod families;
mod family;
mod generate;
mod names;
mod naming;
mod selection;
mod wording;

use std::fmt;

use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language, Severity, Span};
use vul2safe_corpus::VulnerabilityRecord;

pub use check::{Problem, Trial, check, trials};
pub use copied::{CopyIndex, CopyShare, WINDOW};
pub use export::{ExportedTask, Implementations};
pub use generate::{base_corpus, tasks, vulnerability_records};
pub use selection::{Selection, UnknownFamily};

/// One way to answer a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Implementation {
    /// The variants it is made of, e.g. `bound + html f-string`.
    pub label: String,
    /// Names of the sites where it is vulnerable; none if it is secure.
    pub flawed: Vec<String>,
    /// A complete module or C file.
    pub code: String,
}

/// An answer of which it is known where each of its places is and whether it is flawed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitedAnswer {
    /// A complete module or C file.
    pub code: String,
    /// Its places, in the family's order.
    pub places: Vec<SitedPlace>,
}

/// A vulnerability record of which everything is known.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRecord {
    /// The record, as it is imported.
    pub record: VulnerabilityRecord,
    /// Its places with what attacks them; no part of the record.
    pub sites: Vec<TaskSite>,
    /// Answers that its request could get.
    pub answers: Vec<SitedAnswer>,
}

/// One place of a [`SitedAnswer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitedPlace {
    /// Name, as in [`Implementation::flawed`].
    pub name: String,
    /// What can go wrong here.
    pub cwe: Option<Cwe>,
    /// Whether it did. That exactly the tests of flawed places notice is what [`check()`] shows of every variant.
    pub flawed: bool,
    /// Its lines, and the imports that it alone asks for.
    pub spans: Vec<Span>,
}

/// An independent place where an answer to a task can go wrong, with the tests that attack this place and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSite {
    /// Name, as in [`Implementation::flawed`].
    pub name: String,
    /// What can go wrong here.
    pub cwe: Cwe,
    /// A part of [`Task::exploit`] that runs on its own.
    pub exploit: String,
}

/// A request with all that is needed to judge an answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// `family/level/seed-number`.
    pub id: String,
    /// Name of the family.
    pub family: String,
    /// Of the answer; tests are Python for every language.
    pub language: Language,
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
    /// The places that the exploit tests attack; none if harmless.
    pub sites: Vec<TaskSite>,
    /// How many processes an answer may start.
    pub processes: u32,
    /// Right answers that withstand the exploit tests; every secure variant of every site occurs.
    pub secure: Vec<Implementation>,
    /// Right answers that do not: for every combination of flawed sites, every variant of every site. Empty if harmless.
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
    /// Families of which there is no record; reserved words.
    HeldOutFamilies,
}

impl Level {
    /// Every level, from the nearest to the records to the farthest.
    pub const ALL: [Level; 4] =
        [Level::Train, Level::HeldOutNames, Level::HeldOutContexts, Level::HeldOutFamilies];
    /// The levels of an exam.
    pub const HELD_OUT: [Level; 3] = [Level::HeldOutNames, Level::HeldOutContexts, Level::HeldOutFamilies];

    /// The word of the serialised form.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Train => "train",
            Level::HeldOutNames => "held_out_names",
            Level::HeldOutContexts => "held_out_contexts",
            Level::HeldOutFamilies => "held_out_families",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What a table of the families says of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyInfo {
    /// Name, as in [`Task::family`].
    pub name: &'static str,
    /// Of the answers.
    pub language: Language,
    /// The weakness it invites, the gravest where there are two; none if harmless.
    pub cwe: Option<Cwe>,
    /// How grave it is; none if harmless.
    pub severity: Option<Severity>,
    /// Independent places where an answer can go wrong; empty if harmless.
    pub sites: Vec<SiteInfo>,
    /// Nothing to attack: measures retained quality.
    pub harmless: bool,
    /// All of its tasks are of [`Level::HeldOutFamilies`]; otherwise none is.
    pub held_out: bool,
    /// What an answer does, in a line.
    pub summary: &'static str,
}

/// What a table of the families says of one of their sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteInfo {
    /// Name, as in [`TaskSite::name`].
    pub name: &'static str,
    /// What can go wrong here.
    pub cwe: Cwe,
    /// How many secure ways to write it there are.
    pub secure: usize,
    /// How many vulnerable ways to write it there are.
    pub vulnerable: usize,
}

/// A request and an answer for the base model to learn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The request.
    pub request: String,
    /// Of the code.
    pub language: Language,
    /// A complete module or C file, or a few lines.
    pub code: String,
}

/// All families, in the order in which tasks come.
pub fn families() -> Vec<FamilyInfo> {
    families::FAMILIES
        .iter()
        .map(|family| FamilyInfo {
            name: family.name,
            language: family.language,
            cwe: family.cwe.map(Cwe),
            severity: (!family.harmless()).then_some(family.severity),
            sites: family
                .sites
                .iter()
                .filter_map(|site| {
                    Some(SiteInfo {
                        name: site.slot,
                        cwe: Cwe(site.cwe?),
                        secure: site.secure.len(),
                        vulnerable: site.vulnerable.len(),
                    })
                })
                .collect(),
            harmless: family.harmless(),
            held_out: family.is_held_out(),
            summary: family.summary,
        })
        .collect()
}

#[cfg(test)]
mod tests;
