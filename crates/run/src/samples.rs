//! Answers of a model with the reward of each token: `samples/*.jsonl`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::number::{nullable_f32, nullable_f64};
use crate::{RunError, RunFolder, lines, write_atomic};

/// One answer; one line of `samples/<name>.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The model that answered, such as `sft` or `ppo-token`.
    pub arm: String,
    /// The task's or record's id.
    pub task: String,
    /// What the model was asked.
    pub prompt: String,
    /// What it answered.
    pub answer: String,
    /// The answer's tokens, in order.
    pub tokens: Vec<SampleToken>,
    /// Whether the functional tests passed; `None` if there are none or they could not be run.
    pub functional: Option<bool>,
    /// Whether the answer withstood the exploit tests; `None` if there are none or they could not be run.
    pub secure: Option<bool>,
    /// Where it comes from or why it has no verdict, in a word or a sentence, such as `held out`.
    pub status: String,
    /// Sum of the token rewards; NaN (`null` in the file) for an answer that could not be scored.
    #[serde(with = "nullable_f64")]
    pub total_reward: f64,
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleToken {
    /// Its id in the model's vocabulary.
    pub id: u32,
    /// First byte in the answer. A token can begin or end inside a character.
    pub start: usize,
    /// The byte after its last; equal to `start` for a token without text.
    pub end: usize,
    /// Its reward; NaN (`null` in the file) for an answer that could not be scored.
    #[serde(with = "nullable_f32")]
    pub reward: f32,
    /// Why it has this reward, one sentence for each piece of evidence.
    pub reasons: Vec<String>,
}

/// Writes `samples/<name>.jsonl`, in place of an earlier one.
///
/// # Errors
/// [`RunError::BadName`] if `name` is not a plain file name, [`RunError::ReadOnly`], [`RunError::NotJson`] for
/// token spans that [`read_samples`] would refuse, [`RunError::Io`].
pub fn write_samples(run: &RunFolder, name: &str, samples: &[Sample]) -> Result<(), RunError> {
    run.writable()?;
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        let why = "it must be a plain file name without a dot at its start";
        return Err(RunError::BadName { what: "samples file", name: name.to_owned(), why });
    }
    let path = run.file("samples").join(format!("{name}.jsonl"));
    let mut bytes = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        let not_json = |detail: String| RunError::NotJson { path: path.clone(), detail };
        check_spans(sample).map_err(|detail| not_json(format!("sample {}: {detail}", index + 1)))?;
        serde_json::to_writer(&mut bytes, sample).map_err(|error| not_json(error.to_string()))?;
        bytes.push(b'\n');
    }
    write_atomic(&path, &bytes)
}

/// Reads a file that [`write_samples`] wrote. The spans of each sample are in order, do not overlap and lie in
/// its answer.
///
/// # Errors
/// [`RunError::Broken`] with the line, [`RunError::Io`] (also for a missing file).
pub fn read_samples(path: &Path) -> Result<Vec<Sample>, RunError> {
    // The file is written whole or not at all, so that it must exist and has no torn line to forgive.
    std::fs::metadata(path).map_err(RunError::io(path))?;
    let lines = lines::read::<Sample>(path)?;
    if lines.tail == lines::Tail::Torn {
        let last = lines.values.last().map_or(0, |(number, _)| *number);
        return Err(RunError::broken(path, last + 1, "the line is cut short"));
    }
    let mut samples = Vec::with_capacity(lines.values.len());
    for (number, sample) in lines.values {
        check_spans(&sample).map_err(|detail| RunError::broken(path, number, detail))?;
        samples.push(sample);
    }
    Ok(samples)
}

fn check_spans(sample: &Sample) -> Result<(), String> {
    let mut reached = 0;
    for (index, token) in sample.tokens.iter().enumerate() {
        if token.start < reached || token.end < token.start || token.end > sample.answer.len() {
            return Err(format!(
                "token {index} spans bytes {}..{}, after {reached} and in an answer of {} bytes",
                token.start,
                token.end,
                sample.answer.len()
            ));
        }
        reached = token.end;
    }
    Ok(())
}
