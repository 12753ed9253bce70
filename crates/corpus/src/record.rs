//! What comes in: one vulnerable function, and its fix where the data set has one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language};

/// One vulnerability as a data set describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VulnerabilityRecord {
    /// Unique within one import; made from the data set's name and the record's own id or place.
    pub id: String,
    /// Language of both sides.
    pub language: Language,
    /// Weaknesses the data set names; may be empty.
    #[serde(default)]
    pub cwe: Vec<Cwe>,
    /// `CVE-2020-1234`, where known.
    #[serde(default)]
    pub cve: Option<String>,
    /// The upstream project, e.g. `owner/name`.
    #[serde(default)]
    pub project: Option<String>,
    /// The fixing commit.
    #[serde(default)]
    pub commit: Option<String>,
    /// The day of the fixing commit, `YYYY-MM-DD` in UTC, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The licence of the code, where the data set states one.
    #[serde(default)]
    pub license: Option<String>,
    /// Path of the file the function stood in.
    #[serde(default)]
    pub file_name: Option<String>,
    /// Name of the function.
    #[serde(default)]
    pub function: Option<String>,
    /// The data set's prose about the flaw (CVE text, commit message). Never shown to a model as a prompt.
    #[serde(default)]
    pub description: Option<String>,
    /// Source of the vulnerable function.
    pub vulnerable: String,
    /// Source of the fixed function.
    #[serde(default)]
    pub secure: Option<String>,
    /// Functional tests that both sides should pass.
    #[serde(default)]
    pub tests: Option<Tests>,
    /// The split the data set itself puts the record in.
    #[serde(default)]
    pub split: Option<Split>,
    /// The lines that the record came from, without their code, where every field of them is to survive an export
    /// (PrimeVul): first the vulnerable function's, then the fix's. Empty for all other sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub original: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Where the record stands in its data set.
    pub source: SourceId,
}

/// Tests that say whether an answer still does its job; they never attack it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// Python source with `def test_NAME(answer): ...` functions; `answer` is the module under test.
    pub functional: String,
    /// How many processes the code under test may start; 0 means none.
    #[serde(default)]
    pub processes: u32,
}

/// A record's place in its data set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceId {
    /// Name of the data set, e.g. `sven`.
    pub dataset: String,
    /// The record's own id there, or its file and line.
    pub id: String,
}

/// Which part of the data a pair belongs to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Learnt from.
    #[default]
    Train,
    /// Watched while training.
    Validation,
    /// Looked at once, at the end.
    Test,
}
