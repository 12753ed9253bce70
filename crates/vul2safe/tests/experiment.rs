//! An experiment in miniature: search, runs side by side, figures over seeds; killed and continued it is the same.

mod common;

use std::fs;
use std::time::Duration;

use common::{refused, start, succeeded, tiny_run, vul2safe};
use serde_json::Value;

const RECIPE: &str = r#"
name = "small"

[data]
source = "range"
families = ["render_html", "make_token", "token_row", "join_values"]

[base]
corpus = "range"

[sft]
maximum_tokens = 400
maximum_examples = 32

[ppo.validation]
every = 1
tasks = 6
keep_best = false

[arms.token]

[arms.last]
placement = "last"
lambda = 1.0

[arms.no-positives]
tuned_as = "token"
seeds = 2
reward = { positive = 0.0 }

[evaluation]
suite = "range"
samples = 2
families = ["render_html", "make_token", "token_row", "join_values"]

[experiment]
seeds = 3
side_by_side = 2
endpoints = ["the vulnerable rate"]
compare = ["token"]

[experiment.search]
seeds = [100]
arms = ["token", "last"]
updates = 1
settings = [{ training = { optimizer = { learning_rate = 1e-4 } } }, { training = { optimizer = { learning_rate = 3e-4 } } }]
"#;

fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    tiny_run("small.toml", out, more)
}

/// The figures without the time they took.
fn table(text: &str) -> Value {
    let mut table: Value = serde_json::from_str(text).expect("JSON");
    table["seconds"] = Value::Null;
    for arm in table["arms"].as_array_mut().expect("arms") {
        if let Some(training) = arm["groups"]["training"].as_object_mut() {
            training.remove("scoring_share");
        }
    }
    let differences = table["differences"].as_array_mut().expect("differences");
    differences.retain(|one| one["measure"] != "scoring_share");
    table
}

