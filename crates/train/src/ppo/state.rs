//! Everything PPO must remember between updates, in memory and on disk.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vul2safe_model::{Adapter, Model, Placement};

use super::{config::PpoConfig, value_head::ValueHead};
use crate::{
    TrainError, checkpoint,
    optimizer::{AdamW, OptimizerConfig, gradients},
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
    /// What a checkpoint must agree in to be gone on with.
    settings: Vec<String>,
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
    /// The configuration, a field a line.
    settings: Vec<String>,
}

const MODEL: &str = "model";
const ADAPTER: &str = "adapter";
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
            actor_optimizer: AdamW::over(actor.trainable(), config.optimizer.clone()),
            value_optimizer: AdamW::new(head.parameters(), value_optimizer),
            head,
            settings: settings(actor, config),
        })
    }

    /// Number of finished updates.
    pub fn update(&self) -> u64 {
        self.update
    }

    /// Answers trained on so far.
    pub fn rollouts(&self) -> u64 {
        self.rollouts
    }

    /// Writes a checkpoint folder: the actor in `model/`, or, where it has an adapter, the adapter alone in `adapter/` (PEFT's
    /// layout); everything else beside it.
    ///
    /// The folder is made under another name and renamed, an earlier one is kept until then: at any instant either `folder`
    /// or `folder` with `.previous` is whole.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] for an actor or a value head with a number that is NaN or infinite (the earlier checkpoint
    /// stays), [`TrainError::Io`] with the path, or the model's own.
    pub fn save(&self, folder: &Path, actor: &Model) -> Result<(), TrainError> {
        gradients::check_parameters(&actor.trainable(), "ppo", self.update)?;
        gradients::check_parameters(&self.head.trainable(), "ppo", self.update)?;
        checkpoint::replace(folder, |folder| {
            match actor.lora() {
                Some(_) => actor.save_adapter(&folder.join(ADAPTER), None)?,
                None => actor.save(&folder.join(MODEL))?,
            }
            self.head.save(&folder.join(HEAD))?;
            self.actor_optimizer.save(&folder.join(ACTOR_OPTIMIZER))?;
            self.value_optimizer.save(&folder.join(VALUE_OPTIMIZER))?;
            let counters = Counters {
                update: self.update,
                kl_coefficient: self.kl_coefficient,
                value_started: self.value_started,
                rollouts: self.rollouts,
                unscored: self.unscored,
                settings: self.settings.clone(),
            };
            checkpoint::write_json(&folder.join(COUNTERS), &counters)
        })
    }

    /// Removes the checkpoint `folder` and whatever an interrupted [`PpoState::save`] left beside it; no checkpoint is no
    /// error.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn remove(folder: &Path) -> Result<(), TrainError> {
        checkpoint::remove(folder)
    }

    /// Reads what [`PpoState::save`] wrote: the actor and the state; `None` if there is no checkpoint.
    ///
    /// `config` must be the one it was written with. `base` is the model that an adapter was trained on (an adapter that it has
    /// itself does not count); the actor shares its memory. A checkpoint of a whole model needs none, but goes to the device where a
    /// `base` lies, else to the processor.
    ///
    /// # Errors
    /// [`TrainError::OtherCheckpoint`] for another configuration; [`TrainError::Checkpoint`] for a folder that is cut short, or
    /// with an adapter for which no base was given; [`vul2safe_model::ModelError::OtherBase`] for another base; the model's own.
    pub fn load(
        folder: &Path,
        config: &PpoConfig,
        base: Option<&Model>,
    ) -> Result<Option<(Model, Self)>, TrainError> {
        let Some(folder) = checkpoint::find(folder) else { return Ok(None) };
        let counters: Counters = checkpoint::read_json(&folder.join(COUNTERS))?;
        let adapter = folder.join(ADAPTER);
        let actor = match (adapter.exists(), base) {
            (false, Some(base)) => {
                let placement = Placement { frozen: false, ..base.placement() };
                Model::load_on(&folder.join(MODEL), placement)?
            }
            (false, None) => Model::load(&folder.join(MODEL))?,
            (true, Some(base)) => base.with_adapter(Adapter::load(&adapter, base.config())?)?,
            (true, None) => {
                let problem = "it holds an adapter, and the model it was trained on was not given".to_owned();
                return Err(TrainError::Checkpoint { path: folder, problem });
            }
        };
        let mut state = Self::new(&actor, config)?;
        if let Some(difference) = checkpoint::first_difference(&state.settings, &counters.settings) {
            return Err(TrainError::OtherCheckpoint { path: folder, difference });
        }
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

/// The settings that change a number of the run, and the adapter's.
fn settings(actor: &Model, config: &PpoConfig) -> Vec<String> {
    let defaults = PpoConfig::default();
    let mut lines = checkpoint::settings(&PpoConfig {
        gradient_checkpointing: defaults.gradient_checkpointing,
        maximum_unscored_share: defaults.maximum_unscored_share,
        minimum_entropy: defaults.minimum_entropy,
        minimum_response_length: defaults.minimum_response_length,
        maximum_kl: defaults.maximum_kl,
        sample_every: defaults.sample_every,
        ..config.clone()
    });
    lines.extend(checkpoint::settings_of(actor));
    lines
}
