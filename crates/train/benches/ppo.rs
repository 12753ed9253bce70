//! One PPO update with an adapter on a decoder of the shape of Qwen2.5-Coder-0.5B: time of each phase and peak memory.
//!
//! ```text
//! cargo bench -p vul2safe-train --bench ppo -- --prepare DIR
//! cargo bench -p vul2safe-train --bench ppo -- --model DIR [--threads 2] [--micro-tokens 1024] [--sequences 8] [--keep]
//!     [--bfloat16]
//! ```
//!
//! `--prepare` writes random weights, an adapter of rank 16 on all projections and `rollouts.json`: 8 sequences of 1,024
//! tokens, 256 of them prompt, with a reward on some tokens. The update: log-probs of the sampling policy and of the
//! reference (the base without its adapter, on the same memory), values, advantages, forward and backward through actor and
//! value head with gradient checkpointing (`--keep`: without), one optimiser step. `--sequences` takes the first so many of
//! the 8, for a shorter measurement. `--bfloat16` keeps the base in two bytes a number.
//!
//! Prints one JSON object, as `tools/bench_torch_ppo.py` does for torch, transformers and PEFT with the same folder.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use vul2safe_model::{Adapter, Config, LoraConfig, Model, Precision};
use vul2safe_reward::{Score, Scored};
use vul2safe_train::{
    OptimizerConfig, PpoConfig, PpoState, Rollout, Schedule, ValueConfig, ValueStart, update_on,
};

const SEQUENCES: usize = 8;
const LENGTH: usize = 1024;
const PROMPT: usize = 256;

/// `rollouts.json`.
#[derive(Serialize, Deserialize)]
struct Rollouts {
    /// Prompt and response of each sequence.
    ids: Vec<Vec<u32>>,
    prompt: usize,
    /// One reward for each response token.
    rewards: Vec<Vec<f32>>,
}

/// What the command line asks for.
struct Options {
    prepare: Option<PathBuf>,
    model: PathBuf,
    threads: usize,
    micro_tokens: usize,
    sequences: usize,
    checkpointing: bool,
    precision: Precision,
}

impl Options {
    fn read() -> Result<Options, Box<dyn Error>> {
        let mut options = Options {
            prepare: None,
            model: PathBuf::new(),
            threads: 2,
            micro_tokens: 1024,
            sequences: SEQUENCES,
            checkpointing: true,
            precision: Precision::Float32,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} wants a value"));
            match name.as_str() {
                "--prepare" => options.prepare = Some(value()?.into()),
                "--model" => options.model = value()?.into(),
                "--threads" => options.threads = value()?.parse()?,
                "--micro-tokens" => options.micro_tokens = value()?.parse()?,
                "--sequences" => options.sequences = value()?.parse()?,
                "--keep" => options.checkpointing = false,
                "--bfloat16" => options.precision = Precision::Bfloat16,
                // What `cargo bench` adds.
                "--bench" => {}
                other => return Err(format!("{other} is no option of this benchmark").into()),
            }
        }
        Ok(options)
    }
}

/// A field of /proc/self/status in MiB; 0 outside Linux.
fn memory(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Processor seconds of all threads so far, in user mode and in the kernel; NaN outside Linux. On a machine that others use
/// as well they say more than the clock does.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name may hold spaces; the fields after it do not. Times are in hundredths of a second.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    if ticks.len() == 2 { (ticks[0] + ticks[1]) / 100.0 } else { f64::NAN }
}

/// Writes model, adapter and rollouts.
fn prepare(folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let config = Config {
        max_position_embeddings: 32_768,
        rope_theta: Some(1e6),
        ..Config::new(151_936, 896, 4864, 24, 14, 2)
    };
    let vocabulary = config.vocab_size;
    let adapter = Adapter::new(LoraConfig::default(), &config, 2)?;
    // A new adapter's B is 0, and the policy would be the reference: a few tenths of A's size tell them apart.
    for (index, parameter) in adapter.parameters().iter().enumerate().filter(|(index, _)| index % 2 == 1) {
        let place = |at: usize| ((at * 7919 + index * 104_729) % 1000) as f32 / 1000.0 - 0.5;
        parameter.set(&(0..parameter.count()).map(|at| 0.01 * place(at)).collect::<Vec<_>>())?;
    }
    let model = Model::random(config, 1)?.with_adapter(adapter)?;
    model.save(folder)?;
    model.save_adapter(&folder.join("adapter"), None)?;
    let ids: Vec<Vec<u32>> = (0..SEQUENCES)
        .map(|sequence| {
            let id = |at: usize| (at * 7919 + sequence * 104_729 + at * at * 31) % vocabulary;
            (0..LENGTH).map(|at| id(at) as u32).collect()
        })
        .collect();
    let reward = |sequence: usize, at: usize| match (at + 5 * sequence) % 48 {
        0 => 1.0,
        17 => -0.5,
        _ => 0.0,
    };
    let rewards =
        (0..SEQUENCES).map(|sequence| (PROMPT..LENGTH).map(|at| reward(sequence, at)).collect()).collect();
    let rollouts = Rollouts { ids, prompt: PROMPT, rewards };
    std::fs::write(folder.join("rollouts.json"), serde_json::to_vec(&rollouts)?)?;
    Ok(())
}

