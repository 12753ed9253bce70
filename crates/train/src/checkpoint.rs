//! Checkpoint folders: replaced as a whole, so that at any instant one of them is whole; and the one of a training on given
//! texts.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use vul2safe_model::{Model, Precision};

use crate::{AdamW, TrainError, tensor_file};

/// Where a training keeps what it needs to go on after it was killed, and how often.
///
/// The folder holds the trained numbers (all weights, or the adapter's), the optimiser's moments, and the number of the next
/// step, which is at once the place in the data and in every random stream. It is made under another name and renamed, an
/// earlier one is kept until then: at any instant either the folder or the one with `.previous` after its name is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
    /// Write it after every so many optimiser steps, and after the last one; 0: only after the last one.
    pub every: u64,
}

impl Checkpoint {
    /// A checkpoint in this folder after every `every` steps.
    pub fn new(folder: impl Into<PathBuf>, every: u64) -> Self {
        Self { folder: folder.into(), every }
    }

    /// Removes the folder and whatever an interrupted write left beside it; none is no error. For the end of the stage, once
    /// its result is saved.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn remove(&self) -> Result<(), TrainError> {
        remove(&self.folder)
    }

    /// Whether a step ends with a write, given the number of steps done and of steps planned.
    pub(crate) fn is_due(&self, done: u64, planned: u64) -> bool {
        done == planned || (self.every > 0 && done.is_multiple_of(self.every))
    }

    pub(crate) fn save(
        &self,
        progress: &Progress,
        model: &Model,
        optimizer: &AdamW,
    ) -> Result<(), TrainError> {
        replace(&self.folder, |folder| {
            tensor_file::write_parameters(&folder.join(PARAMETERS), &model.trainable())?;
            optimizer.save(&folder.join(OPTIMIZER))?;
            write_json(&folder.join(PROGRESS), progress)
        })
    }

    /// Puts model and optimiser where the checkpoint left them, if there is one that was made for the same `identity`.
    pub(crate) fn load(
        &self,
        identity: &Identity,
        model: &Model,
        optimizer: &mut AdamW,
    ) -> Result<Option<Progress>, TrainError> {
        let Some(folder) = find(&self.folder) else { return Ok(None) };
        let path = folder.join(PROGRESS);
        let progress: Progress = read_json(&path)?;
        if let Some(difference) = identity.difference(&progress.identity) {
            return Err(TrainError::OtherCheckpoint { path: folder, difference });
        }
        optimizer.load(&folder.join(OPTIMIZER))?;
        if optimizer.steps() != progress.step {
            let problem =
                format!("its optimiser stands at step {}, not {}", optimizer.steps(), progress.step);
            return Err(TrainError::Checkpoint { path, problem });
        }
        tensor_file::read_parameters(&folder.join(PARAMETERS), &model.trainable())?;
        Ok(Some(progress))
    }
}

const PROGRESS: &str = "state.json";
const PARAMETERS: &str = "parameters.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// How far a training came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// The next step.
    pub step: u64,
    /// Sequences and tokens read.
    pub sequences: u64,
    pub tokens: u64,
    pub first_loss: f64,
    pub last_loss: f64,
    pub seconds: f64,
    pub identity: Identity,
}

impl Progress {
    /// Before the first step.
    pub(crate) fn new(identity: Identity) -> Self {
        Self { step: 0, sequences: 0, tokens: 0, first_loss: 0.0, last_loss: 0.0, seconds: 0.0, identity }
    }
}

/// What a training is: with the same of it, a step's number says everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// `pretrain` or `sft`.
    pub stage: String,
    /// The configuration as Rust prints it, a field a line.
    pub settings: Vec<String>,
    /// FNV-1a over the sequences and their weights.
    pub data: String,
    /// Fingerprint of the frozen base, where an adapter is trained.
    pub base: Option<String>,
}

