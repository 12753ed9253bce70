//! The memory estimate against the measured peaks of real runs.
//!
//! Peaks belong to processes: each case runs in a child of this test, which tells its own `VmHWM`. With
//! `VUL2SAFE_MEMORY_CASES=all` the larger cases run as well, which takes minutes; with a part of names, those cases.

use std::process::Command;

use vul2safe_model::{
    Adapter, Config, DecodePrecision, GenerateOptions, LoraConfig, Model, Packed, Pass, Precision,
    SamplingLoad, SamplingOptions, TrainingLoad, Workload,
};
use vul2safe_reward::{Score, Scored};
use vul2safe_train::{AdamW, Control, OptimizerConfig, PpoConfig, PpoPrompt, Rollout, ppo};

const THREADS: usize = 2;
/// In a child: which case to run.
const CASE: &str = "VUL2SAFE_MEMORY_CASE";

/// The cases that always run.
const QUICK: [&str; 9] = [
    "small, all weights",
    "small, checkpointing",
    "small, two micro-batches",
    "Qwen3",
    "large vocabulary",
    "LoRA on bfloat16, large vocabulary",
    "sampling, small model",
    "sampling with an adapter",
    "PPO",
];

struct Case {
    name: &'static str,
    workload: Workload,
    /// Sequences of a micro-batch.
    sequences: usize,
    /// Micro-batches of a step.
    passes: usize,
}

fn training(sequences: usize, length: usize) -> TrainingLoad {
    TrainingLoad {
        tokens: sequences * length,
        longest: length,
        rows: sequences * (length - 1),
        checkpointing: false,
        accumulation: false,
        moments: true,
    }
}

fn cases() -> Vec<Case> {
    let small = Config::new(4096, 256, 768, 6, 4, 2);
    let middle = Config::new(8192, 512, 1536, 8, 8, 2);
    let wide = Config::new(50_000, 256, 768, 4, 4, 2);
    let qwen3 =
        Config { model_type: "qwen3".into(), head_dim: Some(64), ..Config::new(4096, 384, 1152, 6, 6, 2) };
    let plain = |config: &Config| Workload {
        config: config.clone(),
        precision: Precision::Float32,
        lora: None,
        further_models: 0,
        file_bytes: 0,
        threads: THREADS,
        training: None,
        sampling: None,
    };
    let full = |name, config: &Config, sequences, length| Case {
        name,
        workload: Workload { training: Some(training(sequences, length)), ..plain(config) },
        sequences,
        passes: 1,
    };
    let checkpointing = |case: Case| Case {
        workload: Workload {
            training: case.workload.training.map(|load| TrainingLoad { checkpointing: true, ..load }),
            ..case.workload
        },
        ..case
    };
    let accumulation = |case: Case| Case {
        workload: Workload {
            training: case.workload.training.map(|load| TrainingLoad { accumulation: true, ..load }),
            ..case.workload
        },
        passes: 2,
        ..case
    };
    let adapter = |case: Case, precision| Case {
        workload: Workload { lora: Some(LoraConfig::default()), precision, ..case.workload },
        ..case
    };
    let sampling = |name, config: &Config, running, precision| Case {
        name,
        workload: Workload {
            sampling: Some(SamplingLoad { running, length: 256, precision }),
            ..plain(config)
        },
        sequences: 0,
        passes: 0,
    };
    // Policy and reference, answers to prompts of a quarter of the length, and an update on them.
    let ppo = |name, config: &Config| {
        let load = training(4, 256);
        let load = TrainingLoad { rows: load.tokens / 4 * 3, accumulation: true, ..load };
        Case {
            name,
            workload: Workload {
                further_models: 1,
                training: Some(load),
                sampling: Some(SamplingLoad {
                    running: 16,
                    length: 256,
                    precision: DecodePrecision::Float32,
                }),
                ..plain(config)
            },
            sequences: 4,
            passes: 4,
        }
    };
    let bfloat16 =
        |case: Case| Case { workload: Workload { precision: Precision::Bfloat16, ..case.workload }, ..case };
    vec![
        full("small, all weights", &small, 8, 256),
        checkpointing(full("small, checkpointing", &small, 8, 256)),
        accumulation(full("small, two micro-batches", &small, 4, 256)),
        full("middle, all weights", &middle, 8, 256),
        checkpointing(full("middle, checkpointing", &middle, 8, 256)),
        accumulation(full("middle, two micro-batches", &middle, 2, 512)),
        full("middle, one long sequence", &middle, 1, 2048),
        full("Qwen3", &qwen3, 8, 128),
        full("large vocabulary", &wide, 4, 256),
        adapter(full("LoRA", &middle, 8, 256), Precision::Float32),
        adapter(full("LoRA on bfloat16", &middle, 8, 256), Precision::Bfloat16),
        adapter(checkpointing(full("LoRA on bfloat16, checkpointing", &middle, 8, 256)), Precision::Bfloat16),
        adapter(full("LoRA on bfloat16, large vocabulary", &wide, 4, 256), Precision::Bfloat16),
        sampling("sampling", &middle, 32, DecodePrecision::Float32),
        sampling("sampling, small model", &small, 32, DecodePrecision::Float32),
        sampling("sampling, large vocabulary", &wide, 32, DecodePrecision::Float32),
        sampling("sampling in bfloat16", &middle, 32, DecodePrecision::Bfloat16),
        sampling("sampling in bytes", &middle, 32, DecodePrecision::Int8),
        bfloat16(sampling("sampling a bfloat16 base", &middle, 32, DecodePrecision::Float32)),
        adapter(
            sampling("sampling with an adapter", &middle, 32, DecodePrecision::Float32),
            Precision::Float32,
        ),
        ppo("PPO", &small),
        ppo("PPO, large vocabulary", &wide),
        adapter(ppo("PPO with an adapter on bfloat16", &middle), Precision::Bfloat16),
    ]
}

