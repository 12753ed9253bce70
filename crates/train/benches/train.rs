//! Training tokens a second and peak memory on one batch: forward, backward, clipping and AdamW.
//!
//! ```text
//! cargo bench -p vul2safe-train --bench train -- --prepare DIR [--vocabulary 8192]
//! cargo bench -p vul2safe-train --bench train -- --model DIR [--threads 2] [--rounds 5] [--steps 3] [--micro-tokens 2048]
//! ```
//!
//! `--micro-tokens` splits the batch into passes of so many tokens whose gradients are added up before the one step.
//!
//! Prints one JSON object, as `tools/bench_torch.py train` does for torch with the same folder.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use vul2safe_model::{Config, Model, Packed, Pass};
use vul2safe_train::{AdamW, OptimizerConfig};

/// What the command line asks for.
struct Options {
    prepare: Option<PathBuf>,
    model: PathBuf,
    vocabulary: usize,
    threads: usize,
    rounds: usize,
    steps: usize,
    micro_tokens: usize,
    warm_up: usize,
    in_turn: bool,
}

impl Options {
    fn read() -> Result<Options, Box<dyn Error>> {
        let mut options = Options {
            prepare: None,
            model: PathBuf::new(),
            vocabulary: 8192,
            threads: 2,
            rounds: 5,
            steps: 3,
            micro_tokens: 1024,
            warm_up: 2,
            in_turn: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} wants a value"));
            match name.as_str() {
                "--prepare" => options.prepare = Some(value()?.into()),
                "--model" => options.model = value()?.into(),
                "--vocabulary" => options.vocabulary = value()?.parse()?,
                "--threads" => options.threads = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--steps" => options.steps = value()?.parse()?,
                "--micro-tokens" => options.micro_tokens = value()?.parse()?,
                "--warm-up" => options.warm_up = value()?.parse()?,
                "--in-turn" => options.in_turn = true,
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

/// Writes random weights and a batch of 8 sequences of 256 tokens.
fn prepare(folder: &std::path::Path, vocabulary: usize) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    Model::random(Config::new(vocabulary, 512, 1536, 8, 8, 2), 1)?.save(folder)?;
    let tokens: Vec<Vec<u64>> = (0..8u64)
        .map(|sequence| {
            (0..256u64)
                .map(|at| (at * 7919 + sequence * 104_729 + at * at * 31) % vocabulary as u64)
                .collect()
        })
        .collect();
    std::fs::write(folder.join("tokens.json"), serde_json::to_vec(&tokens)?)?;
    Ok(())
}

/// Some sequences with the rows that predict a token and those tokens.
struct MicroBatch {
    packed: Packed,
    rows: Vec<u32>,
    targets: Vec<u32>,
}

/// Consecutive sequences of at most `tokens` tokens together, and at least one.
fn micro_batches(sequences: &[Vec<u32>], tokens: usize) -> Vec<MicroBatch> {
    let mut batches = Vec::new();
    let mut left = sequences;
    while let Some(first) = left.first() {
        let (mut count, mut total) = (1, first.len());
        while let Some(next) = left.get(count).filter(|next| total + next.len() <= tokens) {
            total += next.len();
            count += 1;
        }
        let packed = Packed::new(&left[..count].iter().map(Vec::as_slice).collect::<Vec<_>>());
        let rows: Vec<u32> = packed.offsets.windows(2).flat_map(|pair| pair[0]..pair[1] - 1).collect();
        let targets = rows.iter().map(|&row| packed.ids[row as usize + 1]).collect();
        batches.push(MicroBatch { packed, rows, targets });
        left = &left[count..];
    }
    batches
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read()?;
    if let Some(folder) = &options.prepare {
        return prepare(folder, options.vocabulary);
    }
    if options.model.as_os_str().is_empty() {
        println!("nothing measured: give --model DIR, made by --prepare DIR");
        return Ok(());
    }
    let at_start = memory("VmRSS");
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let model = Model::load(&options.model)?;
    let sequences: Vec<Vec<u32>> =
        serde_json::from_slice(&std::fs::read(options.model.join("tokens.json"))?)?;
    let batches = micro_batches(&sequences, options.micro_tokens);
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let weight = -1.0 / batches.iter().map(|batch| batch.rows.len()).sum::<usize>() as f32;
    let mut optimizer = AdamW::new(model.parameters(), OptimizerConfig::default());
    let mut losses = Vec::new();
    let mut step = || -> Result<(), Box<dyn Error>> {
        let mut total = 0.0;
        for MicroBatch { packed, rows, targets } in &batches {
            let weights = vec![weight; rows.len()];
            let log_probs = model.learn(packed, rows, targets, &weights, Pass::default())?;
            total += weight * log_probs.iter().sum::<f32>();
        }
        losses.push(total);
        optimizer.step(1e-4)?;
        Ok(())
    };
    for _ in 0..options.warm_up {
        step()?;
    }
    let mut speeds = Vec::new();
    let before = processor_seconds();
    for _ in 0..options.rounds {
        if options.in_turn {
            println!("ready");
            std::io::stdout().flush()?;
            std::io::stdin().read_line(&mut String::new())?;
        }
        let begun = Instant::now();
        for _ in 0..options.steps {
            step()?;
        }
        speeds.push((options.steps * tokens) as f64 / begun.elapsed().as_secs_f64());
        if options.in_turn {
            println!("{}", speeds[speeds.len() - 1]);
            std::io::stdout().flush()?;
        }
    }
    let measured = (options.rounds * options.steps * tokens) as f64;
    let per_core = measured / (processor_seconds() - before);
    let mut sorted = speeds.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let result = serde_json::json!({
        "program": format!("vul2safe {}", env!("CARGO_PKG_VERSION")),
        "parameters": model.config().parameters(),
        "threads": options.threads,
        "tokens_per_second": speeds,
        "median": median,
        "tokens_per_core_second": per_core,
        "peak_mib": memory("VmHWM"),
        "after_import_mib": at_start,
        "losses": losses,
    });
    println!("{result}");
    Ok(())
}
