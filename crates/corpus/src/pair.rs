//! PrimeVul+: the repair pair, field by field, and its JSON Schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language, Span};

use crate::{SourceId, Split, Tests};

/// One line of PrimeVul+: a vulnerable function, a repair that was believed, and what a model may learn from both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairPair {
    /// Unique within a data set; the id of the vulnerability record it came from.
    pub id: String,
    /// Language of both sides: `python`, `c`, `cpp`, `java`, `javascript`, `go` or `php`.
    #[schemars(with = "String")]
    pub language: Language,
    /// Weaknesses, each spelled `CWE-<number>`; may be empty.
    #[schemars(with = "Vec<String>")]
    pub cwe: Vec<Cwe>,
    /// CVE id, where known.
    pub cve: Option<String>,
    /// Upstream project, where known.
    pub project: Option<String>,
    /// Fixing commit, where known.
    pub commit: Option<String>,
    /// Day of the fixing commit, `YYYY-MM-DD` in UTC, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Path of the file that the function stood in, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Licence of the code, where known.
    pub license: Option<String>,
    /// Source of the vulnerable function, as it came.
    pub vulnerable: String,
    /// Source of the repaired function.
    pub secure: String,
    /// Who repaired it, and in how many rounds.
    pub repair: Repair,
    /// How likely the repair is right, by the checks and votes, in (0, 1).
    pub confidence: f64,
    /// Every check that was made, in order.
    pub evidence: Vec<Evidence>,
    /// Labelled byte ranges of both sides, ordered by side and start.
    pub spans: Vec<LabelledSpan>,
    /// Requests that ask for the function without a word on security.
    pub prompts: Vec<Prompt>,
    /// Functional tests, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Tests>,
    /// Part of the data the pair belongs to.
    pub split: Split,
    /// Where the record stood in its data set.
    pub source: SourceId,
    /// `content_hash` of language and both sides: lower-case hexadecimal BLAKE3, 64 digits.
    pub hash: String,
}

/// Who made the repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// `upstream` for the data set's own fix, else the name of the teacher.
    pub by: String,
    /// Rounds of criticism the repair went through; 1 means accepted as proposed.
    pub rounds: u32,
}

/// One check that was made on a repair, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Name of the check, e.g. `same_signature`.
    pub check: String,
    /// Its outcome.
    pub verdict: Verdict,
    /// What was seen, in words.
    pub detail: String,
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The check speaks for the repair.
    Passed,
    /// The check speaks against the repair.
    Failed,
    /// The check could not be made or does not apply: no vote.
    Abstained,
}

/// One of the two texts of a pair. As a span's `kind` it says which pattern the range carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The vulnerable text, or a vulnerable pattern.
    Vulnerable,
    /// The repaired text, or a secure pattern.
    Secure,
}

/// A labelled byte range in one side of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledSpan {
    /// The text the range lies in.
    pub side: Side,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// What the range carries.
    pub kind: Side,
    /// The weakness it belongs to, where known.
    #[schemars(with = "Option<String>")]
    pub cwe: Option<Cwe>,
    /// Why the range is labelled, in words.
    pub reason: String,
    /// Who labelled it.
    pub by: SpanOrigin,
}

impl LabelledSpan {
    /// The byte range alone.
    pub fn span(&self) -> Span {
        Span::new(self.start, self.end)
    }
}

/// Who labelled a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanOrigin {
    /// The leaf-token diff of both sides.
    Diff,
    /// A teacher's quote, located in the text.
    Teacher,
    /// A static finding.
    Analyzer,
}

/// An implicit prompt: a request for the function that never mentions security.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The request.
    pub text: String,
    /// Name of the style, e.g. `docstring` or `completion_prefix`.
    pub style: String,
    /// Code the answer has to continue; common to both sides. Only for completion prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Names of the leak checks the prompt passed.
    pub checks: Vec<String>,
}

impl Prompt {
    /// The text a user would send: the request, then the beginning of the code where the style gives one.
    pub fn request(&self) -> String {
        match &self.prefix {
            Some(prefix) => format!("{}\n{}", self.text, prefix),
            None => self.text.clone(),
        }
    }
}

/// BLAKE3 over language and both sides, each preceded by its length so that no two pairs run together.
pub fn content_hash(language: Language, vulnerable: &str, secure: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [language.to_string().as_str(), vulnerable, secure] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The JSON Schema of one line of PrimeVul+ (draft 2020-12), made from the types above.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(RepairPair).to_value()
}