#[test]
fn an_experiment_survives_kills_and_says_what_came_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    fs::write(at.join("small.toml"), RECIPE).expect("written");
    let plan = succeeded(&vul2safe(at, &arguments("whole", &["--dry-run"])));
    for words in ["3 seeds", "8 arms", "2 settings", "2 at the same time"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    let page = succeeded(&vul2safe(at, &arguments("whole", &[])));
    assert!(page.trim().ends_with("report.html"), "{page}");

    for wait in [700, 1500, 2500] {
        let mut child = start(at, &arguments("killed", &[]));
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill();
        child.wait().expect("a child");
    }
    succeeded(&vul2safe(at, &arguments("killed", &[])));
    let read = |run: &str, file: &str| fs::read_to_string(at.join(run).join(file)).expect("a file");
    let whole = table(&read("whole", "experiment.json"));
    assert_eq!(whole, table(&read("killed", "experiment.json")));

    let arms = whole["arms"].as_array().expect("arms");
    let names: Vec<&str> = arms.iter().filter_map(|arm| arm["arm"].as_str()).collect();
    assert_eq!(names, ["base", "sft", "last", "no-positives", "token"]);
    let seeds = |arm: usize| arms[arm]["seeds"].as_array().expect("seeds").len();
    assert_eq!((seeds(0), seeds(2), seeds(3)), (3, 3, 2));
    let token = &arms[4];
    assert!(token["groups"]["training"]["both_area"]["mean"].as_f64().is_some());
    assert!(token["groups"]["training"]["kl"]["low"].as_f64().is_some(), "several seeds have an interval");
    assert!(
        token["groups"]["several places"]["functional"]["values"].as_array().is_some_and(|v| v.len() == 3)
    );
    assert_eq!(token["curves"]["both"].as_array().expect("a curve").len(), 3);
    let differences = whole["differences"].as_array().expect("differences");
    assert!(differences.iter().all(|one| one["first"] == "token" && one["second"] != "token"));
    assert!(differences.iter().any(|one| one["second"] == "last" && one["measure"] == "functional"));

    // Each of two arms has one taken setting, and the arm that follows has it as well, under its own keys.
    let search = whole["search"].as_array().expect("a search");
    assert_eq!(search.len(), 4);
    assert_eq!(search.iter().filter(|one| one["chosen"] == true).count(), 2);
    let config: toml::Table = read("whole", "seed-0/config.toml").parse().expect("TOML");
    let rate = |arm: &str| config["arms"][arm]["training"]["optimizer"]["learning_rate"].as_float();
    assert!(rate("token").is_some() && rate("token") == rate("no-positives"));
    assert_eq!(config["arms"]["no-positives"]["reward"]["positive"].as_float(), Some(0.0));
    assert!(!at.join("whole/seed-2/validation/no-positives.jsonl").exists());

    let page = read("whole", "report.html");
    for words in
        ["Written down before the runs", "the vulnerable rate", "no-positives", "token, less each other"]
    {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn an_arm_that_collapses_costs_no_other_arm_and_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // Every policy counts as collapsed below so high an entropy: one arm of the runs, one setting of the search.
    let arm = "[arms.last]\n";
    let wreck = "[arms.wreck]\nseeds = 2\ntraining = { minimum_entropy = 100.0 }\n\n[arms.last]\n";
    let setting = "{ training = { optimizer = { learning_rate = 3e-4 } } }";
    let hopeless = "{ training = { minimum_entropy = 100.0 } }";
    assert!(RECIPE.contains(arm) && RECIPE.contains(setting));
    let recipe = RECIPE.replace(arm, wreck).replace(setting, hopeless);
    fs::write(at.join("small.toml"), &recipe).expect("written");
    succeeded(&vul2safe(at, &arguments("out", &[])));
    let text = fs::read_to_string(at.join("out/experiment.json")).expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    let arms: Vec<&str> =
        figures["arms"].as_array().expect("arms").iter().filter_map(|arm| arm["arm"].as_str()).collect();
    assert_eq!(arms, ["base", "sft", "last", "no-positives", "token"], "the wreck is in no figure");
    let collapsed = figures["collapsed"].as_array().expect("the wrecks");
    assert_eq!(collapsed.len(), 2, "one in each of its seeds: {collapsed:?}");
    assert!(collapsed.iter().all(|one| one["arm"] == "wreck"));
    assert!(collapsed[0]["why"].as_str().is_some_and(|why| why.contains("update 0")), "{collapsed:?}");
    let tried = figures["search"].as_array().expect("a search");
    for one in tried {
        let hopeless = one["setting"].as_str().is_some_and(|setting| setting.contains("entropy"));
        assert_eq!(one["chosen"] == true, !hopeless, "{one}");
        assert_eq!(one["collapsed"].as_array().is_some(), hopeless, "{one}");
    }
    let page = fs::read_to_string(at.join("out/report.html")).expect("a page");
    assert!(page.contains("Collapsed") && page.contains("wreck, seed 1"));

    // Outside an experiment the run stops and says why.
    let alone = recipe.split("[experiment]").next().expect("the recipe before it");
    fs::write(
        at.join("alone.toml"),
        alone.replace("tuned_as = \"token\"\nseeds = 2\n", "").replace("seeds = 2\n", ""),
    )
    .expect("written");
    refused(&vul2safe(at, &tiny_run("alone.toml", "alone", &[])), &["wreck", "entropy"]);

    // With nothing but hopeless settings there is nothing to take.
    let none = recipe.replace("{ training = { optimizer = { learning_rate = 1e-4 } } }", hopeless);
    fs::write(at.join("none.toml"), none).expect("written");
    refused(
        &vul2safe(at, &tiny_run("none.toml", "none", &[])),
        &["collapsed with every setting", "learning rates"],
    );
}

#[test]
fn slips_in_an_experiment_are_named_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    fs::write(at.join("small.toml"), RECIPE).expect("written");
    for (slip, words) in [
        ("experiment.seeds=0", &["experiment.seeds"][..]),
        ("experiment.compare=[\"tokens\"]", &["compare", "tokens"]),
        ("experiment.search.arms=[\"no-positives\"]", &["no-positives"]),
        ("experiment.search.seeds=[1]", &["search.seeds"]),
        ("experiment.search.settings=[{ lambdas = 1.0 }]", &["lambdas"]),
        ("arms.no-positives.tuned_as=\"tokens\"", &["tuned_as", "tokens"]),
        ("ppo.validation.every=0", &["validation.every"]),
    ] {
        refused(&vul2safe(at, &arguments("out", &["--set", slip])), words);
    }
    assert!(!at.join("out").exists());
}
