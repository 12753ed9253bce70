//! `doctor`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use vul2safe_model::{
    Config, DecodePrecision, Device, DeviceError, DeviceInfo, DeviceNeed, LoraConfig, Precision,
    SamplingLoad, TrainingLoad, Workload, kernel_name,
};
use vul2safe_sandbox::{Policy, PythonSetup, Sandbox};

use super::println;
use crate::cli::DoctorArguments;
use crate::failure::{Failure, Result};
use crate::machine::{available_memory, program};
use crate::memory::{UseMemory, file_bytes, size, there_is};
use crate::stages::base::Folder;
use crate::words::thousands;

/// What a model takes.
struct Table {
    parameters: usize,
    /// In this machine's memory.
    uses: Vec<UseMemory>,
    /// In a GPU's, where this program was built for one and its kernels compute the model.
    on_gpu: Vec<GpuUse>,
}

/// A use of a model on a GPU.
#[derive(Debug, Serialize)]
struct GpuUse {
    purpose: &'static str,
    need: DeviceNeed,
    /// Whether that is free on the first GPU; nothing where none is at hand.
    fits: Option<bool>,
}

pub(super) fn run(arguments: &DoctorArguments) -> Result<()> {
    let gpus = Device::gpus();
    // A folder that cannot be read is told before anything else.
    let table = arguments.model.as_deref().map(|folder| table(folder, arguments, &gpus)).transpose()?;
    if arguments.json { print_json(arguments, &gpus, table) } else { print_text(arguments, &gpus, table) }
}

type Gpus = std::result::Result<Vec<DeviceInfo>, DeviceError>;

/// A line for each GPU, or why there is none.
fn gpu_lines(gpus: &Gpus) -> Vec<String> {
    match gpus {
        Err(DeviceError::NotBuilt { .. }) => {
            vec!["GPU: not built in (build with --features cuda)".to_owned()]
        }
        Err(error) => vec![format!("GPU: built in; {error}")],
        Ok(found) => found
            .iter()
            .enumerate()
            .map(|(ordinal, gpu)| {
                let (major, minor) = gpu.capability;
                let old = if major < 8 { "; too old for the kernels, which need 8.0" } else { "" };
                format!(
                    "GPU: cuda:{ordinal} {}, compute capability {major}.{minor}, {} of {} free{old}",
                    gpu.name,
                    size(gpu.free),
                    size(gpu.total)
                )
            })
            .collect(),
    }
}

/// The model's number of weights, and what each use of it takes.
fn table(folder: &Path, arguments: &DoctorArguments, gpus: &Gpus) -> Result<Table> {
    let folder = Folder::open(folder, None)?;
    let config = Config::from_folder(&folder.base)?;
    let positions = config.max_position_embeddings;
    if arguments.length > positions {
        return Err(Failure::user(format!(
            "--length {}: the model reads at most {positions} tokens",
            arguments.length
        ))
        .with_hint("give a smaller number"));
    }
    let lora = LoraConfig { rank: arguments.lora_rank, ..LoraConfig::default() };
    let tokens = arguments.tokens.max(arguments.length);
    let training = |checkpointing| {
        Some(TrainingLoad {
            tokens,
            longest: arguments.length,
            rows: tokens,
            checkpointing,
            accumulation: true,
            moments: true,
        })
    };
    let plain = Workload {
        config,
        precision: Precision::Float32,
        lora: None,
        further_models: 0,
        file_bytes: file_bytes(&folder.base),
        threads: rayon::current_num_threads(),
        training: None,
        sampling: None,
    };
    let sampling = Some(SamplingLoad {
        running: arguments.requests,
        length: arguments.length,
        precision: DecodePrecision::Float32,
    });
    let adapter = Workload { lora: Some(lora), ..plain.clone() };
    let half = Workload { precision: Precision::Bfloat16, ..adapter.clone() };
    let free = gpus.as_ref().ok().and_then(|found| found.first()).map(|gpu| gpu.free);
    let half_whole = Workload { precision: Precision::Bfloat16, ..plain.clone() };
    let on_gpu = [
        ("sampling", Workload { sampling, ..half_whole.clone() }),
        ("training, all weights", Workload { training: training(false), ..half_whole.clone() }),
        ("the same with checkpointing", Workload { training: training(true), ..half_whole }),
        ("LoRA", Workload { training: training(false), ..half.clone() }),
        ("the same with checkpointing", Workload { training: training(true), ..half.clone() }),
    ];
    let on_gpu = on_gpu
        .into_iter()
        .filter_map(|(purpose, workload)| {
            let need = workload.on_device().ok()?;
            Some(GpuUse { purpose, need, fits: free.map(|free| need.needed <= free) })
        })
        .collect();
    let uses = [
        ("sampling", Workload { sampling, ..plain.clone() }),
        ("training, all weights", Workload { training: training(false), ..plain.clone() }),
        ("the same with checkpointing", Workload { training: training(true), ..plain.clone() }),
        ("LoRA", Workload { training: training(false), ..adapter }),
        ("LoRA on bfloat16", Workload { training: training(false), ..half.clone() }),
        ("the same with checkpointing", Workload { training: training(true), ..half }),
    ];
    let available = available_memory();
    let rows = uses.into_iter().map(|(purpose, workload)| {
        let estimate = workload.estimate();
        UseMemory { purpose, estimate, fits: available.map(|available| estimate.needed <= available.bytes) }
    });
    Ok(Table { parameters: plain.config.parameters(), uses: rows.collect(), on_gpu })
}

fn compiler() -> Option<String> {
    program(&["cc", "gcc", "clang"]).map(|path| path.display().to_string())
}

fn python() -> Option<String> {
    program(&["python3"]).map(|path| path.display().to_string())
}

