//! Measures training and sampling tokens a second.
//!
//! ```text
//! cargo run --release -p vul2safe-model --example throughput -- [hidden] [feed-forward] [layers] [heads] [key heads] [vocabulary] [tokens a batch]
//! ```

use std::time::Instant;

use vul2safe_model::{Config, Model, ModelError, Packed, SamplingOptions};

/// Processor seconds of this process so far, all threads, in user mode and in the kernel; absent outside Linux. On a machine that others use as well,
/// they say more than the clock does.
fn processor_seconds() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold spaces; the fields after it do not. Times are in hundredths of a second.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? / 100.0, ticks()? / 100.0))
}

/// Prints what a phase took of the processor since `before`.
fn print_processor(phase: &str, tokens: usize, before: Option<(f64, f64)>) {
    if let (Some(before), Some(now)) = (before, processor_seconds()) {
        let (user, system) = (now.0 - before.0, now.1 - before.1);
        println!(
            "{phase}: {:.0} tokens per core-second (user {user:.2} s, system {system:.2} s)",
            tokens as f64 / (user + system)
        );
    }
}

fn main() -> Result<(), ModelError> {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let size = |index: usize, default: usize| given.get(index).copied().unwrap_or(default);
    let config = Config::new(size(5, 1024), size(0, 128), size(1, 384), size(2, 4), size(3, 4), size(4, 2));
    let tokens = size(6, 6000);
    println!("{} parameters, {} threads", config.parameters(), rayon::current_num_threads());
    let vocabulary = config.vocab_size as u32;
    let model = Model::random(config, 1)?;

    // Sequences of 60 to 150 tokens, as answers of the demo are.
    let mut sequences: Vec<Vec<u32>> = Vec::new();
    let mut total = 0;
    while total < tokens {
        let length = 60 + (sequences.len() * 37) % 91;
        sequences.push((0..length as u32).map(|at| (at * 7919 + total as u32 * 31) % vocabulary).collect());
        total += length;
    }
    let batch = Packed::new(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let rows: Vec<u32> = batch.offsets.windows(2).flat_map(|pair| pair[0]..pair[1] - 1).collect();
    let targets: Vec<u32> = rows.iter().map(|&row| batch.ids[row as usize + 1]).collect();
    let mut best = f64::INFINITY;
    let (mut forward, mut scoring) = (0.0, 0.0);
    let processor = processor_seconds();
    for _ in 0..6 {
        let start = Instant::now();
        let hidden = model.hidden(&batch)?;
        let after_forward = start.elapsed().as_secs_f64();
        let loss = model.score(&hidden, &rows, &targets, 1.0)?.log_prob.mean_all()?.neg()?;
        let after_score = start.elapsed().as_secs_f64();
        let gradients = loss.backward()?;
        assert!(model.parameters().iter().all(|(_, parameter)| gradients.get(parameter).is_some()));
        let seconds = start.elapsed().as_secs_f64();
        if seconds < best {
            (best, forward, scoring) = (seconds, after_forward, after_score - after_forward);
        }
    }
    print_processor("training", 6 * batch.tokens(), processor);
    println!(
        "training: {:.0} tokens/s ({} tokens: forward {:.0} ms, score {:.0} ms, backward {:.0} ms)",
        batch.tokens() as f64 / best,
        batch.tokens(),
        forward * 1e3,
        scoring * 1e3,
        (best - forward - scoring) * 1e3
    );
    let start = Instant::now();
    model.score_detached(&batch, &rows, &targets, 1.0)?;
    println!("scoring without a tape: {:.0} tokens/s", batch.tokens() as f64 / start.elapsed().as_secs_f64());

    let prompts: Vec<Vec<u32>> =
        (0..64).map(|index| (0..60).map(|at| (index * 13 + at * 7) % vocabulary).collect()).collect();
    let options: Vec<SamplingOptions> = (0..64)
        .map(|seed| SamplingOptions { maximum_new_tokens: 128, seed, ..SamplingOptions::default() })
        .collect();
    let mut best = f64::INFINITY;
    let mut made = 0;
    let processor = processor_seconds();
    for _ in 0..3 {
        let start = Instant::now();
        made = model.generate(&prompts, &options)?.iter().map(|answer| answer.ids.len()).sum();
        best = best.min(start.elapsed().as_secs_f64());
    }
    print_processor("sampling", 3 * made, processor);
    println!("sampling: {:.0} tokens/s ({made} tokens, 64 prompts of 60)", made as f64 / best);
    Ok(())
}