impl Identity {
    pub(crate) fn new(
        stage: &str,
        settings: Vec<String>,
        data: u64,
        model: &Model,
    ) -> Result<Self, TrainError> {
        let base = match model.lora() {
            None => None,
            Some(_) => Some(format!("{:016x}", model.fingerprint()?)),
        };
        Ok(Self { stage: stage.to_owned(), settings, data: format!("{data:016x}"), base })
    }

    /// The first thing in which a checkpoint's identity is another one.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.stage != other.stage {
            return Some(format!("it belongs to the stage {}, this is {}", other.stage, self.stage));
        }
        if let Some(difference) = first_difference(&self.settings, &other.settings) {
            return Some(difference);
        }
        if self.data != other.data {
            return Some("it was made on other data".to_owned());
        }
        (self.base != other.base)
            .then(|| "it was made with another base, or with an adapter where there is none now".to_owned())
    }
}

/// A configuration as lines, for the comparison of two.
pub(crate) fn settings(config: &impl Debug) -> Vec<String> {
    format!("{config:#?}").lines().map(|line| line.trim().trim_end_matches(',').to_owned()).collect()
}

/// What of a model changes the numbers of a training beside its weights: its adapter, and the engine that computes it. The
/// processor's is not named, so that its checkpoints look as they did before there was another.
pub(crate) fn settings_of(model: &Model) -> Vec<String> {
    let mut lines: Vec<String> = model.lora().into_iter().flat_map(settings).collect();
    let placement = model.placement();
    if !placement.device.is_cpu() {
        let precision = match placement.precision {
            Precision::Float32 => "float32",
            Precision::Bfloat16 => "bfloat16",
        };
        lines.push(format!("computed: on a GPU in {precision}"));
    }
    lines
}

/// The first setting of a checkpoint (`theirs`) that is another now (`ours`).
pub(crate) fn first_difference(ours: &[String], theirs: &[String]) -> Option<String> {
    if let Some((ours, theirs)) = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs) {
        return Some(format!("it was made with `{theirs}`, this is `{ours}`"));
    }
    let longer = if ours.len() > theirs.len() { ours } else { theirs };
    let line = longer.get(ours.len().min(theirs.len()))?;
    Some(format!("it was made with other settings: one of both alone has `{line}`"))
}

/// Has `fill` make a folder under another name, then puts it in the place of `folder`.
pub(crate) fn replace(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let (partial, previous) = (beside(folder, "partial"), beside(folder, "previous"));
    remove_one(&partial)?;
    fs_err::create_dir_all(&partial).map_err(TrainError::io(&partial))?;
    fill(&partial)?;
    if folder.exists() {
        remove_one(&previous)?;
        fs_err::rename(folder, &previous).map_err(TrainError::io(folder))?;
    }
    fs_err::rename(&partial, folder).map_err(TrainError::io(folder))?;
    remove_one(&previous)
}

/// Where the last whole checkpoint lies, if there is one.
pub(crate) fn find(folder: &Path) -> Option<PathBuf> {
    // A kill between the two renames of `replace` leaves the whole checkpoint under the other name.
    [folder.to_owned(), beside(folder, "previous")].into_iter().find(|folder| folder.exists())
}

/// Removes a checkpoint and whatever an interrupted write left beside it.
pub(crate) fn remove(folder: &Path) -> Result<(), TrainError> {
    remove_one(&beside(folder, "partial"))?;
    remove_one(&beside(folder, "previous"))?;
    remove_one(folder)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|error| TrainError::Checkpoint { path: path.to_owned(), problem: error.to_string() })?;
    Ok(vul2safe_run::write_atomic(path, &json)?)
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, TrainError> {
    let bytes = fs_err::read(path).map_err(TrainError::io(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| TrainError::Checkpoint { path: path.to_owned(), problem: error.to_string() })
}

/// The folder's path with a word added to its name.
fn beside(folder: &Path, word: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(word);
    folder.with_file_name(name)
}

fn remove_one(folder: &Path) -> Result<(), TrainError> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(folder)(error)),
        _ => Ok(()),
    }
}