/// A field of /proc/self/status in bytes.
fn memory(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect(field);
    let kib: usize = line.split_whitespace().next().expect("a number").parse().expect("a number");
    kib << 10
}

/// Does the work of a case for real.
fn carry_out(case: &Case) {
    let workload = &case.workload;
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).build_global().expect("the first use");
    let folder = std::env::var_os("VUL2SAFE_MEMORY_MODEL").map(std::path::PathBuf::from).expect("a model");
    let mut model = Model::load_as(&folder, workload.precision).expect("a model");
    if let Some(lora) = &workload.lora {
        let adapter = Adapter::new(lora.clone(), model.config(), 2).expect("an adapter");
        model = model.with_adapter(adapter).expect("it fits");
    }
    let vocabulary = model.config().vocab_size;
    let ids = |from: usize, count: usize| -> Vec<u32> {
        (from..from + count).map(|at| ((at * 7919 + at * at * 31) % vocabulary) as u32).collect()
    };
    if let (Some(load), Some(answers)) = (workload.training, workload.sampling) {
        return carry_out_ppo(&model, load, answers, &ids);
    }
    if let Some(load) = workload.training {
        model.set_checkpointing(load.checkpointing);
        let mut optimizer = AdamW::new(model.parameters(), OptimizerConfig::default());
        for step in 0..2 {
            for pass in 0..case.passes {
                let sequences: Vec<Vec<u32>> = (0..case.sequences)
                    .map(|sequence| ids(100_003 * (sequence + 8 * (pass + 2 * step)), load.longest))
                    .collect();
                let packed = Packed::new(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
                let rows: Vec<u32> =
                    packed.offsets.windows(2).flat_map(|pair| pair[0]..pair[1] - 1).collect();
                let targets: Vec<u32> = rows.iter().map(|&row| packed.ids[row as usize + 1]).collect();
                let gradient = vec![-1.0 / rows.len() as f32; rows.len()];
                model.learn(&packed, &rows, &targets, &gradient, Pass::default()).expect("a pass");
            }
            optimizer.step(1e-4).expect("a step");
        }
    }
    if let Some(load) = workload.sampling {
        let prompt = load.length / 4;
        let prompts: Vec<Vec<u32>> = (0..load.running).map(|request| ids(request * 977, prompt)).collect();
        let options = SamplingOptions {
            maximum_new_tokens: load.length - prompt,
            temperature: 1.0,
            ..SamplingOptions::default()
        };
        let together = GenerateOptions { precision: load.precision, ..GenerateOptions::default() };
        let options = vec![options; prompts.len()];
        let answers = model.generate_with(&prompts, &options, together).expect("answers");
        assert!(answers.iter().all(|answer| answer.ids.len() == load.length - prompt));
    }
}

