//! What became of each unit of input, and the checks that hold for every source.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::source::ReadLimits;
use crate::{SourceId, VulnerabilityRecord, content_hash};

/// What a source gave. `read == records.len() + dropped.len()` always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The records, in the order of the input.
    pub records: Vec<VulnerabilityRecord>,
    /// What did not become a record, and why.
    pub dropped: Vec<Dropped>,
    /// What became a record only after it was mended, e.g. sides that stood in the wrong order.
    pub mended: Vec<Dropped>,
    /// Units of input: lines, or pairs of lines and lines without a partner where two lines make one record.
    pub read: usize,
}

impl Imported {
    /// How many were dropped, by reason.
    pub fn counts(&self) -> BTreeMap<DropReason, usize> {
        let mut counts = BTreeMap::new();
        for dropped in &self.dropped {
            *counts.entry(dropped.reason).or_insert(0) += 1;
        }
        counts
    }
}

/// A line that did not become a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Which record it would have been.
    pub source: SourceId,
    /// `file:line`, lines counted from 1; elements where the file is one JSON array, rows in Parquet and databases.
    pub place: String,
    /// Why, as a word to count by.
    pub reason: DropReason,
    /// Why, in words.
    pub detail: String,
}

/// Why a line did not become a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The JSON ends in the middle.
    Truncated,
    /// The line is not UTF-8.
    NotUtf8,
    /// The line, or code in it, holds a NUL character.
    NulByte,
    /// The line is not a JSON object.
    NotJson,
    /// A field that is needed is absent.
    MissingField,
    /// A field has another type than it should.
    WrongType,
    /// A field has the right type and an impossible value.
    InvalidValue,
    /// The language is not one that can be parsed.
    UnknownLanguage,
    /// A side holds no code.
    EmptyCode,
    /// Both sides are the same text.
    IdenticalSides,
    /// The sides stand in the wrong order.
    SwappedSides,
    /// A line that should be half of a pair has no other half.
    PartnerMissing,
    /// The data set says that the function is not vulnerable.
    NotVulnerable,
    /// The line or the code is longer than allowed.
    TooLong,
    /// The same code came before.
    Duplicate,
    /// A commit that was reverted later: no fix.
    RevertedFix,
    /// A commit that takes another back.
    RevertCommit,
    /// A merge whose own commits are looked at one by one.
    MergeCommit,
    /// A commit that was asked for and is not in the history.
    UnknownCommit,
    /// A test, not what it tests.
    TestCode,
    /// Code of others that the project carries along.
    VendoredCode,
    /// A function that only moved or got another name.
    OnlyMoved,
    /// A function in which only comments or white space changed.
    OnlyComments,
    /// A function that the fix takes out or puts in: there is no other side.
    OneSided,
}

impl DropReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 24] = [
        Self::Truncated,
        Self::NotUtf8,
        Self::NulByte,
        Self::NotJson,
        Self::MissingField,
        Self::WrongType,
        Self::InvalidValue,
        Self::UnknownLanguage,
        Self::EmptyCode,
        Self::IdenticalSides,
        Self::SwappedSides,
        Self::PartnerMissing,
        Self::NotVulnerable,
        Self::TooLong,
        Self::Duplicate,
        Self::RevertedFix,
        Self::RevertCommit,
        Self::MergeCommit,
        Self::UnknownCommit,
        Self::TestCode,
        Self::VendoredCode,
        Self::OnlyMoved,
        Self::OnlyComments,
        Self::OneSided,
    ];
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Truncated => "truncated",
            Self::NotUtf8 => "not_utf8",
            Self::NulByte => "nul_byte",
            Self::NotJson => "not_json",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::InvalidValue => "invalid_value",
            Self::UnknownLanguage => "unknown_language",
            Self::EmptyCode => "empty_code",
            Self::IdenticalSides => "identical_sides",
            Self::SwappedSides => "swapped_sides",
            Self::PartnerMissing => "partner_missing",
            Self::NotVulnerable => "not_vulnerable",
            Self::TooLong => "too_long",
            Self::Duplicate => "duplicate",
            Self::RevertedFix => "reverted_fix",
            Self::RevertCommit => "revert_commit",
            Self::MergeCommit => "merge_commit",
            Self::UnknownCommit => "unknown_commit",
            Self::TestCode => "test_code",
            Self::VendoredCode => "vendored_code",
            Self::OnlyMoved => "only_moved",
            Self::OnlyComments => "only_comments",
            Self::OneSided => "one_sided",
        })
    }
}

