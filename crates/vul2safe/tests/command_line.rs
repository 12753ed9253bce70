//! The separate steps as a stranger would use them, with right and wrong input.

mod common;

use std::fs;
use std::path::Path;

use common::{refused, stderr, stdout, succeeded, vul2safe};

const VULNERABLE: &str = "def find_user(conn, name):\n    \"\"\"Return the row of the user with this name.\"\"\"\n    query = \"SELECT * FROM users WHERE name = '%s'\" % name\n    return conn.execute(query).fetchone()\n";
const SECURE: &str = "def find_user(conn, name):\n    \"\"\"Return the row of the user with this name.\"\"\"\n    query = \"SELECT * FROM users WHERE name = ?\"\n    return conn.execute(query, (name,)).fetchone()\n";

fn line(id: &str, vulnerable: &str, secure: &str) -> String {
    serde_json::json!({ "id": id, "vulnerable": vulnerable, "secure": secure, "cwe": "CWE-89" }).to_string()
        + "\n"
}

/// A folder with a PrimeVul+ file of one pair, made by the steps themselves.
fn built() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("fixes.jsonl"), line("one", VULNERABLE, SECURE)).expect("written");
    succeeded(&import(folder.path(), "fixes.jsonl"));
    succeeded(&vul2safe(folder.path(), &["data", "build", "records.jsonl", "--out", "plus.jsonl"]));
    folder
}

fn import(folder: &Path, file: &str) -> std::process::Output {
    vul2safe(
        folder,
        &[
            "data",
            "import",
            file,
            "--source",
            "jsonl",
            "--column",
            "id=id",
            "--column",
            "cwe=cwe",
            "--out",
            "records.jsonl",
        ],
    )
}

fn first_id(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("plus.jsonl")).expect("plus.jsonl");
    let pair: serde_json::Value = serde_json::from_str(text.lines().next().expect("a pair")).expect("JSON");
    pair["id"].as_str().expect("an id").to_owned()
}

#[test]
fn data_prompts_writes_what_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = succeeded(&vul2safe(folder.path(), &["data", "prompts", "--out", "prompts"]));
    assert_eq!(written.lines().count(), 6, "{written}");
    let judge = folder.path().join("prompts/judge.j2");
    assert!(fs::read_to_string(&judge).expect("a prompt").contains("=== user ==="));
    fs::write(&judge, "mine").expect("written");
    let again = succeeded(&vul2safe(folder.path(), &["data", "prompts", "--out", "prompts"]));
    assert!(again.contains("nothing was written"), "{again}");
    assert_eq!(fs::read_to_string(&judge).expect("a prompt"), "mine");
    refused(&vul2safe(folder.path(), &["data", "prompts", "--out", "prompts/judge.j2"]), &["judge.j2"]);
}

#[test]
fn data_show_marks_spans_and_prints_prompts() {
    let folder = built();
    let shown = succeeded(&vul2safe(folder.path(), &["data", "show", "plus.jsonl"]));
    assert!(shown.contains("⟦-") && shown.contains("⟦+"), "{shown}");
    assert!(
        shown.contains("implicit prompts") && shown.contains("find_user") && shown.contains("CWE-89"),
        "{shown}"
    );
    let checked = succeeded(&vul2safe(folder.path(), &["data", "check", "plus.jsonl"]));
    assert!(checked.contains("1 pairs, no problem"), "{checked}");
}

#[test]
fn score_prints_tokens_with_rewards_and_reasons() {
    let folder = built();
    let id = first_id(folder.path());
    let score = |answer: &str| {
        succeeded(&vul2safe(
            folder.path(),
            &["score", "--data", "plus.jsonl", "--id", &id, "--answer", answer],
        ))
    };
    let secure = score("secure");
    assert!(secure.contains("total +") && secure.contains("secure"), "{secure}");
    let vulnerable = score("vulnerable");
    assert!(vulnerable.contains("total -") && vulnerable.contains("vulnerable"), "{vulnerable}");
    fs::write(folder.path().join("broken.py"), "def find_user(conn, name:\n    return (\n").expect("written");
    let broken = score("broken.py");
    assert!(broken.contains("failed") && broken.contains("total -"), "{broken}");
}

#[test]
fn analyze_names_place_rule_and_weakness() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("users.py"), VULNERABLE).expect("written");
    let found = succeeded(&vul2safe(folder.path(), &["analyze", "users.py"]));
    assert!(found.contains("users.py:") && found.contains("CWE-89"), "{found}");
    fs::write(folder.path().join("fixed.py"), SECURE).expect("written");
    assert_eq!(succeeded(&vul2safe(folder.path(), &["analyze", "fixed.py", "--fail"])), "");
    let failed = vul2safe(folder.path(), &["analyze", "users.py", "--fail"]);
    assert_eq!(failed.status.code(), Some(1));
}