/// One update of PPO from sampling to the optimiser's steps.
fn carry_out_ppo(
    actor: &Model,
    load: TrainingLoad,
    answers: SamplingLoad,
    ids: &dyn Fn(usize, usize) -> Vec<u32>,
) {
    let reference = actor.duplicate().expect("a copy");
    let prompt = answers.length / 4;
    let prompts: Vec<PpoPrompt> = (0..answers.running)
        .map(|index| PpoPrompt { id: index.to_string(), ids: ids(index * 977, prompt) })
        .collect();
    let config = PpoConfig {
        updates: 1,
        rollouts_per_update: answers.running,
        answers_per_prompt: 1,
        maximum_new_tokens: answers.length - prompt,
        tokens_per_microbatch: load.tokens,
        gradient_checkpointing: load.checkpointing,
        ..PpoConfig::default()
    };
    let mut score = |rollouts: &[Rollout]| -> Vec<Score> {
        let score = |rollout: &Rollout| {
            let rewards: Vec<f32> = rollout.response().iter().map(|id| (id % 2) as f32).collect();
            let (total, reasons) = (rewards.iter().sum(), vec![Vec::new(); rewards.len()]);
            Score::Scored(Scored { rewards, reasons, total, ..Scored::default() })
        };
        rollouts.iter().map(score).collect()
    };
    let summary = ppo(actor, &reference, &prompts, &config, &mut score, &mut |_| Ok(Control::Continue))
        .expect("an update");
    assert_eq!(summary.rollouts, answers.running as u64);
}

#[test]
fn estimates_lie_within_15_percent_of_the_measured_peak() {
    let wanted = std::env::var(CASE).ok();
    if let Some(name) = wanted {
        let case = cases().into_iter().find(|case| case.name == name).expect("a case");
        carry_out(&case);
        println!("measured={}", memory("VmHWM"));
        return;
    }
    if !cfg!(target_os = "linux") {
        println!("left out: only Linux tells a process its peak");
        return;
    }
    let wanted = std::env::var("VUL2SAFE_MEMORY_CASES").ok();
    let is_wanted = |name: &str| match wanted.as_deref() {
        None => QUICK.contains(&name),
        Some("all") => true,
        Some(part) => name.contains(part),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for mut case in cases().into_iter().filter(|case| is_wanted(case.name)) {
        let model = folder.path().join("model");
        Model::random(case.workload.config.clone(), 1).expect("a model").save(&model).expect("saved");
        case.workload.file_bytes =
            std::fs::metadata(model.join("model.safetensors")).expect("weights").len() as usize;
        let estimate = case.workload.estimate();
        let ratio = |measured: usize| estimate.total as f64 / measured as f64;
        let is_off = |measured: usize| (ratio(measured) - 1.0).abs() > 0.15;
        // The C library's allocator keeps more of what threads freed in one run than in another, so that the same work peaked
        // at 230 MiB and once at 283: of several runs the least peak is the one that the work needs.
        let mut measured = peak(case.name, &model);
        for _ in 0..2 {
            if is_off(measured) {
                println!("{}: measured {} MiB, once more", case.name, measured >> 20);
                measured = measured.min(peak(case.name, &model));
            }
        }
        let mib = |bytes: usize| bytes >> 20;
        println!(
            "{:<40} estimate {:>5} MiB, measured {:>5} MiB, ratio {:.3}   {:?}",
            case.name,
            mib(estimate.total),
            mib(measured),
            ratio(measured),
            [
                estimate.weights,
                estimate.gradients,
                estimate.moments,
                estimate.activations,
                estimate.head,
                estimate.scratch,
                estimate.cache,
                estimate.decoding,
                estimate.other,
                estimate.mapped
            ]
            .map(mib),
        );
        if is_off(measured) {
            wrong.push(format!("{}: {:.3}", case.name, ratio(measured)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The peak of a process of its own that does the work of a case, in bytes.
fn peak(name: &str, model: &std::path::Path) -> usize {
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "estimates_lie_within_15_percent_of_the_measured_peak", "--nocapture"])
        .env(CASE, name)
        .env("VUL2SAFE_MEMORY_MODEL", model)
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&child.stderr));
    text.split("measured=")
        .nth(1)
        .and_then(|rest| rest.lines().next()?.trim().parse().ok())
        .unwrap_or_else(|| panic!("{name}: {text}"))
}
