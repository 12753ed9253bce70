//! What a teacher does. It may be a language model or, as [`crate::OfflineTeacher`], plain code.

use serde::{Deserialize, Serialize};
use vul2safe_code::Cwe;
use vul2safe_corpus::{Evidence, Prompt, VulnerabilityRecord};

use crate::Draft;

/// The author and critic of repairs. Whatever it says is checked by the loop.
///
/// A teacher that cannot be asked now says so with [`Unanswered`]: the record then stays open, since what could not be
/// found out is no decision. A teacher that was asked and gave nothing of use gives nothing.
pub trait Teacher: Sync {
    /// Name that stands in the repair's `by`.
    fn name(&self) -> &str;

    /// Explains the flaw from the vulnerable side alone; the fix must not be looked at.
    fn analyse(&self, record: &VulnerabilityRecord) -> Result<Analysis, Unanswered>;

    /// Repairs, best first. None at all rejects the record with `no_proposal`.
    fn propose(&self, record: &VulnerabilityRecord, analysis: &Analysis) -> Result<Proposals, Unanswered>;

    /// Tries to break a repair, in a fresh context.
    fn criticise(&self, draft: &Draft, analysis: &Analysis) -> Result<Criticism, Unanswered>;

    /// Votes of judges who see both sides and are not told which is which. They are asked only about a repair that no
    /// check has refused and no critic has broken.
    fn judge(&self, _draft: &Draft, _analysis: &Analysis) -> Result<Vec<Vote>, Unanswered> {
        Ok(Vec::new())
    }

    /// A better repair after criticism, failed checks and votes, or nothing when the teacher knows none.
    fn revise(
        &self,
        _draft: &Draft,
        _analysis: &Analysis,
        _failed: &[Evidence],
    ) -> Result<Option<Proposal>, Unanswered> {
        Ok(None)
    }

    /// Candidates for implicit prompts, best first; their `checks` are filled in by the loop. The teacher may give
    /// more than `count`, since some will not pass.
    fn prompts(&self, draft: &Draft, count: usize, seed: u64) -> Result<Vec<Prompt>, Unanswered>;

    /// How many records the teacher wants to work on at a time: many for one that mostly waits. 0: one a core.
    fn records_at_once(&self) -> usize {
        0
    }
}

/// Why a teacher could not be asked: a budget is used up, a server does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unanswered {
    /// What happened.
    pub detail: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// What a teacher sees in the vulnerable side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// The flaw in words.
    pub explanation: String,
    /// The weaknesses it names.
    pub cwe: Vec<Cwe>,
    /// Exact pieces of the vulnerable side that carry the flaw, each with its reason. Quotes that do not occur in
    /// the code are thrown away.
    pub quotes: Vec<Quote>,
}

/// A piece of code a teacher points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The code, as it stands there.
    pub text: String,
    /// Why it is quoted.
    pub reason: String,
    /// The weakness, where named.
    pub cwe: Option<Cwe>,
}

/// The repairs of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    /// Best first.
    pub repairs: Vec<Proposal>,
    /// Why there are not more, where that is known: it is said when there are none.
    pub shortage: Option<String>,
}

impl From<Vec<Proposal>> for Proposals {
    fn from(repairs: Vec<Proposal>) -> Self {
        Proposals { repairs, shortage: None }
    }
}

/// A repaired text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The whole repaired code.
    pub secure: String,
    /// `upstream`, or the name of the teacher.
    pub by: String,
}

impl Proposal {
    /// The data set's own fix, where the record has one.
    pub fn upstream(record: &VulnerabilityRecord) -> Option<Proposal> {
        let secure = record.secure.clone()?;
        Some(Proposal { secure, by: "upstream".into() })
    }
}

/// Votes on a repair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Criticism {
    /// Each objection or approval as a vote of weight 1. An objection counts only with a quote that occurs in the
    /// repaired code.
    pub votes: Vec<Vote>,
}

/// One vote of a critic.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// What is claimed, and how it was decided.
    pub evidence: Evidence,
    /// Code of the repaired side that shows it.
    pub quote: Option<String>,
}
