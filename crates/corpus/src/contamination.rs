//! Decontamination: which pairs hold the text of a benchmark.
//!
//! A benchmark's text counts as held when a share of its runs of `ngram` words occurs in one text of a pair (a side, or
//! a prompt). Words are runs of letters, digits and underscores; every other mark is a word of its own.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::elements::Items;
use crate::fields::{object, optional};
use crate::{CorpusError, ReadLimits, RepairPair};

/// Texts with fewer words say nothing: `return a + b` is everybody's.
const FEWEST_WORDS: usize = 8;

/// When a text counts as held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverlapConfig {
    /// Words of a run; a shorter text is one run.
    pub ngram: usize,
    /// Share of a benchmark text's distinct runs, 0 to 1.
    pub share: f64,
}

impl Default for OverlapConfig {
    /// Runs of 13 words, as GPT-3's data was decontaminated (Brown et al. 2020, appendix C); a quarter of a text.
    fn default() -> Self {
        Self { ngram: 13, share: 0.25 }
    }
}

/// A prompt or a solution of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchmarkText {
    /// Names it in messages.
    pub id: String,
    /// The text.
    pub text: String,
}

/// Reads the texts of a benchmark: every string in the objects of a JSON Lines file or of one JSON array, named
/// `<id>#<field>`, where the id is the object's first field that looks like one, else its place.
///
/// # Errors
/// A missing file, I/O errors, and the first value that is no JSON object: a benchmark that is half read would leave
/// its other half in the data.
pub fn read_benchmark_texts(path: &Path) -> Result<Vec<BenchmarkText>, CorpusError> {
    let mut texts = Vec::new();
    for line in Items::open(path, ReadLimits::default().line_bytes)? {
        let line = line.map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
        let object = object(&line).map_err(|(reason, detail)| CorpusError::BrokenFile {
            path: path.to_owned(),
            kind: "benchmark",
            message: format!("value {}: {reason}: {detail}", line.number),
        })?;
        let id = ["task_id", "id", "prompt_id", "name"].iter().find_map(|field| optional(object.get(*field)));
        let id = id.unwrap_or_else(|| line.number.to_string());
        collect_texts(&id, &Value::Object(object), &mut texts);
    }
    Ok(texts)
}

fn collect_texts(id: &str, value: &Value, texts: &mut Vec<BenchmarkText>) {
    match value {
        Value::String(text) => texts.push(BenchmarkText { id: id.to_owned(), text: text.clone() }),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(id, item, texts)),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect_texts(&format!("{id}#{name}"), value, texts));
        }
        _ => {}
    }
}

/// A pair that holds a benchmark's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// The pair.
    pub pair: String,
    /// What of it: `vulnerable`, `secure`, or a prompt's style.
    pub place: String,
    /// The benchmark's text.
    pub benchmark: String,
    /// Share of that text's runs, 0 to 1.
    pub share: f64,
}

/// What the comparison gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contamination {
    /// One entry for each pair that holds anything, with the text it holds most of; in the order of the pairs.
    pub overlaps: Vec<Overlap>,
    /// Benchmark texts that are too short to be looked for.
    pub too_short: Vec<String>,
}

/// Compares pairs with the texts of benchmarks.
pub fn contamination(pairs: &[RepairPair], texts: &[BenchmarkText], config: &OverlapConfig) -> Contamination {
    let index = Index::new(texts, config.ngram.max(1));
    let overlaps = pairs
        .par_iter()
        .filter_map(|pair| {
            let prompts = pair.prompts.iter().map(|prompt| (prompt.style.as_str(), prompt.request()));
            let sides = [("vulnerable", pair.vulnerable.clone()), ("secure", pair.secure.clone())];
            let held = sides.into_iter().chain(prompts).flat_map(|(place, text)| {
                index
                    .held(&text)
                    .into_iter()
                    .map(move |(benchmark, share)| (place.to_owned(), benchmark, share))
            });
            held.filter(|(_, _, share)| *share >= config.share)
                .max_by(|a, b| a.2.total_cmp(&b.2).then_with(|| b.1.cmp(&a.1)))
                .map(|(place, benchmark, share)| Overlap {
                    pair: pair.id.clone(),
                    place,
                    benchmark: texts[benchmark].id.clone(),
                    share,
                })
        })
        .collect();
    Contamination { overlaps, too_short: index.too_short }
}

struct Index {
    /// Words of a run → hash of the run → the texts that have it.
    runs: HashMap<usize, HashMap<blake3::Hash, Vec<usize>>>,
    /// Distinct runs of each text.
    sizes: Vec<usize>,
    too_short: Vec<String>,
}

impl Index {
    fn new(texts: &[BenchmarkText], ngram: usize) -> Self {
        let mut index = Self { runs: HashMap::new(), sizes: Vec::new(), too_short: Vec::new() };
        for (number, text) in texts.iter().enumerate() {
            let words = words(&text.text);
            let mut size = 0;
            if words.len() < FEWEST_WORDS {
                index.too_short.push(text.id.clone());
            } else {
                let length = ngram.min(words.len());
                let of_length = index.runs.entry(length).or_default();
                for run in runs(&words, length) {
                    size += 1;
                    of_length.entry(run).or_default().push(number);
                }
            }
            index.sizes.push(size);
        }
        index
    }

    /// The benchmark texts of which `text` holds anything, with the share.
    fn held(&self, text: &str) -> Vec<(usize, f64)> {
        let words = words(text);
        let mut hits: HashMap<usize, usize> = HashMap::new();
        for (length, known) in &self.runs {
            for run in runs(&words, *length) {
                for text in known.get(&run).into_iter().flatten() {
                    *hits.entry(*text).or_insert(0) += 1;
                }
            }
        }
        hits.into_iter().map(|(text, hits)| (text, hits as f64 / self.sizes[text] as f64)).collect()
    }
}

fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    for (index, character) in text.char_indices() {
        let part = character.is_alphanumeric() || character == '_';
        match (part, start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                words.push(&text[from..index]);
                start = None;
            }
            _ => {}
        }
        if !part && !character.is_whitespace() {
            words.push(&text[index..index + character.len_utf8()]);
        }
    }
    words.extend(start.map(|from| &text[from..]));
    words
}

/// The distinct runs of `length` words.
fn runs(words: &[&str], length: usize) -> HashSet<blake3::Hash> {
    words
        .windows(length)
        .map(|run| {
            let mut hasher = blake3::Hasher::new();
            for word in run {
                hasher.update(word.as_bytes());
                hasher.update(&[0]);
            }
            hasher.finalize()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_names_and_marks() {
        assert_eq!(
            words("def é_1(x):\n  return x+1"),
            ["def", "é_1", "(", "x", ")", ":", "return", "x", "+", "1"]
        );
        assert_eq!(words(""), Vec::<&str>::new());
    }

    #[test]
    fn the_share_is_of_the_benchmarks_text() {
        let text = |words: std::ops::Range<usize>| {
            words.map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ")
        };
        let texts = [
            BenchmarkText { id: "long".into(), text: text(0..32) },
            BenchmarkText { id: "short".into(), text: text(100..109) },
            BenchmarkText { id: "tiny".into(), text: text(0..3) },
        ];
        let index = Index::new(&texts, 13);
        assert_eq!(index.too_short, ["tiny"]);
        // Of the 20 runs of 13 words, 16 words hold four.
        assert_eq!(index.held(&text(0..16)), [(0, 0.2)]);
        assert_eq!(index.held(&format!("before {} after", text(100..109))), [(1, 1.0)]);
        assert_eq!(index.held(&text(100..108)), []);
    }
}
