//! `data build`.

use vul2safe_corpus::{Split, SplitConfig, VulnerabilityRecord, write_primevul_plus};
use vul2safe_repair::RepairConfig;

use super::{Session, check_output, println, recipe};
use crate::cli::BuildArguments;
use crate::failure::{Failure, Result};
use crate::stages::build::{Author, build, check_none_open, rejected_by_reason};
use crate::stages::{derive_seed, open_judge, read_lines, write_lines};

pub(super) fn run(session: &Session, arguments: &BuildArguments) -> Result<()> {
    let recipe = recipe(arguments.recipe.as_deref(), &arguments.set)?;
    let records: Vec<VulnerabilityRecord> = read_lines(&arguments.records).map_err(|failure| {
        failure.with_hint("`vul2safe data import` writes the records that this step reads")
    })?;
    if records.is_empty() {
        return Err(Failure::user(format!("{} holds no records", arguments.records.display()))
            .with_hint("`vul2safe data import` writes the records that this step reads"));
    }
    let rejected = arguments.out.with_extension("rejected.jsonl");
    check_output(&arguments.out, &arguments.records)?;
    check_output(&rejected, &arguments.records)?;
    let author = Author::open(
        recipe.teacher.as_ref(),
        &arguments.out.with_extension("answers.sqlite"),
        &arguments.out.with_extension("dialogue"),
    )?;
    let judge = open_judge(session.allow_unprotected)?;
    let config = RepairConfig { seed: derive_seed(recipe.seed, "prompts"), ..recipe.repair };
    let split = SplitConfig { seed: derive_seed(recipe.seed, "split"), ..recipe.data.split };
    session.progress.begin("Vul2Safe: repair, verify, write implicit prompts");
    let built = build(&records, &author, &judge, &config, &split, &session.progress);
    session.progress.end("  done");
    if let Some(spending) = author.spending() {
        session.progress.say(&spending);
    }
    write_primevul_plus(&arguments.out, &built.pairs)?;
    write_lines(&rejected, &built.rejected)?;
    println(&format!("{} accepted, written to {}", built.pairs.len(), arguments.out.display()))?;
    let part = |split| built.pairs.iter().filter(|pair| pair.split == split).count();
    println(&format!(
        "  {} to train, {} to validate, {} to test",
        part(Split::Train),
        part(Split::Validation),
        part(Split::Test)
    ))?;
    let undated = built.pairs.iter().filter(|pair| pair.date.is_none()).count();
    if split.hold_out_from.is_some() && undated > 0 {
        println(&format!(
            "  {undated} have no date: they are for validation, so that nothing later is learnt"
        ))?;
    }
    println(&format!("{} rejected, written to {}", built.rejected.len(), rejected.display()))?;
    for (reason, count) in rejected_by_reason(&built.rejected) {
        println(&format!("  {count:>6}  {reason}"))?;
    }
    check_none_open(&built)
}