#[test]
fn bad_lines_are_dropped_with_their_reason_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = line("good", VULNERABLE, SECURE).into_bytes();
    bytes.extend(line("same", SECURE, SECURE).bytes());
    bytes.extend(b"\xff\xfe not text\n");
    bytes.extend(b"{\"id\": \"cut\", \"vulnerable\": \"def f(");
    fs::write(folder.path().join("fixes.jsonl"), bytes).expect("written");
    let told = succeeded(&import(folder.path(), "fixes.jsonl"));
    assert!(told.contains("4 read, 1 written"), "{told}");
    for reason in ["identical_sides", "not_utf8", "truncated"] {
        assert!(told.contains(reason), "{reason} is missing: {told}");
    }
    assert!(told.contains("fixes.jsonl:3"), "the place is named: {told}");
    assert_eq!(fs::read_to_string(folder.path().join("records.jsonl")).expect("records").lines().count(), 1);
}

#[test]
fn a_function_of_a_hundred_thousand_characters_passes_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let filler: String = (0..3_000).map(|index| format!("    value_{index} = {index} * 17 + 3\n")).collect();
    let long = |query: &str| {
        format!("def find_user(conn, name):\n{filler}    return conn.execute({query}).fetchone()\n")
    };
    let vulnerable = long("\"SELECT * FROM users WHERE name = '%s'\" % name");
    assert!(vulnerable.len() > 80_000);
    let secure = long("\"SELECT * FROM users WHERE name = ?\", (name,)");
    fs::write(folder.path().join("fixes.jsonl"), line("long", &vulnerable, &secure)).expect("written");
    succeeded(&import(folder.path(), "fixes.jsonl"));
    let told =
        succeeded(&vul2safe(folder.path(), &["data", "build", "records.jsonl", "--out", "plus.jsonl"]));
    assert!(told.contains("1 accepted") || told.contains("1 rejected"), "{told}");
}

#[test]
fn swapped_sides_are_not_trained_on() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("fixes.jsonl"), line("swapped", SECURE, VULNERABLE)).expect("written");
    succeeded(&import(folder.path(), "fixes.jsonl"));
    let told =
        succeeded(&vul2safe(folder.path(), &["data", "build", "records.jsonl", "--out", "plus.jsonl"]));
    assert!(told.contains("0 accepted") && told.contains("1 rejected"), "{told}");
}

#[test]
fn missing_files_and_wrong_extensions_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    refused(&vul2safe(at, &["run", "nowhere.toml"]), &["nowhere.toml"]);
    fs::write(at.join("recipe.txt"), "seed = 1\n").expect("written");
    refused(&vul2safe(at, &["run", "recipe.txt"]), &["recipe.txt", ".toml"]);
    refused(&import(at, "nowhere.jsonl"), &["nowhere.jsonl"]);
    fs::write(at.join("fixes.csv"), "vulnerable,secure\n").expect("written");
    refused(&import(at, "fixes.csv"), &["fixes.csv"]);
    refused(&vul2safe(at, &["data", "show", "nowhere.jsonl"]), &["nowhere.jsonl"]);
    refused(&vul2safe(at, &["report", "nowhere"]), &["nowhere"]);
    refused(&vul2safe(at, &["generate", "--model", "nowhere", "--prompt", "x"]), &["nowhere"]);
    refused(&vul2safe(at, &["analyze", "fixes.csv"]), &["fixes.csv", "--language"]);
}

#[test]
fn an_unknown_key_names_line_and_nearest_key() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("recipe.toml"), "seed = 1\n\n[sft]\nmaximum_token = 5\n").expect("written");
    refused(
        &vul2safe(folder.path(), &["run", "recipe.toml"]),
        &["recipe.toml", "line 4", "maximum_token", "maximum_tokens"],
    );
    assert!(!folder.path().join("runs").exists(), "nothing was written");
    refused(&vul2safe(folder.path(), &["demo", "--dry-run", "--set", "base.layer=1"]), &["--set", "layers"]);
}

#[test]
fn a_truncated_primevul_plus_file_names_its_line() {
    let folder = built();
    let path = folder.path().join("plus.jsonl");
    let mut text = fs::read_to_string(&path).expect("plus.jsonl");
    text.truncate(text.len() / 2);
    fs::write(&path, text).expect("written");
    let output = vul2safe(folder.path(), &["data", "check", "plus.jsonl"]);
    refused(&output, &["1 of 1 lines"]);
    assert!(stdout(&output).contains("plus.jsonl:1"), "{}", stdout(&output));
    refused(&vul2safe(folder.path(), &["data", "show", "plus.jsonl"]), &["plus.jsonl:1"]);
}