/// The interpreter that can be kept warm here, so that a run is its copy; what stands in the way otherwise.
fn warm_python() -> std::result::Result<String, String> {
    let sandbox = Sandbox::new(Policy::default()).map_err(|_| "untrusted code is refused".to_owned())?;
    // The order in which the judge looks for an interpreter.
    let candidates = ["/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from);
    let candidates = candidates.into_iter().filter(|path| path.is_file()).chain(program(&["python3"]));
    let mut why = "no python3".to_owned();
    for interpreter in candidates {
        let setup =
            PythonSetup { interpreter: interpreter.clone(), modules: Vec::new(), programs: Vec::new() };
        match sandbox.warm_python(setup) {
            Ok(_) => return Ok(interpreter.display().to_string()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

fn print_text(arguments: &DoctorArguments, gpus: &Gpus, table: Option<Table>) -> Result<()> {
    let machine = vul2safe_run::machine();
    println(&format!("vul2safe {}", env!("CARGO_PKG_VERSION")))?;
    println(&format!(
        "processor: {}, {} cores, {} kernels",
        machine["processor"].as_str().unwrap_or("unknown"),
        machine["cores"],
        kernel_name()
    ))?;
    println(&format!("threads: {}", rayon::current_num_threads()))?;
    println(&match available_memory() {
        Some(available) => format!("memory: {}", there_is(available)),
        None => "memory: this system does not say what is available".to_owned(),
    })?;
    for line in gpu_lines(gpus) {
        println(&line)?;
    }
    println(&format!("C compiler: {}", compiler().as_deref().unwrap_or("not found in PATH")))?;
    println(&format!("Python: {}", python().as_deref().unwrap_or("not found in PATH")))?;
    let capabilities = Sandbox::capabilities();
    let verdict =
        if capabilities.protects() { "can run untrusted code" } else { "refuses to run untrusted code here" };
    println(&format!("sandbox: {verdict}"))?;
    for line in capabilities.enforced() {
        println(&format!("  enforced  {line}"))?;
    }
    for line in capabilities.missing() {
        println(&format!("  missing   {line}"))?;
    }
    println(&match warm_python() {
        Ok(python) => {
            format!("  Python    {python} can be kept warm: a start costs milliseconds")
        }
        Err(why) => format!(
            "  Python    no interpreter can be kept warm, each start costs tens of milliseconds: {why}"
        ),
    })?;
    let (Some(Table { parameters, uses, on_gpu }), Some(folder)) = (table, &arguments.model) else {
        return Ok(());
    };
    println(&format!(
        "model: {}, {} parameters; memory with micro-batches of {} tokens, sequences of {}, LoRA of rank {}, {} requests",
        folder.display(),
        thousands(parameters),
        arguments.tokens.max(arguments.length),
        arguments.length,
        arguments.lora_rank,
        arguments.requests
    ))?;
    println(&format!(
        "  {:<28}{:>10}{:>10}{:>10}{:>13}{:>10}{:>10}",
        "", "weights", "gradients", "moments", "activations", "cache", "peak"
    ))?;
    let cell = |bytes: usize| if bytes == 0 { "–".to_owned() } else { size(bytes) };
    let verdict = |fits: Option<bool>| match fits {
        Some(true) => "fits",
        Some(false) => "does not fit",
        None => "",
    };
    for UseMemory { purpose, estimate, fits } in uses {
        let verdict = verdict(fits);
        let row = format!(
            "  {purpose:<28}{:>10}{:>10}{:>10}{:>13}{:>10}{:>10}  {verdict}",
            cell(estimate.weights),
            cell(estimate.gradients),
            cell(estimate.moments),
            cell(estimate.activations),
            cell(estimate.cache),
            size(estimate.needed),
        );
        println(row.trim_end())?;
    }
    if on_gpu.is_empty() {
        return Ok(());
    }
    println(&format!(
        "  {:<28}{:>10}{:>10}{:>13}{:>10}{:>10}",
        "on a GPU, in bfloat16", "weights", "optimiser", "activations", "cache", "peak"
    ))?;
    for GpuUse { purpose, need, fits } in on_gpu {
        let row = format!(
            "  {purpose:<28}{:>10}{:>10}{:>13}{:>10}{:>10}  {}",
            cell(need.weights),
            cell(need.optimizer),
            cell(need.activations),
            cell(need.cache),
            size(need.needed),
            verdict(fits)
        );
        println(row.trim_end())?;
    }
    Ok(())
}

fn print_json(arguments: &DoctorArguments, gpus: &Gpus, table: Option<Table>) -> Result<()> {
    let capabilities = Sandbox::capabilities();
    let warm = warm_python();
    let mut value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": vul2safe_run::machine(),
        "kernels": kernel_name(),
        "threads": rayon::current_num_threads(),
        "available_memory": available_memory(),
        "cuda": cfg!(feature = "cuda"),
        "gpus": gpus.as_ref().map_or(&[][..], Vec::as_slice),
        "gpu_problem": gpus.as_ref().err().map(ToString::to_string),
        "c_compiler": compiler(),
        "python": python(),
        "sandbox": {
            "protects": capabilities.protects(),
            "enforced": capabilities.enforced(),
            "missing": capabilities.missing(),
            "protections": capabilities.protections(),
            "warm_python": warm.as_ref().ok(),
            "no_warm_python": warm.as_ref().err(),
        },
        "model": Value::Null,
    });
    if let (Some(Table { parameters, uses, on_gpu }), Some(folder)) = (table, &arguments.model) {
        value["model"] =
            json!({ "folder": folder, "parameters": parameters, "uses": uses, "on_gpu": on_gpu });
    }
    println(&value.to_string())
}