/// A reason with its explanation, before the line's place is known.
pub(crate) type Refusal = (DropReason, String);

/// Takes records and refusals, and makes the checks that hold for every source.
pub(crate) struct Collector<'a> {
    dataset: &'static str,
    limits: &'a ReadLimits,
    by_content: HashMap<String, String>,
    ids: HashSet<String>,
    pub(crate) imported: Imported,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(dataset: &'static str, limits: &'a ReadLimits) -> Self {
        Self {
            dataset,
            limits,
            by_content: HashMap::new(),
            ids: HashSet::new(),
            imported: Imported::default(),
        }
    }

    /// Counts one unit of input and files it under records or dropped. Says whether it became a record.
    pub(crate) fn add(
        &mut self,
        file: &str,
        line: usize,
        record: Result<VulnerabilityRecord, Refusal>,
    ) -> bool {
        self.add_at(format!("{file}:{line}"), record)
    }

    /// The same for what has a place other than a line.
    pub(crate) fn add_at(&mut self, place: String, record: Result<VulnerabilityRecord, Refusal>) -> bool {
        self.imported.read += 1;
        match record.and_then(|record| self.accept(record)) {
            Ok(record) => {
                self.imported.records.push(record);
                true
            }
            Err(refusal) => {
                let dropped = self.dropped(place, refusal);
                self.imported.dropped.push(dropped);
                false
            }
        }
    }

    /// Notes that the record just added had to be mended.
    pub(crate) fn mended(&mut self, file: &str, line: usize, refusal: Refusal) {
        let dropped = self.dropped(format!("{file}:{line}"), refusal);
        self.imported.mended.push(dropped);
    }

    fn dropped(&self, place: String, (reason, detail): Refusal) -> Dropped {
        Dropped {
            source: SourceId { dataset: self.dataset.into(), id: place.clone() },
            place,
            reason,
            detail,
        }
    }

    fn accept(&mut self, mut record: VulnerabilityRecord) -> Result<VulnerabilityRecord, Refusal> {
        for (side, code) in [("vulnerable", Some(&record.vulnerable)), ("secure", record.secure.as_ref())] {
            let Some(code) = code else { continue };
            if code.len() > self.limits.code_bytes {
                let detail = format!(
                    "the {side} side has {} bytes, {} are allowed",
                    code.len(),
                    self.limits.code_bytes
                );
                return Err((DropReason::TooLong, detail));
            }
            if code.trim().is_empty() {
                return Err((DropReason::EmptyCode, format!("the {side} side holds no code")));
            }
            if code.contains('\0') {
                return Err((DropReason::NulByte, format!("the {side} side holds a NUL character")));
            }
        }
        let secure = record.secure.as_deref().unwrap_or("");
        if record.vulnerable.trim_end() == secure.trim_end() {
            return Err((DropReason::IdenticalSides, "vulnerable and secure side are the same text".into()));
        }
        let hash = content_hash(record.language, &record.vulnerable, secure);
        if let Some(first) = self.by_content.get(&hash) {
            return Err((DropReason::Duplicate, format!("the same code as {first}")));
        }
        // Ids name files in the run folder and rows in reports, so two records must not share one.
        let mut id = record.id.clone();
        let mut copy = 2;
        while !self.ids.insert(id.clone()) {
            id = format!("{}-{copy}", record.id);
            copy += 1;
        }
        record.id = id;
        self.by_content.insert(hash, record.id.clone());
        Ok(record)
    }
}
