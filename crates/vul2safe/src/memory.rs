//! How much memory the stages of a recipe will take, and whether it is there.

use std::path::Path;

use serde::Serialize;
use vul2safe_model::{
    Config, DecodePrecision, DeviceInfo, LoraConfig, MemoryEstimate, Precision, SamplingLoad, TrainingLoad,
    Workload,
};

use crate::failure::{Failure, Result};
use crate::machine::{AvailableMemory, available_memory};
use crate::recipe::{ArmMethod, Recipe};
use crate::stages::Until;
use crate::stages::base::{Folder, model_config};
use crate::stages::evaluate::BATCH;
use vul2safe_train::PpoConfig;

/// A stage and what it does with the model.
#[derive(Clone, Debug)]
pub struct StageMemory {
    /// `base`, `sft`, `ppo` or `evaluate`.
    pub stage: &'static str,
    /// What is done.
    pub workload: Workload,
}

impl StageMemory {
    /// The stage's estimate.
    pub fn estimate(&self) -> MemoryEstimate {
        self.workload.estimate()
    }
}

/// The shape of the model that a recipe works on, without reading a weight.
///
/// # Errors
/// A model folder that cannot be read.
pub fn shape(recipe: &Recipe) -> Result<Config> {
    match &recipe.model.path {
        Some(path) => Ok(Config::from_folder(&Folder::open(path, recipe.model.base.as_deref())?.base)?),
        None => Ok(model_config(&recipe.base, recipe.base.vocabulary, 0)),
    }
}

/// Bytes of the weight files of a model folder.
pub fn file_bytes(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "safetensors"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len() as usize)
        .sum()
}

/// What every stage of `recipe` up to `until` does with the model.
///
/// # Errors
/// A model folder that cannot be read.
pub fn stages(recipe: &Recipe, until: Until) -> Result<Vec<StageMemory>> {
    let config = shape(recipe)?;
    let positions = config.max_position_embeddings;
    let mut lora = recipe.lora.clone();
    let mut file = FLOAT.saturating_mul(config.parameters());
    if let Some(path) = &recipe.model.path {
        let folder = Folder::open(path, recipe.model.base.as_deref())?;
        file = file_bytes(&folder.base);
        if folder.adapter.is_some() {
            lora.get_or_insert_with(LoraConfig::default);
        }
    }
    let plain = Workload {
        config,
        precision: recipe.model.precision,
        lora,
        further_models: 0,
        file_bytes: file,
        threads: rayon::current_num_threads(),
        training: None,
        sampling: None,
    };
    let mut found = Vec::new();
    if recipe.model.path.is_none() {
        let training = &recipe.base.training;
        let longest = training.maximum_length.min(positions);
        let load = training_load(training.tokens_per_microbatch, training.tokens_per_batch, longest);
        found.push(StageMemory {
            stage: "base",
            workload: Workload {
                // On the processor weights in bfloat16 cannot be trained.
                precision: if recipe.device.is_cpu() { Precision::Float32 } else { plain.precision },
                lora: None,
                file_bytes: 0,
                training: Some(TrainingLoad { checkpointing: training.gradient_checkpointing, ..load }),
                ..plain.clone()
            },
        });
    }
    if recipe.sft.enabled {
        let training = &recipe.sft.training;
        let longest = recipe.sft.maximum_tokens.min(training.maximum_length).min(positions);
        let load = training_load(training.tokens_per_microbatch, training.tokens_per_batch, longest);
        found.push(StageMemory {
            stage: "sft",
            workload: Workload {
                training: Some(TrainingLoad { checkpointing: training.gradient_checkpointing, ..load }),
                ..plain.clone()
            },
        });
    }
    if until == Until::Sft {
        return Ok(found);
    }
    let mut arms = Vec::new();
    for (name, arm) in &recipe.arms {
        let settings = arm.settings(name, recipe)?;
        arms.push(match arm.method {
            ArmMethod::Ppo => ppo_stage(recipe, &settings.ppo, &plain),
            ArmMethod::MaskedSft | ArmMethod::Unlikelihood => {
                let training = &settings.supervised;
                let longest = recipe.sft.maximum_tokens.min(training.maximum_length).min(positions);
                let load = training_load(training.tokens_per_microbatch, training.tokens_per_batch, longest);
                let load = TrainingLoad { checkpointing: training.gradient_checkpointing, ..load };
                StageMemory { stage: "arm", workload: Workload { training: Some(load), ..plain.clone() } }
            }
            ArmMethod::Preference => {
                let training = &settings.preference;
                // Both sides of a pair stand in one pass.
                let longest = recipe.sft.maximum_tokens.min(positions).saturating_mul(2);
                let load = training_load(training.tokens_per_microbatch, usize::MAX, longest);
                let workload = Workload { further_models: 1, training: Some(load), ..plain.clone() };
                StageMemory { stage: "arm", workload }
            }
        });
    }
    // Arms come one after the other: the largest says what is needed.
    found.extend(arms.into_iter().max_by_key(|stage| stage.estimate().total));
    if until == Until::Report {
        let longest = recipe
            .ppo
            .maximum_prompt_tokens
            .saturating_add(recipe.evaluation.maximum_new_tokens)
            .min(positions);
        let sampling = SamplingLoad { running: BATCH, length: longest, precision: DecodePrecision::Float32 };
        found.push(StageMemory {
            stage: "evaluate",
            workload: Workload { sampling: Some(sampling), ..plain },
        });
    }
    Ok(found)
}

