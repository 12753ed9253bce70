//! A run that trains an adapter, whole and killed, and what can be done with its folders.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{refused, start, succeeded, tiny_demo, vul2safe};
use vul2safe::stages::base::open_model;
use vul2safe_model::{Config, Model, Placement};
use vul2safe_tokens::Tokenizer;

const LORA: &[&str] = &[
    "--set",
    "lora.rank=4",
    "--set",
    "lora.target_modules=[\"q_proj\", \"v_proj\", \"down_proj\"]",
    "--set",
    "lora.dropout=0.1",
    "--set",
    "model.precision=bfloat16",
    "--set",
    "sft.checkpoint_every=1",
    "--set",
    "sft.training.gradient_checkpointing=true",
    "--set",
    "threads=2",
];

fn finished(run: &Path) -> usize {
    fs::read_to_string(run.join("journal.jsonl")).unwrap_or_default().lines().count()
}

#[test]
fn a_run_with_an_adapter_leaves_adapters_that_the_steps_can_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeded(&vul2safe(at, &tiny_demo("whole", LORA)));
    for name in ["sft", "ppo-token", "ppo-last"] {
        let checkpoint = at.join("whole/checkpoints").join(name);
        let text = fs::read_to_string(checkpoint.join("adapter_config.json")).expect("an adapter");
        let config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(config["base_model_name_or_path"], "../base");
        assert_eq!(config["r"], 4);
        assert!(!checkpoint.join("model.safetensors").exists(), "{name}: the base is not written again");
    }
    let environment = fs::read_to_string(at.join("whole/environment.json")).expect("environment.json");
    let environment: serde_json::Value = serde_json::from_str(&environment).expect("JSON");
    assert_eq!(environment["threads"], 2, "{environment}");
    assert!(!at.join("whole/checkpoints/sft-training").exists(), "what nobody needs is gone");

    // Killed inside SFT and inside the second arm, it ends with the same figures.
    let run = at.join("killed");
    for stages in [3, 5] {
        let mut child = start(at, &tiny_demo("killed", LORA));
        let deadline = Instant::now() + Duration::from_secs(120);
        while finished(&run) < stages && child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "{stages} stages were never finished");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(60));
        // SIGKILL, on a child that may have ended.
        let _ = child.kill();
        child.wait().expect("a child");
    }
    succeeded(&vul2safe(at, &tiny_demo("killed", LORA)));
    let table = |run: &str| fs::read_to_string(at.join(run).join("evaluation.json")).expect("a table");
    assert_eq!(table("killed"), table("whole"));

    adapters_find_their_base(at);
}

fn adapters_find_their_base(at: &Path) {
    let generate = |model: &str, more: &[&str]| {
        let mut arguments =
            vec!["generate", "--model", model, "--prompt", "Write f.", "--maximum-new-tokens", "3"];
        arguments.extend(more);
        vul2safe(at, &arguments)
    };
    // A run folder that was moved still holds its base beside its adapters.
    fs::rename(at.join("whole"), at.join("moved")).expect("moved");
    let answer = succeeded(&generate("moved/checkpoints/sft", &[]));
    let given = succeeded(&generate("moved/checkpoints/sft", &["--base", "moved/checkpoints/base"]));
    assert_eq!(answer, given);
    let table = succeeded(&vul2safe(
        at,
        &[
            "eval",
            "--model",
            "moved/checkpoints/base",
            "--model",
            "moved/checkpoints/ppo-token",
            "--per-family",
            "1",
            "--out",
            "measured",
        ],
    ));
    assert!(table.contains("ppo-token"), "{table}");
    // Training goes on with an adapter, whose base is outside of the new run folder.
    let data = "moved/data/primevul-plus.jsonl";
    let trained = succeeded(&vul2safe(
        at,
        &[
            "train",
            "sft",
            "--data",
            data,
            "--model",
            "moved/checkpoints/sft",
            "--out",
            "more",
            "--set",
            "sft.training.maximum_steps=1",
        ],
    ));
    assert!(at.join(trained.trim()).join("adapter_model.safetensors").exists(), "{trained}");
    succeeded(&generate(trained.trim(), &[]));

    refused(&generate("moved/checkpoints/base", &["--base", "moved/checkpoints/base"]), &["no adapter"]);
    refused(&generate("moved/checkpoints/sft", &["--base", "nowhere"]), &["nowhere", "base"]);
    let other = at.join("other");
    fs::create_dir(&other).expect("made");
    for name in ["adapter_model.safetensors", "tokenizer.json"] {
        fs::copy(at.join("moved/checkpoints/sft").join(name), other.join(name)).expect("copied");
    }
    let text = fs::read_to_string(at.join("moved/checkpoints/sft/adapter_config.json")).expect("read");
    fs::write(other.join("adapter_config.json"), text).expect("written");
    refused(&generate("other", &[]), &["../base", "--base"]);
    fs::write(other.join("adapter_config.json"), "{ \"peft_type\": ").expect("written");
    refused(&generate("other", &[]), &["adapter_config.json"]);
    fs::write(other.join("adapter_config.json"), "{ \"peft_type\": \"LORA\" }").expect("written");
    refused(&generate("other", &[]), &["names no base model", "--base"]);
    // Another base: the same shape, other weights.
    let text = fs::read_to_string(at.join("moved/checkpoints/sft/adapter_config.json")).expect("read");
    fs::write(other.join("adapter_config.json"), text).expect("written");
    let config = Config::from_folder(&at.join("moved/checkpoints/base")).expect("a model");
    Model::random(config, 9).expect("a model").save(&at.join("strange")).expect("saved");
    refused(&generate("other", &["--base", "strange"]), &["other", "strange", "fingerprint"]);
    let again = vul2safe(
        at,
        &["train", "sft", "--data", data, "--model", "other", "--base", "strange", "--out", "never"],
    );
    refused(&again, &["fingerprint"]);
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let words: Vec<String> = (0..400).map(|number| format!("def word_{number}(value_{number}): ")).collect();
    let tokenizer = Tokenizer::train(words.iter().map(String::as_str), 400).expect("a tokenizer");
    let size = tokenizer.vocabulary_size();
    tokenizer.save(folder.path()).expect("saved");
    let model = Model::random(Config::new(size - 1, 32, 64, 1, 2, 1), 1).expect("a model");
    model.save(folder.path()).expect("saved");
    let failure = open_model(folder.path(), None, Placement::default()).expect_err("must be refused");
    assert!(failure.message.contains(&format!("{size} ids")) && failure.hint.is_some(), "{failure:?}");
    // Rows beyond the tokenizer's ids are usual: matrices are padded.
    Model::random(Config::new(512, 32, 64, 1, 2, 1), 1).expect("a model").save(folder.path()).expect("saved");
    open_model(folder.path(), None, Placement::default()).expect("more rows than ids");
}