/// One optimiser step over all answers; the value head is a vector that begins at 0, so that torch begins at the same place.
fn configuration(options: &Options) -> PpoConfig {
    PpoConfig {
        epochs: 1,
        minibatches: 1,
        tokens_per_microbatch: options.micro_tokens,
        gradient_checkpointing: options.checkpointing,
        rollouts_per_update: SEQUENCES,
        value: ValueConfig {
            width: 0,
            start: ValueStart::Zero,
            gradient_to_trunk: true,
            ..ValueConfig::default()
        },
        optimizer: OptimizerConfig {
            learning_rate: 1e-4,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            ..OptimizerConfig::default()
        },
        ..PpoConfig::default()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read()?;
    if let Some(folder) = &options.prepare {
        return prepare(folder);
    }
    if options.model.as_os_str().is_empty() {
        println!("nothing measured: give --model DIR, made by --prepare DIR");
        return Ok(());
    }
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let begun = Instant::now();
    let base = Model::load_as(&options.model, options.precision)?;
    let adapter = Adapter::load(&options.model.join("adapter"), base.config())?;
    let actor = base.with_adapter(adapter)?;
    drop(base);
    let reference = actor.without_adapter()?;
    let seconds_load = begun.elapsed().as_secs_f64();
    let loaded = memory("VmRSS");
    let given: Rollouts = serde_json::from_slice(&std::fs::read(options.model.join("rollouts.json"))?)?;
    let rollouts: Vec<Rollout> = given
        .ids
        .iter()
        .take(options.sequences)
        .map(|ids| Rollout {
            prompt: 0,
            ids: ids.clone(),
            prompt_length: given.prompt,
            log_probs: vec![0.0; ids.len() - given.prompt],
            finished: true,
        })
        .collect();
    let scores: Vec<Score> = given
        .rewards
        .into_iter()
        .take(options.sequences)
        .map(|rewards| {
            let (total, reasons) = (rewards.iter().sum(), vec![Vec::new(); rewards.len()]);
            Score::Scored(Scored { rewards, reasons, total, ..Scored::default() })
        })
        .collect();
    let config = configuration(&options);
    let mut state = PpoState::new(&actor, &config)?;
    let (begun, before) = (Instant::now(), processor_seconds());
    let metrics = update_on(&mut state, &actor, &reference, &rollouts, &scores, &config)?;
    let seconds = begun.elapsed().as_secs_f64();
    let processor = processor_seconds() - before;
    let metric = |name: &str| metrics.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let [old, reference] = ["seconds_old", "seconds_reference"].map(|name| metric(name).unwrap_or(f64::NAN));
    let shown: BTreeMap<&str, Option<f64>> = [
        "policy_loss",
        "value_loss",
        "kl_reference",
        "entropy",
        "gradient_norm",
        "value_gradient_norm",
        "first_ratio_error",
    ]
    .map(|name| (name, metric(name)))
    .into();
    let result = serde_json::json!({
        "program": format!("vul2safe {}", env!("CARGO_PKG_VERSION")),
        "threads": options.threads,
        "micro_tokens": options.micro_tokens,
        "checkpointing": options.checkpointing,
        "base": options.precision,
        "tokens": rollouts.iter().map(|rollout| rollout.ids.len()).sum::<usize>(),
        "parameters": actor.config().parameters(),
        "trainable": actor.parameters().iter().map(|parameter| parameter.count()).sum::<usize>(),
        "seconds": {
            "load": seconds_load,
            "old_log_probs_and_values": old,
            "reference_log_probs": reference,
            "train": seconds - old - reference,
            "update": seconds,
            "processor": processor,
        },
        "loaded_mib": loaded,
        "peak_mib": memory("VmHWM"),
        "metrics": shown,
    });
    println!("{result}");
    Ok(())
}
