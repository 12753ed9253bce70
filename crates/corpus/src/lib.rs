//! Vulnerability records in, PrimeVul+ out: readers, writers, de-duplication, splits.
//!
//! A [`VulnerabilityRecord`] is what a data set says: a vulnerable function and, mostly, its fix. A [`RepairPair`]
//! is one line of PrimeVul+: both sides, the labelled [`LabelledSpan`]s of their difference, the implicit prompts
//! that ask for the function, and the evidence for which the pair was believed.
//!
//! The crate refuses to know how a pair is judged (that is `repair`) and what a span is worth (that is `reward`).
//! It never runs code, and no line of input, however broken, makes it panic: each line ends as a record or as a
//! [`Dropped`] entry with a [`DropReason`] and its place.
//!
//! ```
//! use vul2safe_code::Language;
//! use vul2safe_corpus::{diff_spans, Side};
//!
//! let vulnerable = "def find(db, name):\n    return db.execute(\"SELECT * FROM t WHERE n = '%s'\" % name)\n";
//! let secure = "def find(db, name):\n    return db.execute(\"SELECT * FROM t WHERE n = ?\", (name,))\n";
//! let spans = diff_spans(Language::Python, vulnerable, secure).unwrap();
//! assert!(spans.iter().any(|span| span.side == Side::Vulnerable));
//! assert!(spans.iter().any(|span| span.side == Side::Secure));
//! ```

mod card;
mod check;
mod collect;
mod columns;
mod contamination;
mod cve_fixes;
mod cyber_sec_eval;
mod diverse_vul;
mod elements;
mod error;
mod fields;
mod hub;
mod license;
mod lines;
mod linux_vul;
mod mega_vul;
mod mine;
mod near;
mod pair;
mod parquet_file;
mod primevul;
mod record;
mod source;
mod spans;
mod splits;
mod store;
mod sven;
mod table;
mod views;

pub use card::{Card, CardFacts, Counts, View, bar_chart, counts, data_card, split_name};
pub use check::check_pair;
pub use collect::{DropReason, Dropped, Imported};
pub use contamination::{
    BenchmarkText, Contamination, Overlap, OverlapConfig, contamination, read_benchmark_texts,
};
pub use error::CorpusError;
pub use hub::write_hub;
pub use license::{UNKNOWN_LICENSE, license_allowed, license_of};
pub use mine::{MineConfig, mine};
pub use pair::{
    Evidence, LabelledSpan, Prompt, Repair, RepairPair, Side, SpanOrigin, Verdict, content_hash, json_schema,
};
pub use parquet_file::write_primevul_plus_parquet;
pub use primevul::{PrimeVulRow, primevul_lines};
pub use record::{SourceId, Split, Tests, VulnerabilityRecord};
pub use source::{ColumnMap, ReadLimits, Source, read};
pub use spans::diff_spans;
pub use splits::{SplitConfig, SplitSummary, assign_splits};
pub use store::{read_primevul_plus, write_primevul_plus};
pub use sven::{CharacterChange, SvenRow};
pub use views::{chat_rows, rl_rows, sft_rows};
