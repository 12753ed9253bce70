//! The demo in miniature: whole, and killed inside each of its stages.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{refused, start, succeeded, tiny_demo, vul2safe};

/// Stages of the demo, in order.
const STAGES: [&str; 11] = [
    "import",
    "build",
    "base",
    "sft",
    "ppo-last",
    "ppo-token",
    "evaluate-base",
    "evaluate-sft",
    "evaluate-ppo-last",
    "evaluate-ppo-token",
    "table",
];

fn journal(run: &Path) -> Vec<String> {
    fs::read_to_string(run.join("journal.jsonl"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|entry| entry["stage"].as_str().map(str::to_owned))
        .collect()
}

fn evaluation(run: &Path) -> String {
    fs::read_to_string(run.join("evaluation.json")).expect("evaluation.json")
}

#[test]
fn killed_inside_each_stage_it_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeded(&vul2safe(at, &tiny_demo("whole", &[])));
    assert_eq!(journal(&at.join("whole")), STAGES);

    let run = at.join("killed");
    for (finished, stage) in STAGES.iter().enumerate() {
        let mut child = start(at, &tiny_demo("killed", &[]));
        let deadline = Instant::now() + Duration::from_secs(120);
        while journal(&run).len() < finished && child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "stage {stage} never began");
            std::thread::sleep(Duration::from_millis(2));
        }
        // A moment into the stage; a quick one may be over by then, which must do no harm either.
        std::thread::sleep(Duration::from_millis(40));
        // SIGKILL, on a child that may have ended.
        let _ = child.kill();
        child.wait().expect("a child");
    }
    let report = succeeded(&vul2safe(at, &tiny_demo("killed", &[])));
    assert_eq!(journal(&run), STAGES, "every stage once, in order");
    assert_eq!(evaluation(&run), evaluation(&at.join("whole")), "the same figures as without a kill");
    let metrics = |run: &str| {
        let text = fs::read_to_string(at.join(run).join("metrics.jsonl")).expect("metrics");
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line"))
            .map(|line| (line["stage"].to_string(), line["step"].to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(metrics("killed"), metrics("whole"), "no step is missing or twice");

    let page = fs::read_to_string(report.trim())
        .or_else(|_| fs::read_to_string(at.join(report.trim())))
        .expect("report");
    for word in ["ppo-token", "ppo-last", "sft", "base", "held-out names", "unparsable"] {
        assert!(page.contains(word), "the report names {word}");
    }
    assert!(!page.contains("http://") && !page.contains("src=\"https://"), "the report needs no network");

    // Again: nothing is done twice. With another seed: refused, nothing is lost.
    succeeded(&vul2safe(at, &tiny_demo("killed", &[])));
    assert_eq!(journal(&run), STAGES);
    refused(&vul2safe(at, &tiny_demo("killed", &["--seed", "1"])), &["seed", "--out"]);
    assert_eq!(journal(&run), STAGES);

    models_of_a_run_can_be_used(at);
}

/// The steps that take a model, with the models that the run left, and with folders that are broken.
fn models_of_a_run_can_be_used(at: &Path) {
    let model = "whole/checkpoints/sft";
    succeeded(&vul2safe(
        at,
        &["generate", "--model", model, "--prompt", "Write a function.", "--maximum-new-tokens", "5"],
    ));
    fs::write(at.join("prompts.jsonl"), "{\"prompt\": \"Write f.\", \"id\": 7}\n").expect("written");
    let answers = succeeded(&vul2safe(
        at,
        &["generate", "--model", model, "--prompts", "prompts.jsonl", "-n", "2", "--temperature", "1"],
    ));
    assert_eq!(answers.matches("\"id\":7").count(), 2, "{answers}");
    let table =
        succeeded(&vul2safe(at, &["eval", "--model", model, "--per-family", "1", "--out", "measured"]));
    assert!(table.contains("functional") && table.contains("both"), "{table}");
    let checkpoints = succeeded(&vul2safe(
        at,
        &[
            "train",
            "sft",
            "--data",
            "whole/data/primevul-plus.jsonl",
            "--model",
            "whole/checkpoints/base",
            "--out",
            "more",
            "--set",
            "sft.training.maximum_steps=1",
        ],
    ));
    assert!(at.join(checkpoints.trim()).join("model.safetensors").exists(), "{checkpoints}");

    let broken = at.join("broken");
    copy(&at.join(model), &broken);
    fs::remove_file(broken.join("tokenizer.json")).expect("removed");
    refused(&vul2safe(at, &["generate", "--model", "broken", "--prompt", "x"]), &["broken", "tokenizer"]);
    copy(&at.join(model), &broken);
    let weights = broken.join("model.safetensors");
    let bytes = fs::read(&weights).expect("weights");
    fs::write(&weights, &bytes[..bytes.len() / 2]).expect("written");
    refused(&vul2safe(at, &["generate", "--model", "broken", "--prompt", "x"]), &["model.safetensors"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn a_dry_run_touches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = succeeded(&vul2safe(folder.path(), &tiny_demo("out", &["--dry-run"])));
    for word in ["records", "tokens", "steps", "disk", "ppo-token", "ppo-last"] {
        assert!(plan.contains(word), "`{word}` is missing: {plan}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn two_seeds_make_two_corpora() {
    let codes = |seed| -> Vec<String> {
        vul2safe_range::base_corpus(20, 0.5, seed).into_iter().map(|document| document.code).collect()
    };
    assert_eq!(codes(0), codes(0));
    assert_ne!(codes(0), codes(1));
}
