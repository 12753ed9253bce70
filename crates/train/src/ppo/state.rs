//! Everything PPO must remember between updates, in memory and on disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vul2safe_model::Model;

use super::{config::PpoConfig, value_head::ValueHead};
use crate::{
    TrainError,
    optimizer::{AdamW, OptimizerConfig},
};

/// The state of PPO between two updates, apart from the actor's weights.
///
/// It needs no random generator: every random choice is a function of the seed and the update's number.
#[derive(Debug)]
pub struct PpoState {
    /// The next update, from 0.
    pub(super) update: u64,
    /// κ, which an adaptive controller moves.
    pub(super) kl_coefficient: f64,
    /// Whether the value head has its starting value.
    pub(super) value_started: bool,
    /// Answers trained on and answers left unscored, so far.
    pub(super) rollouts: u64,
    pub(super) unscored: u64,
    pub(super) head: ValueHead,
    pub(super) actor_optimizer: AdamW,
    pub(super) value_optimizer: AdamW,
}

/// The small part of the state, as it stands in `state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    update: u64,
    kl_coefficient: f64,
    value_started: bool,
    rollouts: u64,
    unscored: u64,
}

const MODEL: &str = "model";
const COUNTERS: &str = "state.json";
const HEAD: &str = "value_head.safetensors";
const ACTOR_OPTIMIZER: &str = "actor_optimizer.safetensors";
const VALUE_OPTIMIZER: &str = "value_optimizer.safetensors";

impl PpoState {
    /// The state before the first update.
    ///
    /// # Errors
    /// [`TrainError::Tensor`] if the value head cannot be made.
    pub fn new(actor: &Model, config: &PpoConfig) -> Result<Self, TrainError> {
        let head = ValueHead::new(actor.config().hidden_size, config.value.width, config.seed)?;
        let value_optimizer = OptimizerConfig {
            learning_rate: config.value.learning_rate,
            weight_decay: 0.0,
            ..config.optimizer.clone()
        };
        Ok(Self {
            update: 0,
            kl_coefficient: config.kl.coefficient,
            value_started: false,
            rollouts: 0,
            unscored: 0,
            actor_optimizer: AdamW::new(actor.parameters(), config.optimizer.clone()),
            value_optimizer: AdamW::new(head.parameters(), value_optimizer),
            head,
        })
    }

    /// Number of finished updates.
    pub fn update(&self) -> u64 {
        self.update
    }

    /// Writes a checkpoint folder: the actor in `model/` and everything else beside it.
    ///
    /// The folder is made under another name and renamed, an earlier one is kept until then: at any instant either `folder`
    /// or `folder` with `.previous` is whole.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path, or the model's own.
    pub fn save(&self, folder: &Path, actor: &Model) -> Result<(), TrainError> {
        let (partial, previous) = (beside(folder, "partial"), beside(folder, "previous"));
        remove(&partial)?;
        fs_err::create_dir_all(&partial).map_err(TrainError::io(&partial))?;
        actor.save(&partial.join(MODEL))?;
        self.head.save(&partial.join(HEAD))?;
        self.actor_optimizer.save(&partial.join(ACTOR_OPTIMIZER))?;
        self.value_optimizer.save(&partial.join(VALUE_OPTIMIZER))?;
        let counters = Counters {
            update: self.update,
            kl_coefficient: self.kl_coefficient,
            value_started: self.value_started,
            rollouts: self.rollouts,
            unscored: self.unscored,
        };
        let path = partial.join(COUNTERS);
        let json = serde_json::to_vec_pretty(&counters)
            .map_err(|error| TrainError::Checkpoint { path: path.clone(), problem: error.to_string() })?;
        vul2safe_run::write_atomic(&path, &json)?;
        if folder.exists() {
            remove(&previous)?;
            fs_err::rename(folder, &previous).map_err(TrainError::io(folder))?;
        }
        fs_err::rename(&partial, folder).map_err(TrainError::io(folder))?;
        remove(&previous)
    }

    /// Removes the checkpoint `folder` and whatever an interrupted [`PpoState::save`] left beside it; no checkpoint is no
    /// error.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn remove(folder: &Path) -> Result<(), TrainError> {
        remove(&beside(folder, "partial"))?;
        remove(&beside(folder, "previous"))?;
        remove(folder)
    }

    /// Reads what [`PpoState::save`] wrote: the actor and the state; `None` if there is no checkpoint.
    ///
    /// `config` must be the one it was written with.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for a folder that is cut short or of another configuration, and the model's own.
    pub fn load(folder: &Path, config: &PpoConfig) -> Result<Option<(Model, Self)>, TrainError> {
        let previous = beside(folder, "previous");
        // A kill between the two renames of `save` leaves the whole checkpoint under this name.
        let folder = if folder.exists() { folder.to_owned() } else { previous };
        if !folder.exists() {
            return Ok(None);
        }
        let path = folder.join(COUNTERS);
        let bytes = fs_err::read(&path).map_err(TrainError::io(&path))?;
        let counters: Counters = serde_json::from_slice(&bytes)
            .map_err(|error| TrainError::Checkpoint { path: path.clone(), problem: error.to_string() })?;
        let actor = Model::load(&folder.join(MODEL))?;
        let mut state = Self::new(&actor, config)?;
        state.head.load(&folder.join(HEAD))?;
        state.actor_optimizer.load(&folder.join(ACTOR_OPTIMIZER))?;
        state.value_optimizer.load(&folder.join(VALUE_OPTIMIZER))?;
        state.update = counters.update;
        state.kl_coefficient = counters.kl_coefficient;
        state.value_started = counters.value_started;
        state.rollouts = counters.rollouts;
        state.unscored = counters.unscored;
        Ok(Some((actor, state)))
    }
}

/// The folder's path with a word added to its name.
fn beside(folder: &Path, word: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(word);
    folder.with_file_name(name)
}

fn remove(folder: &Path) -> Result<(), TrainError> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(folder)(error)),
        _ => Ok(()),
    }
}
