//! Import, leaf-token diff, de-duplication and split of real pairs, with time and peak memory.
//!
//! ```text
//! VUL2SAFE_DATA=<folder with sven/ and linuxvul/> cargo bench -p vul2safe-corpus --bench import
//! RAYON_NUM_THREADS=2 …                                                        on two cores
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use vul2safe_corpus::{
    ReadLimits, Repair, RepairPair, Source, SplitConfig, VulnerabilityRecord, assign_splits, content_hash,
    diff_spans, read,
};

/// A pair without what the judges add: nothing of that is measured here.
fn pair(record: VulnerabilityRecord) -> Option<RepairPair> {
    let secure = record.secure?;
    let spans = diff_spans(record.language, &record.vulnerable, &secure).ok()?;
    Some(RepairPair {
        hash: content_hash(record.language, &record.vulnerable, &secure),
        id: record.id,
        language: record.language,
        cwe: record.cwe,
        cve: record.cve,
        project: record.project,
        commit: record.commit,
        date: record.date,
        file_name: record.file_name,
        license: record.license,
        vulnerable: record.vulnerable,
        secure,
        repair: Repair { by: "upstream".into(), rounds: 1 },
        confidence: 0.5,
        evidence: Vec::new(),
        spans,
        prompts: Vec::new(),
        tests: record.tests,
        split: record.split.unwrap_or_default(),
        source: record.source,
    })
}

/// The highest memory so far, in MiB; absent outside Linux.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let data = std::env::var_os("VUL2SAFE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    if !data.is_dir() {
        println!("not run: there is no {} (set VUL2SAFE_DATA)", data.display());
        return Ok(());
    }
    let start = Instant::now();
    let limits = ReadLimits::default();
    let sources =
        [Source::Sven { path: data.join("sven") }, Source::LinuxVul { path: data.join("linuxvul") }];
    let (mut records, mut lines, mut dropped) = (Vec::new(), 0, 0);
    for source in &sources {
        let imported = read(source, &limits)?;
        lines += imported.read;
        dropped += imported.dropped.len();
        records.extend(imported.records);
    }
    println!(
        "import       {:>7.2} s   {lines} read, {} records, {dropped} dropped",
        start.elapsed().as_secs_f64(),
        records.len()
    );
    let from = Instant::now();
    let mut pairs: Vec<RepairPair> = records.into_par_iter().filter_map(pair).collect();
    println!("diff         {:>7.2} s   {} pairs with spans", from.elapsed().as_secs_f64(), pairs.len());
    let from = Instant::now();
    let summary = assign_splits(&mut pairs, &SplitConfig::default());
    println!("groups       {:>7.2} s   {summary:?}", from.elapsed().as_secs_f64());
    // Without projects, which put all of Linux into one group, the near-duplicates have all the work.
    let from = Instant::now();
    let by_date = SplitConfig { hold_out_from: Some("2100-01-01".into()), ..SplitConfig::default() };
    let summary = assign_splits(&mut pairs, &by_date);
    println!("near only    {:>7.2} s   {summary:?}", from.elapsed().as_secs_f64());
    println!("everything   {:>7.2} s", start.elapsed().as_secs_f64());
    if let Some(peak) = peak_memory() {
        println!("peak memory  {peak:>7.0} MiB");
    }
    Ok(())
}
