//! Vul2Safe: analyse, repair, criticise, verify, and write implicit prompts.
//!
//! A [`Teacher`] explains a flaw, proposes repairs, criticises them and writes prompts; nothing it says is believed
//! by itself. The loop in [`repair`] makes the deterministic checks on every proposal, runs the functional tests
//! where there are any, turns all votes into a confidence, and keeps a pair only above a threshold. Every prompt
//! must pass the leak checks. Each record ends in exactly one [`Decision`] with its reason; one whose teacher could not
//! be asked stays open.
//!
//! A [`LanguageTeacher`] asks language models: one to analyse, repair and revise, one to criticise, one to judge.
//! The [`OfflineTeacher`] needs no network: the upstream fix is its proposal, the checks are its criticism, and its
//! prompts are made from the parsed function.
//!
//! The crate refuses to know how records are read or stored, and what a model makes of a prompt. It runs no code
//! but through `judge`.
//!
//! ```
//! use vul2safe_code::Language;
//! use vul2safe_corpus::{SourceId, VulnerabilityRecord};
//! use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};
//!
//! let record = VulnerabilityRecord {
//!     id: "example".into(),
//!     language: Language::Python,
//!     cwe: vec![],
//!     cve: None,
//!     project: None,
//!     commit: None,
//!     date: None,
//!     license: None,
//!     file_name: None,
//!     function: None,
//!     description: None,
//!     vulnerable: "def find(db, name):\n    \"\"\"Return the row of a customer.\"\"\"\n    return db.execute(\"SELECT * FROM customers WHERE name = '%s'\" % name).fetchone()\n".into(),
//!     secure: Some("def find(db, name):\n    \"\"\"Return the row of a customer.\"\"\"\n    return db.execute(\"SELECT * FROM customers WHERE name = ?\", (name,)).fetchone()\n".into()),
//!     tests: None,
//!     split: None,
//!     original: Vec::new(),
//!     source: SourceId { dataset: "example".into(), id: "1".into() },
//! };
//! let decisions = repair(&[record], &OfflineTeacher, None, &RepairConfig::default(), &|_| {});
//! let Decision::Accepted(pair) = &decisions[0] else { panic!("{decisions:?}") };
//! assert!(pair.confidence > 0.8 && !pair.prompts.is_empty());
//! ```

mod checks;
mod confidence;
mod config;
mod decision;
mod desk;
mod draft;
mod facts;
mod language_teacher;
mod leaks;
mod offline;
mod parallel;
mod quotes;
mod roles;
mod teacher;
mod verify;
mod vocabulary;
mod wording;

pub use confidence::{Ballot, Weight, confidence};
pub use config::{RepairConfig, RepairError};
pub use decision::{Decision, OpenRecord, RejectReason, Rejection, implicit_prompts, repair};
pub use draft::Draft;
pub use language_teacher::{LanguageTeacher, LanguageTeacherConfig};
pub use leaks::{LeakCheck, leak_checks};
pub use offline::OfflineTeacher;
pub use roles::prompt_set;
pub use teacher::{Analysis, Criticism, Proposal, Proposals, Quote, Teacher, Unanswered, Vote};