#[test]
fn a_pair_whose_sides_were_changed_afterwards_is_found() {
    let folder = built();
    let path = folder.path().join("plus.jsonl");
    let text = fs::read_to_string(&path).expect("plus.jsonl").replace("WHERE name = ?", "WHERE nick = ?");
    fs::write(&path, text).expect("written");
    let output = vul2safe(folder.path(), &["data", "check", "plus.jsonl"]);
    refused(&output, &["1 of 1 lines"]);
    assert!(
        stdout(&output).contains("plus.jsonl:1") && stdout(&output).contains("hash"),
        "{}",
        stdout(&output)
    );
    refused(&vul2safe(folder.path(), &["data", "show", "plus.jsonl"]), &["plus.jsonl:1", "hash"]);
}

#[test]
fn init_writes_a_recipe_that_can_be_planned_and_overwrites_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeded(&vul2safe(folder.path(), &["init"]));
    refused(&vul2safe(folder.path(), &["init"]), &["vul2safe.toml", "already"]);
    fs::write(folder.path().join("fixes.jsonl"), line("one", VULNERABLE, SECURE)).expect("written");
    let plan = vul2safe(
        folder.path(),
        &["run", "vul2safe.toml", "--dry-run", "--set", "data.path=fixes.jsonl", "--set", "model={}"],
    );
    let plan = succeeded(&plan);
    assert!(plan.contains("1 usable"), "{plan}");
}

