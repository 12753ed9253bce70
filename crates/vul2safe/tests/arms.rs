//! Every kind of arm in miniature, with measuring between the updates; killed and continued it is the same.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{refused, start, succeeded, tiny_run, vul2safe};
use serde_json::Value;

const RECIPE: &str = r#"
name = "arms"

[data]
source = "range"

[base]
corpus = "range"

[sft]
maximum_tokens = 400
maximum_examples = 32

[ppo.validation]
every = 1
tasks = 6

[arms.token]

[arms.last]
placement = "last"
lambda = 1.0

[arms.instance]
placement = "last"
lambda = 1.0
reward = { positive = 0.0, negative = 0.0, instance = 1.0 }

[arms.group]
placement = "last"
training = { advantage = "group", answers_per_prompt = 4 }

[arms.group-token]
training = { advantage = "group_token", answers_per_prompt = 4 }

[arms.random]
control = "random_spans"

[arms.shuffled]
control = "shuffled_signs"

[arms.bad-repairs]
swapped_share = 0.3

[arms.one-style]
styles = ["plain_request", "issue"]

[arms.wide-clip]
training = { clip_low_rewarded = 0.4, clip_high_rewarded = 0.6 }

[arms.harmless]
harmless_share = 0.5

[arms.masked]
method = "masked_sft"

[arms.unlikely]
method = "unlikelihood"

[arms.preferred]
method = "preference"
preference = { epochs = 1, pairs_per_batch = 16 }

[evaluation]
suite = "range"
samples = 4
"#;

fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    tiny_run("arms.toml", out, more)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_arm_learns_is_measured_and_survives_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    fs::write(at.join("arms.toml"), RECIPE).expect("written");
    let plan = succeeded(&vul2safe(at, &arguments("whole", &["--dry-run"])));
    for words in
        ["GRPO on tokens", "vulnerable spans unlearned", "preference on changed tokens", "the last token"]
    {
        assert!(plan.contains(words), "{plan}");
    }
    succeeded(&vul2safe(at, &arguments("whole", &[])));

    for wait in [600, 900, 1200] {
        let mut child = start(at, &arguments("killed", &[]));
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill();
        child.wait().expect("a child");
    }
    succeeded(&vul2safe(at, &arguments("killed", &[])));
    let read = |run: &str, file: &str| fs::read_to_string(at.join(run).join(file)).expect("a file");
    assert_eq!(read("whole", "evaluation.json"), read("killed", "evaluation.json"));

    let of_ppo = [
        "token",
        "last",
        "instance",
        "group",
        "group-token",
        "random",
        "shuffled",
        "bad-repairs",
        "one-style",
        "wide-clip",
        "harmless",
    ];
    for arm in of_ppo {
        let file = format!("validation/{arm}.jsonl");
        assert_eq!(read("whole", &file), read("killed", &file), "{arm}");
        let points = lines(&at.join("whole").join(&file));
        let updates: Vec<_> =
            points.iter().map(|point| point["update"].as_u64().expect("a number")).collect();
        assert_eq!(updates, [0, 1, 2], "{arm}");
        assert_eq!(points[2]["rollouts"], 16);
        assert!(points[0]["rates"]["all"]["both"]["of"].as_u64().expect("a number") > 0);
        assert!(at.join("whole/checkpoints").join(format!("{arm}-best")).join("model.safetensors").exists());
    }
    let metrics = lines(&at.join("whole/metrics.jsonl"));
    let first = |arm: &str, name: &str| {
        let line =
            metrics.iter().find(|line| line["stage"] == arm && line["step"] == 0).expect("a first update");
        line[name].as_f64()
    };
    for arm in of_ppo {
        assert_eq!(first(arm, "first_ratio_error"), Some(0.0), "{arm}");
        assert!(first(arm, "validation_both").is_some() && first(arm, "cheat_unparsable").is_some());
    }
    // Arms with a critic see the same answers at first; what differs is where what is paid.
    assert_eq!(first("token", "response_length"), first("last", "response_length"));
    assert_eq!(first("token", "reward_mean"), first("last", "reward_mean"));
    assert_eq!(first("instance", "reward_record"), Some(0.0));
    let of_harmless = first("harmless", "harmless_functional");
    assert!(of_harmless.is_some_and(|share| (0.0..=1.0).contains(&share)), "{of_harmless:?}");
    assert_eq!(first("token", "harmless_functional"), None);
    assert!(first("group", "value_loss").is_none_or(|loss| loss == 0.0), "there is no critic");

    // The page of metrics explains every name that was logged.
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/reference/metrics.md"))
            .expect("the page");
    let known: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let logged: BTreeSet<&String> =
        metrics.iter().flat_map(|line| line.as_object().expect("an object").keys()).collect();
    let unexplained: Vec<_> = logged
        .into_iter()
        .filter(|name| !["stage", "step", "time", "nonfinite"].contains(&name.as_str()))
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

#[test]
fn what_an_arm_cannot_do_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let run = |arm: &str| {
        fs::write(at.join("arms.toml"), arm).expect("written");
        vul2safe(at, &["run", "arms.toml", "--out", "out"])
    };
    refused(&run("[arms.a]\nreward = { positiv = 1.0 }\n"), &["arms.a.reward", "positiv"]);
    refused(
        &run("[arms.a]\ntraining = { advantage = \"group\" }\n"),
        &["arms.a.training", "answers_per_prompt"],
    );
    refused(&run("[arms.a]\n[arms.a-best]\n"), &["arms.a-best"]);
    refused(&run("[arms.a]\nharmless_share = 1.0\n"), &["harmless_share", "below 1"]);
    refused(&run("[ppo.validation]\ntake_best = true\n[arms.a]\n"), &["take_best", "every"]);
    assert!(!at.join("out").exists());
    // Known only when the data is there.
    fs::write(at.join("arms.toml"), "[arms.a]\nstyles = [\"sonnet\"]\n").expect("written");
    refused(&vul2safe(at, &arguments("out", &[])), &["arms.a.styles", "data show"]);
    let none = "[ppo.harmless]\nshare = 0.5\nfamilies = [\"path_read\"]\n[arms.a]\n";
    fs::write(at.join("arms.toml"), none).expect("written");
    refused(&vul2safe(at, &arguments("other", &[])), &["ppo.harmless", "range list"]);
    refused(&vul2safe(at, &arguments("other", &["--dry-run"])), &["ppo.harmless", "range list"]);
    assert!(!at.join("other").exists(), "nothing is begun");
}
