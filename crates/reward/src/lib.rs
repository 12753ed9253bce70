//! Evidence in an answer becomes one reward a token, with reasons.
//!
//! A repair pair says which code is secure and which is vulnerable. [`Patterns::of_pair`] turns its labelled
//! spans into leaf sequences, [`find_evidence`] looks for them in a generated answer (white space and comments
//! do not matter, local names may be renamed, dead code and strings do not count), and [`token_rewards`] places
//! `r_t = g·Σ α w s − Σ β w s + 1[t = T]·(R − ρ f)` on the answer's tokens, each with a sentence that says why.
//!
//! The crate is pure: no file, clock, process, randomness or global state, and the same input gives the same
//! bits. It refuses to know tensors, advantages and the KL term (that is `train`), how findings are made (that
//! is `analyze`) and how tests are run (that is `judge`): their results are passed in.
//!
//! ```
//! use vul2safe_code::Language;
//! use vul2safe_corpus::{RepairPair, diff_spans};
//! use vul2safe_reward::{Outcome, Patterns, RewardConfig, Score, score_answer};
//!
//! let vulnerable = "def find(db, name):\n    return db.execute(f\"SELECT * FROM t WHERE n = '{name}'\")\n";
//! let secure = "def find(db, name):\n    return db.execute(\"SELECT * FROM t WHERE n = ?\", (name,))\n";
//! let spans = diff_spans(Language::Python, vulnerable, secure).unwrap();
//! let pair: RepairPair = serde_json::from_value(serde_json::json!({
//!     "id": "example/1", "language": "python", "cwe": ["CWE-89"], "cve": null, "project": null,
//!     "commit": null, "license": null, "vulnerable": vulnerable, "secure": secure,
//!     "repair": {"by": "upstream", "rounds": 1}, "confidence": 0.9, "evidence": [], "spans": spans,
//!     "prompts": [], "split": "train", "source": {"dataset": "example", "id": "1"}, "hash": "0"
//! })).unwrap();
//! let patterns = Patterns::of_pair(&pair).unwrap();
//!
//! // Another name, another quote: the same fix.
//! let answer = "def find(connection, name):\n    return connection.execute('SELECT * FROM t WHERE n = ?', (name,))\n";
//! let tokens: Vec<(usize, usize)> = (0..answer.len()).map(|byte| (byte, byte + 1)).collect();
//! let config = RewardConfig::default();
//! let score = score_answer(answer, Language::Python, &tokens, &patterns, &[], Outcome::unjudged(), &config);
//! let Score::Scored(scored) = score else { panic!("unscored") };
//! assert!((scored.total - 1.0).abs() < 1e-5);
//! ```

mod cheats;
mod config;
mod control;
mod dead;
mod departures;
mod error;
mod evidence;
mod find;
mod index;
mod inline;
mod intent;
mod pattern;
mod patterns;
mod score;
mod sequence;
mod token_reward;

pub use cheats::Cheat;
pub use config::{FailurePlacement, NEGATIVE_CAP, Normalisation, Placement, RewardConfig};
pub use control::{Control, apply_control};
pub use error::RewardError;
pub use evidence::{Evidence, Finding, Origin, Sign};
pub use find::{RELATED_WEIGHT, find_evidence};
pub use intent::intent_kept;
pub use patterns::Patterns;
pub use score::{score_answer, score_parsed};
pub use token_reward::{Answer, Outcome, Score, Scored, share_with_evidence, token_rewards};
