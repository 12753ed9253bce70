//! Greedy decoding on random weights, for the comparison of `tools/bench_torch_decode.py`.
//!
//! ```text
//! cargo bench -p vul2safe-model --bench decode                                  batch 1, 16 and 64, medians of 5
//! cargo bench -p vul2safe-model --bench decode -- --save <folder>               writes the weights and ends
//! cargo bench -p vul2safe-model --bench decode -- --model <folder> --batch 16 --json
//! cargo bench -p vul2safe-model --bench decode -- --batch 16 --prompt 1024 --shared  one prompt for all
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use vul2safe_model::{Config, DecodePrecision, GenerateOptions, Model, SamplingOptions};

fn random_model() -> Result<Model, Box<dyn Error>> {
    let config = Config { initializer_range: 0.05, ..Config::new(8192, 512, 1536, 8, 8, 2) };
    Ok(Model::random(config, 1)?)
}

/// The prompts of `tools/bench_torch_decode.py`: all different, so that none is a shared prefix.
fn prompts(batch: usize, length: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    (0..batch)
        .map(|index| {
            (0..length).map(|at| ((index * 7919 + at * 31 + at * at * 7 + 3) % vocabulary) as u32).collect()
        })
        .collect()
}

/// The value after `--name`.
fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn number(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    Ok(argument(name).map_or(Ok(default), |value| value.parse())?)
}

/// Processor seconds of this process so far, all threads; absent outside Linux. On a machine that others use as well, they
/// say more than the clock does.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold spaces; the fields after it do not. Times are in hundredths of a second.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(folder) = argument("--save") {
        std::fs::create_dir_all(&folder)?;
        return Ok(random_model()?.save(Path::new(&folder))?);
    }
    rayon::ThreadPoolBuilder::new().num_threads(number("--threads", 0)?).build_global()?;
    let model = match argument("--model") {
        Some(folder) => Model::load(Path::new(&folder))?,
        None => random_model()?,
    };
    let (length, count) = (number("--prompt", 64)?, number("--new", 128)?);
    let precision = match argument("--precision").as_deref() {
        None | Some("float32") => DecodePrecision::Float32,
        Some("bfloat16") => DecodePrecision::Bfloat16,
        Some("int8") => DecodePrecision::Int8,
        Some(other) => return Err(format!("--precision {other}: float32, bfloat16 or int8").into()),
    };
    let together = GenerateOptions { precision, ..GenerateOptions::default() };
    let json = std::env::args().any(|argument| argument == "--json");
    let batches = match argument("--batch") {
        Some(batch) => vec![batch.parse()?],
        None => vec![1, 16, 64],
    };
    let options =
        SamplingOptions { maximum_new_tokens: count, temperature: 0.0, ..SamplingOptions::default() };
    for batch in batches {
        let mut prompts = prompts(batch, length, model.config().vocab_size);
        if std::env::args().any(|argument| argument == "--shared") {
            prompts = vec![prompts[0].clone(); batch];
        }
        let short: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt[..8.min(length)].to_vec()).collect();
        let few = SamplingOptions { maximum_new_tokens: 4, ..options.clone() };
        model.generate_with(&short, &vec![few; batch], together.clone())?;
        let mut seconds = Vec::new();
        let before = processor_seconds();
        let mut answers = Vec::new();
        for _ in 0..if json { 1 } else { 5 } {
            let start = Instant::now();
            answers = model.generate_with(&prompts, &vec![options.clone(); batch], together.clone())?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let processor = processor_seconds().zip(before).map(|(now, before)| now - before);
        if json {
            let ids: Vec<&[u32]> = answers.iter().map(|answer| answer.ids.as_slice()).collect();
            println!(
                "{}",
                serde_json::json!({ "seconds": median, "processor_seconds": processor, "ids": ids })
            );
        } else {
            println!("batch {batch}: {:.0} tokens/s", (batch * count) as f64 / median);
        }
    }
    Ok(())
}