#[test]
fn help_is_there_for_every_word() {
    let folder = tempfile::tempdir().expect("a folder");
    for words in [
        &["demo"][..],
        &["run"],
        &["init"],
        &["data"],
        &["data", "import"],
        &["data", "build"],
        &["data", "show"],
        &["data", "check"],
        &["train"],
        &["generate"],
        &["analyze"],
        &["score"],
        &["eval"],
        &["report"],
        &["range"],
        &["doctor"],
    ] {
        let mut arguments = words.to_vec();
        arguments.push("--help");
        let help = succeeded(&vul2safe(folder.path(), &arguments));
        assert!(help.contains("Usage: vul2safe"), "{help}");
    }
    let unknown = vul2safe(folder.path(), &["demmo"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", stderr(&unknown));
}

#[test]
fn a_line_that_is_not_utf8_does_not_hide_the_other_problems() {
    let folder = built();
    let path = folder.path().join("plus.jsonl");
    let mut bytes = fs::read(&path).expect("read");
    bytes.extend_from_slice(b"\xff\xfe\n{\"id\": 1}\n");
    fs::write(&path, bytes).expect("written");
    let output = vul2safe(folder.path(), &["data", "check", "plus.jsonl"]);
    refused(&output, &["2 of 3 lines"]);
    assert!(stdout(&output).contains("plus.jsonl:2") && stdout(&output).contains("plus.jsonl:3"));
}

#[test]
fn a_step_neither_replaces_its_input_nor_works_for_an_output_that_cannot_be() {
    let folder = built();
    let at = folder.path();
    let before = fs::read(at.join("records.jsonl")).expect("read");
    let build = |out: &str| vul2safe(at, &["data", "build", "records.jsonl", "--out", out]);
    refused(&build("records.jsonl"), &["records.jsonl", "input"]);
    refused(&build("."), &["folder"]);
    refused(&build("records.jsonl/plus.jsonl"), &["records.jsonl"]);
    assert_eq!(fs::read(at.join("records.jsonl")).expect("read"), before);
    succeeded(&build("new/folder/plus.jsonl"));
}

#[test]
fn what_a_run_lacks_is_said_before_its_folder_is_made() {
    let folder = built();
    let at = folder.path();
    let train = |data: &str, model: &str| {
        vul2safe(at, &["train", "sft", "--data", data, "--model", model, "--out", "trained"])
    };
    refused(&train("plus.jsonl", "nowhere"), &["nowhere", "model folder"]);
    refused(&train("nowhere.jsonl", "nowhere"), &["nowhere.jsonl"]);
    fs::create_dir(at.join("empty")).expect("made");
    refused(&train("plus.jsonl", "empty"), &["empty", "tokenizer.json"]);
    refused(&vul2safe(at, &["demo", "--out", "trained", "--set", "ppo.training.epochs=0"]), &["epochs"]);
    assert!(!at.join("trained").exists());
}

#[test]
fn doctor_names_the_machine_and_what_a_model_would_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let plain = succeeded(&vul2safe(at, &["doctor", "--threads", "3"]));
    for words in [
        "processor: ",
        " kernels",
        "threads: 3",
        "memory: ",
        "GPU: ",
        "C compiler: ",
        "Python: ",
        "sandbox: ",
    ] {
        assert!(plain.contains(words), "`{words}` is missing: {plain}");
    }
    let model = vul2safe_model::Model::random(vul2safe_model::Config::new(4096, 128, 384, 2, 4, 2), 1);
    model.expect("a model").save(&at.join("model")).expect("saved");
    let arguments = ["doctor", "--model", "model", "--length", "512", "--lora-rank", "8", "--threads", "2"];
    let told = succeeded(&vul2safe(at, &arguments));
    let table = told.split_once("model: ").expect("the model's part").1;
    // Sizes are the estimate's own business (tests/memory.rs).
    let words: Vec<String> = table
        .lines()
        .map(|line| {
            let words = line.split_whitespace();
            words
                .map(|word| if word.parse::<f64>().is_ok() { "#" } else { word })
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let end = words.iter().position(|line| line.starts_with("on a GPU")).unwrap_or(words.len());
    let (words, on_gpu) = words.split_at(end);
    // A program with the engine for GPUs has a heading and five rows more, whether or not one is at hand.
    assert_eq!(on_gpu.len(), if cfg!(feature = "cuda") { 6 } else { 0 }, "{on_gpu:?}");
    insta::assert_snapshot!(words.join("\n"), @r"
    model, 918,656 parameters; memory with micro-batches of # tokens, sequences of 512, LoRA of rank 8, # requests
    weights gradients moments activations cache peak
    sampling # MiB – – – # MiB # MiB fits
    training, all weights # MiB # MiB # MiB # MiB – # MiB fits
    the same with checkpointing # MiB # MiB # MiB # MiB – # MiB fits
    LoRA # MiB # MiB # MiB # MiB – # MiB fits
    LoRA on bfloat16 # MiB # MiB # MiB # MiB – # MiB fits
    the same with checkpointing # MiB # MiB # MiB # MiB – # MiB fits
    ");

    let json = succeeded(&vul2safe(at, &["doctor", "--model", "model", "--json"]));
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let uses = value["model"]["uses"].as_array().expect("uses");
    assert_eq!(uses.len(), 6, "{value}");
    assert!(
        uses.iter().all(|one| one["fits"] == true && one["estimate"]["needed"].as_u64() > Some(1 << 20)),
        "{value}"
    );
    assert!(value["available_memory"]["bytes"].as_u64() > Some(1 << 20), "{value}");

    refused(&vul2safe(at, &["doctor", "--model", "nowhere"]), &["nowhere"]);
    refused(&vul2safe(at, &["doctor", "--model", "model", "--length", "1000000"]), &["--length"]);
    fs::write(at.join("model/config.json"), "{ \"model_type\": ").expect("written");
    refused(&vul2safe(at, &["doctor", "--model", "model"]), &["config.json"]);
}

#[test]
fn a_number_of_threads_that_is_absurd_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(&vul2safe(folder.path(), &["doctor", "--threads", "1025"]), &["--threads 1025", "1024"]);
    succeeded(&vul2safe(folder.path(), &["doctor", "--threads", "0"]));
    fs::write(folder.path().join("recipe.toml"), "threads = 5000\n").expect("written");
    refused(&vul2safe(folder.path(), &["run", "recipe.toml", "--dry-run"]), &["threads = 5000"]);
}

#[test]
fn a_run_that_does_not_fit_into_memory_stops_before_it_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let huge = |more: &[&'static str]| {
        let sizes = ["base.hidden_size=32768", "base.intermediate_size=131072", "base.layers=200"];
        let mut arguments = vec!["demo", "--out", "out"];
        arguments.extend(sizes.iter().flat_map(|pair| ["--set", *pair]));
        arguments.extend(more);
        vul2safe(folder.path(), &arguments)
    };
    refused(
        &huge(&[]),
        &["stage `base`", "GiB", "is available", "--ignore-memory-estimate", "smaller model"],
    );
    let plan = succeeded(&huge(&["--dry-run"]));
    assert!(plan.contains("peak") && plan.contains("it does not fit"), "{plan}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing was written");
    let plan = succeeded(&vul2safe(folder.path(), &["demo", "--dry-run"]));
    for word in ["memory (estimates", "base ", "sft ", "ppo ", "evaluate ", "peak", "is available"] {
        assert!(plan.contains(word), "`{word}` is missing: {plan}");
    }
    assert!(!plan.contains("does not fit"), "{plan}");
}

#[test]
fn a_base_in_bfloat16_needs_an_adapter_to_train() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = |more: &[&'static str]| {
        let mut arguments = vec!["demo", "--dry-run", "--set", "model.precision=bfloat16"];
        arguments.extend(more);
        vul2safe(folder.path(), &arguments)
    };
    refused(&demo(&[]), &["bfloat16", "[lora]"]);
    succeeded(&demo(&["--set", "lora.rank=8"]));
    refused(&demo(&["--set", "lora.rank=0"]), &["[lora]", "rank"]);
    refused(&demo(&["--set", "lora.target_modules=[\"q\"]"]), &["q_proj"]);
    refused(&demo(&["--set", "model.base=x", "--set", "lora.rank=8"]), &["model.base", "model.path"]);
}
