//! `eval`.

use std::path::Path;

use vul2safe_corpus::read_primevul_plus;
use vul2safe_evaluate::table;
use vul2safe_model::{Adapter, Placement, SamplingOptions};
use vul2safe_run::write_atomic;

use super::{Session, println};
use crate::cli::EvalArguments;
use crate::failure::{Failure, Result};
use crate::recipe::EvaluationConfig;
use crate::stages::base::open_model;
use crate::stages::evaluate::{answer_items, items, render_table};
use crate::stages::{derive_seed, open_judge, write_lines};

pub(super) fn run(session: &Session, arguments: &EvalArguments) -> Result<()> {
    let config = EvaluationConfig {
        suite: arguments.suite,
        per_family: arguments.per_family,
        temperature: arguments.temperature,
        ..EvaluationConfig::default()
    };
    let pairs = match &arguments.data {
        Some(path) => read_primevul_plus(path)?,
        None => Vec::new(),
    };
    let names = names(&arguments.models)?;
    let items = items(&config, &pairs, derive_seed(arguments.seed, "evaluation"))?;
    let sampling = SamplingOptions { temperature: arguments.temperature, ..SamplingOptions::default() };
    sampling.check().map_err(|error| Failure::from(error).with_hint("give `--temperature` 0 or more"))?;
    if let Some(base) = &arguments.base
        && !arguments.models.iter().any(|folder| Adapter::is_folder(folder))
    {
        return Err(Failure::user(format!("--base {}: no model is an adapter", base.display()))
            .with_hint("leave it out, or give `--model` a folder with adapter_config.json"));
    }
    fs_err::create_dir_all(&arguments.out)?;
    let judge = open_judge(session.allow_unprotected)?;
    let placement =
        Placement { device: arguments.device, precision: arguments.precision.into(), frozen: true };
    let mut models = Vec::new();
    for (folder, name) in arguments.models.iter().zip(names) {
        session.progress.begin(&format!("evaluating `{name}`"));
        let (model, tokenizer) = {
            // The base is for the adapters; a whole model beside them needs none.
            let base = arguments.base.as_deref().filter(|_| Adapter::is_folder(folder));
            open_model(folder, base, placement)?
        };
        let seed = derive_seed(arguments.seed, "answers");
        let answered = answer_items(&model, &tokenizer, &items, &config, seed, &judge, &session.progress)?;
        write_lines(&arguments.out.join(format!("{name}.jsonl")), &answered)?;
        session.progress.end("  done");
        models.push((name, answered));
    }
    let table = table(&format!("{:?}", arguments.suite).to_lowercase(), &items, &models)?;
    let mut bytes = serde_json::to_vec_pretty(&table)
        .map_err(|error| Failure::program(format!("the table cannot be written as JSON: {error}")))?;
    bytes.push(b'\n');
    write_atomic(&arguments.out.join("evaluation.json"), &bytes)?;
    println(&render_table(&table))
}

/// The last part of each folder's path, which must tell the models apart.
fn names(folders: &[std::path::PathBuf]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for folder in folders {
        let name = folder_name(folder);
        if names.contains(&name) {
            return Err(Failure::user(format!("two model folders are called `{name}`")).with_hint(
                "the table names models by the last part of their path; rename one or make a link",
            ));
        }
        names.push(name);
    }
    Ok(names)
}

fn folder_name(folder: &Path) -> String {
    // `.` and `..` have no last part of their own.
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    resolved.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}
