//! `data export`.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use vul2safe_corpus::{
    BenchmarkText, CardFacts, Counts, OverlapConfig, RepairPair, VulnerabilityRecord, chat_rows,
    contamination, counts, license_allowed, license_of, primevul_lines, read_benchmark_texts,
    read_primevul_plus, rl_rows, sft_rows, write_hub, write_primevul_plus, write_primevul_plus_parquet,
};

use super::beside;
use super::{check_output, println};
use crate::cli::{ExportArguments, ExportFormat};
use crate::failure::{Failure, Result, read_text};
use crate::stages::{read_lines, write_lines};

pub(super) fn run(arguments: &ExportArguments) -> Result<()> {
    if !(0.0..=1.0).contains(&arguments.overlap) {
        return Err(Failure::user(format!("--overlap {}: a share lies between 0 and 1", arguments.overlap))
            .with_hint("0.25 means a quarter of a benchmark's text"));
    }
    if arguments.format == ExportFormat::Hub {
        check_folder(&arguments.out)?;
    } else {
        check_output(&arguments.out, &arguments.data)?;
    }
    if arguments.format == ExportFormat::Primevul && holds_records(&arguments.data)? {
        let records: Vec<VulnerabilityRecord> = read_lines(&arguments.data)?;
        return export_records(arguments, records);
    }
    let pairs = read_primevul_plus(&arguments.data)?;
    let all = pairs.len();
    let (pairs, left_out) = filtered(arguments, pairs)?;
    if pairs.is_empty() {
        return Err(Failure::user(format!("none of the {all} pairs is left to write"))
            .with_hint("the reasons are listed above; see --license and --overlap"));
    }
    let out = &arguments.out;
    match arguments.format {
        ExportFormat::Jsonl => write_primevul_plus(out, &pairs)?,
        ExportFormat::Parquet => write_primevul_plus_parquet(out, &pairs)?,
        ExportFormat::Primevul => {
            let records: Vec<VulnerabilityRecord> = pairs.iter().cloned().map(Into::into).collect();
            write_lines(out, &primevul_lines(&records))?;
        }
        ExportFormat::Sft => write_lines(out, &rows(&pairs, sft_rows))?,
        ExportFormat::Chat => write_lines(out, &rows(&pairs, chat_rows))?,
        ExportFormat::Rl => write_lines(out, &rows(&pairs, rl_rows))?,
        ExportFormat::Hub => {
            let rejected = beside::rejected(&arguments.data)?.unwrap_or_default();
            let rejected = counts(rejected.iter().map(|rejection| rejection.reason.to_string()));
            let facts = CardFacts { title: arguments.title.clone(), rejected, left_out };
            write_hub(out, &pairs, &facts)?;
        }
    }
    println(&format!("{} of {all} pairs written to {}", pairs.len(), out.display()))
}

type Rows = fn(&RepairPair) -> Vec<Value>;

fn rows(pairs: &[RepairPair], rows: Rows) -> Vec<Value> {
    pairs.iter().flat_map(rows).collect()
}

/// Whether a file holds records as `data import` writes them: they have no spans.
fn holds_records(path: &Path) -> Result<bool> {
    if path.is_dir() || path.extension().is_some_and(|extension| extension == "parquet") {
        return Ok(false);
    }
    let text = read_text(path, "data")?;
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(serde_json::from_str::<Value>(first)
        .is_ok_and(|value| value.is_object() && value.get("spans").is_none()))
}

fn export_records(arguments: &ExportArguments, records: Vec<VulnerabilityRecord>) -> Result<()> {
    if !arguments.license.is_empty() || !arguments.decontaminate.is_empty() {
        return Err(Failure::user(
            "--license and --decontaminate look at repair pairs, and these are records",
        )
        .with_hint("export the PrimeVul+ file that `data build` makes of them"));
    }
    write_lines(&arguments.out, &primevul_lines(&records))?;
    println(&format!("{} records written to {}", records.len(), arguments.out.display()))
}

/// The pairs that pass licence and decontamination, and how many did not, by reason.
fn filtered(arguments: &ExportArguments, mut pairs: Vec<RepairPair>) -> Result<(Vec<RepairPair>, Counts)> {
    let mut left_out = Vec::new();
    if !arguments.license.is_empty() {
        let (kept, refused): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|pair| license_allowed(license_of(pair), &arguments.license));
        left_out.extend(counts(refused.iter().map(|pair| format!("licence {}", license_of(pair)))));
        pairs = kept;
    }
    let config = OverlapConfig { ngram: arguments.ngram, share: arguments.overlap };
    for file in &arguments.decontaminate {
        let texts: Vec<BenchmarkText> = read_benchmark_texts(file)?;
        let found = contamination(&pairs, &texts, &config);
        for overlap in &found.overlaps {
            println(&format!(
                "{}: {} holds {:.0} % of {}",
                overlap.pair,
                overlap.place,
                100.0 * overlap.share,
                overlap.benchmark
            ))?;
        }
        if !found.too_short.is_empty() {
            println(&format!(
                "{}: {} of {} texts are too short to be looked for",
                file.display(),
                found.too_short.len(),
                texts.len()
            ))?;
        }
        if !found.overlaps.is_empty() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            left_out.push((format!("overlap with {name}"), found.overlaps.len()));
        }
        let held: HashSet<&str> = found.overlaps.iter().map(|overlap| overlap.pair.as_str()).collect();
        pairs.retain(|pair| !held.contains(pair.id.as_str()));
    }
    for (reason, count) in &left_out {
        println(&format!("  {count:>6}  left out: {reason}"))?;
    }
    Ok((pairs, left_out))
}

fn check_folder(out: &Path) -> Result<()> {
    if out.is_file() || (out.is_dir() && fs_err::read_dir(out)?.next().is_some()) {
        return Err(Failure::user(format!("{}: something is there already", out.display()))
            .with_hint("name a folder that is empty or not there"));
    }
    Ok(())
}