/// The memory of a PPO arm.
fn ppo_stage(recipe: &Recipe, training: &PpoConfig, plain: &Workload) -> StageMemory {
    let positions = plain.config.max_position_embeddings;
    let longest = recipe.ppo.maximum_prompt_tokens.saturating_add(training.maximum_new_tokens).min(positions);
    let load = training_load(training.tokens_per_microbatch, usize::MAX, longest);
    StageMemory {
        stage: "ppo",
        workload: Workload {
            further_models: 1,
            training: Some(TrainingLoad { checkpointing: training.gradient_checkpointing, ..load }),
            sampling: Some(SamplingLoad {
                running: training.rollouts_per_update.min(BATCH),
                length: longest,
                precision: DecodePrecision::Float32,
            }),
            ..plain.clone()
        },
    }
}

const FLOAT: usize = 4;

/// Micro-batches are filled up to their bound; one longer sequence is a micro-batch of its own.
fn training_load(microbatch: usize, batch: usize, longest: usize) -> TrainingLoad {
    let tokens = microbatch.max(longest).max(1);
    TrainingLoad {
        tokens,
        longest: longest.max(1),
        rows: tokens,
        checkpointing: false,
        accumulation: batch > tokens,
        moments: true,
    }
}

/// Refuses a recipe that asks for more memory than there is, on the processor's side or on the GPU that it names.
///
/// # Errors
/// The first stage that needs more, with what would fit; a GPU that cannot be used.
pub fn check(recipe: &Recipe, until: Until) -> Result<()> {
    check_several(recipe, until, 1)
}

/// The same for so many runs at the same time.
///
/// # Errors
/// As [`check`].
pub fn check_several(recipe: &Recipe, until: Until, runs: usize) -> Result<()> {
    if let Some(gpu) = recipe.device.find()? {
        return check_on_gpu(recipe, until, &gpu);
    }
    let Some(available) = available_memory() else { return Ok(()) };
    for stage in stages(recipe, until)? {
        let needed = stage.estimate().needed.saturating_mul(runs);
        if needed > available.bytes {
            let times = if runs == 1 { String::new() } else { format!(" in {runs} runs at the same time") };
            return Err(Failure::user(format!(
                "stage `{}`{times} needs about {} of memory, and {}",
                stage.stage,
                size(needed),
                there_is(available)
            ))
            .with_hint(format!(
                "{}\n`--ignore-memory-estimate` runs it all the same",
                advice(&stage, available.bytes / runs).join("\n")
            )));
        }
    }
    Ok(())
}

