//! Greedy decoding on random weights, for the comparison of `tools/bench_torch_decode.py`.
//!
//! ```text
//! cargo bench -p vul2safe-model --bench decode                                  batch 1, 16 and 64, medians of 5
//! cargo bench -p vul2safe-model --bench decode -- --save <folder>               writes the weights and ends
//! cargo bench -p vul2safe-model --bench decode -- --model <folder> --batch 16 --json
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use vul2safe_model::{Config, Model, SamplingOptions};

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
    let json = std::env::args().any(|argument| argument == "--json");
    let batches = match argument("--batch") {
        Some(batch) => vec![batch.parse()?],
        None => vec![1, 16, 64],
    };
    let options =
        SamplingOptions { maximum_new_tokens: count, temperature: 0.0, ..SamplingOptions::default() };
    for batch in batches {
        let prompts = prompts(batch, length, model.config().vocab_size);
        let short: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt[..8.min(length)].to_vec()).collect();
        let few = SamplingOptions { maximum_new_tokens: 4, ..options.clone() };
        model.generate(&short, &vec![few; batch])?;
        let mut seconds = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..if json { 1 } else { 5 } {
            let start = Instant::now();
            answers = model.generate(&prompts, &vec![options.clone(); batch])?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        if json {
            let ids: Vec<&[u32]> = answers.iter().map(|answer| answer.ids.as_slice()).collect();
            println!("{}", serde_json::json!({ "seconds": median, "ids": ids }));
        } else {
            println!("batch {batch}: {:.0} tokens/s", (batch * count) as f64 / median);
        }
    }
    Ok(())
}