fn check_on_gpu(recipe: &Recipe, until: Until, gpu: &DeviceInfo) -> Result<()> {
    for stage in stages(recipe, until)? {
        let needed = stage.workload.on_device()?.needed;
        if needed > gpu.free {
            return Err(Failure::user(format!(
                "stage `{}` needs about {} of memory on {}, and {} of {} are free there ({})",
                stage.stage,
                size(needed),
                recipe.device,
                size(gpu.free),
                size(gpu.total),
                gpu.name
            ))
            .with_hint(format!(
                "{}\n`--ignore-memory-estimate` runs it all the same",
                advice_on_gpu(&stage, gpu.free)?.join("\n")
            )));
        }
    }
    Ok(())
}

/// What would fit on a GPU, a line each: changes that are made one after the other until it does.
///
/// # Errors
/// Sizes that a GPU does not compute; a program without the engine for GPUs.
pub fn advice_on_gpu(stage: &StageMemory, free: usize) -> Result<Vec<String>> {
    let mut workload = stage.workload.clone();
    let mut lines: Vec<String> = Vec::new();
    let mut fits = false;
    type Change = fn(&mut Workload);
    let changes: [(&str, Change); 3] = [
        ("`model.precision = \"bfloat16\"`", |workload| workload.precision = Precision::Bfloat16),
        ("`gradient_checkpointing = true`", |workload| {
            workload.training = workload.training.map(|load| TrainingLoad { checkpointing: true, ..load });
        }),
        ("an adapter (`[lora]`)", |workload| {
            if workload.training.is_some() {
                workload.lora.get_or_insert_with(LoraConfig::default);
            }
        }),
    ];
    // A model made from nothing has no base for an adapter.
    let count = if stage.stage == "base" { 2 } else { 3 };
    for (what, change) in &changes[..count] {
        let before = workload.on_device()?.needed;
        change(&mut workload);
        let needed = workload.on_device()?.needed;
        if needed < before {
            fits = needed <= free;
            let with = if lines.is_empty() { "" } else { "and " };
            let verdict = if fits { "fits" } else { "is still too much" };
            lines.push(format!("{with}{what}: about {}, which {verdict}", size(needed)));
        }
        if fits {
            break;
        }
    }
    if !fits {
        lines.push("fewer tokens a micro-batch, fewer rollouts, or a smaller model take less".to_owned());
    }
    Ok(lines)
}

/// Memory available, as a part of a sentence.
pub fn there_is(available: AvailableMemory) -> String {
    let of = if available.limited { "within the limit of this control group" } else { "on this machine" };
    format!("{} is available {of}", size(available.bytes))
}

/// What would fit, a line each.
pub fn advice(stage: &StageMemory, available: usize) -> Vec<String> {
    // A model made from nothing has no base for an adapter.
    let found = stage.workload.what_would_fit(available, stage.stage != "base");
    let mut lines = Vec::new();
    for (index, advice) in found.iter().enumerate() {
        let with = if index == 0 { "" } else { "and " };
        let verdict = if advice.fits { "fits" } else { "is still too much" };
        lines.push(format!("{with}{}: about {}, which {verdict}", advice.what, size(advice.needed)));
    }
    if found.last().is_none_or(|advice| !advice.fits) {
        lines.push("no change of the settings would make it fit: take a smaller model".to_owned());
    }
    lines
}

/// `1536 MiB` or `12.3 GiB`.
pub fn size(bytes: usize) -> String {
    let mib = bytes.div_ceil(1 << 20);
    if mib < 10 * 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) }
}

/// A row of `doctor --model`.
#[derive(Clone, Debug, Serialize)]
pub struct UseMemory {
    /// What is done with the model.
    pub purpose: &'static str,
    /// What it takes.
    pub estimate: MemoryEstimate,
    /// Whether that is there; nothing where the system does not say what is available.
    pub fits: Option<bool>,
}
