//! The run folder through its public interface, as a kill, a second process or a changed configuration meets it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use vul2safe_run::*;

const CONFIGURATION: &str = "seed = 7\n\n[ppo]\nkl = 0.05\n";

fn begin(path: &Path) -> Result<RunFolder, RunError> {
    RunFolder::create_or_resume(path, CONFIGURATION, json!({"version": "0.1.0", "seed": 7}))
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn steps(run: &Path) -> Vec<(String, u64)> {
    read_metrics(run).unwrap().into_iter().map(|line| (line.stage, line.step)).collect()
}

#[test]
fn a_run_is_made_continued_and_read() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("runs/first");
    let run = begin(&path).unwrap();
    assert_eq!(fs::read_to_string(run.file("config.toml")).unwrap(), CONFIGURATION);
    assert!(run.finished("import").is_none());
    run.finish("import", 1.25, json!({"records": 803})).unwrap();
    run.finish("sft", 60.0, json!({})).unwrap();
    run.finish("import", 2.0, json!({"records": 804})).unwrap();
    drop(run);

    for run in [begin(&path).unwrap(), RunFolder::open(&path).unwrap()] {
        let names: Vec<String> = run.stages().into_iter().map(|entry| entry.stage).collect();
        assert_eq!(names, ["sft", "import"]);
        let import = run.finished("import").unwrap();
        assert_eq!((import.seconds, &import.summary), (2.0, &json!({"records": 804})));
        assert!(import.finished_at.ends_with('Z'), "{}", import.finished_at);
    }
}

#[test]
fn what_a_kill_leaves_in_the_journal_is_ignored_and_repaired() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    begin(&path).unwrap().finish("import", 1.0, json!({})).unwrap();
    let journal = path.join("journal.jsonl");
    let whole = fs::read_to_string(&journal).unwrap();
    append(&journal, "{\"stage\":\"sft\",\"seco");

    assert_eq!(RunFolder::open(&path).unwrap().stages().len(), 1);
    assert!(fs::read_to_string(&journal).unwrap().ends_with("seco"), "a reader writes nothing");
    let run = begin(&path).unwrap();
    assert_eq!(fs::read_to_string(&journal).unwrap(), whole);
    run.finish("sft", 2.0, json!({})).unwrap();
    drop(run);

    // A line that only lacks its newline is whole.
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.trim_end()).unwrap();
    let run = begin(&path).unwrap();
    run.finish("ppo", 3.0, json!({})).unwrap();
    assert_eq!(read_journal(&path).unwrap().len(), 3);
}

#[test]
fn a_broken_line_in_the_middle_is_an_error_with_its_place() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    begin(&path).unwrap().finish("import", 1.0, json!({})).unwrap();
    append(&path.join("journal.jsonl"), "{\"stage\": 3}\n");
    let error = begin(&path).unwrap_err();
    assert!(matches!(error, RunError::Broken { line: 2, .. }), "{error}");
    assert!(error.hint().unwrap().contains("run again"));
}

#[test]
fn a_second_process_is_refused_until_the_first_lets_go() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let first = begin(&path).unwrap();
    assert!(matches!(begin(&path).unwrap_err(), RunError::Locked { .. }));
    RunFolder::open(&path).expect("reading needs no lock");
    drop(first);
    begin(&path).expect("the lock is free again");
}

#[test]
fn another_configuration_is_refused_and_the_first_difference_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    drop(begin(&path).unwrap());
    let other = CONFIGURATION.replace("0.05", "0.1");
    let error = RunFolder::create_or_resume(&path, &other, json!({})).unwrap_err();
    assert_eq!(
        error.to_string().replace(&path.display().to_string(), "RUN"),
        "RUN was made with another configuration: `ppo.kl` was 0.05, now it is 0.1"
    );
    assert_eq!(error.hint().unwrap(), "choose another folder with `--out`, or delete this one to start anew");
    assert_eq!(fs::read_to_string(path.join("config.toml")).unwrap(), CONFIGURATION);
}

#[test]
fn a_folder_with_other_files_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("thesis.tex"), "years of work").unwrap();
    let error = begin(place.path()).unwrap_err();
    assert!(matches!(&error, RunError::NotARun { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing was added");
    assert!(matches!(RunFolder::open(place.path()).unwrap_err(), RunError::Missing { .. }));
}

#[test]
fn a_kill_before_the_configuration_was_written_does_not_block_the_folder() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join(".lock"), "").unwrap();
    fs::write(place.path().join(".config.toml.x1.partial"), "seed =").unwrap();
    begin(place.path()).unwrap();
    assert!(!place.path().join(".config.toml.x1.partial").exists());
}

#[test]
fn the_first_environment_is_kept_and_a_changed_one_noted() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    drop(begin(&path).unwrap());
    let environment = fs::read(path.join("environment.json")).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&environment).unwrap();
    assert_eq!(value["version"], "0.1.0");
    assert!(value["started_at"].is_string());

    drop(begin(&path).unwrap());
    assert!(!path.join("continued.jsonl").exists(), "the same environment needs no note");
    drop(RunFolder::create_or_resume(&path, CONFIGURATION, json!({"version": "0.2.0"})).unwrap());
    assert_eq!(fs::read(path.join("environment.json")).unwrap(), environment);
    let note: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join("continued.jsonl")).unwrap()).unwrap();
    assert_eq!(note["environment"]["version"], "0.2.0");
}

#[test]
fn a_stage_that_runs_again_drops_what_its_interrupted_try_wrote() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let run = begin(&path).unwrap();
    let mut sft = run.metrics("sft").unwrap();
    sft.log(1, &[("loss", 3.0)]).unwrap();
    sft.log(2, &[("loss", 2.0)]).unwrap();
    run.finish("sft", 1.0, json!({})).unwrap();
    run.metrics("ppo").unwrap().log(1, &[("reward_mean", -1.0)]).unwrap();
    drop(run);
    append(&path.join("metrics.jsonl"), "{\"stage\":\"ppo\",\"st");

    let run = begin(&path).unwrap();
    let mut ppo = run.metrics("ppo").unwrap();
    assert_eq!(steps(&path), [("sft".into(), 1), ("sft".into(), 2)]);
    ppo.log(1, &[("reward_mean", 0.5)]).unwrap();
    ppo.log(2, &[("reward_mean", 0.6)]).unwrap();
    // A handle from before lines were dropped goes on in the file that took the old one's place.
    drop(run.metrics_from("ppo", 2).unwrap());
    ppo.log(2, &[("reward_mean", 0.75)]).unwrap();
    let lines = read_metrics(&path).unwrap();
    let rewards: Vec<f64> = lines.iter().filter_map(|line| line.values.get("reward_mean").copied()).collect();
    assert_eq!(rewards, [0.5, 0.75]);
    assert!(lines.iter().all(|line| line.time > 1.6e9));
    let events = fs::read_dir(&path).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents.")
    });
    assert_eq!(events.count(), 1, "TensorBoard sees one history");
}

#[test]
fn values_that_are_not_finite_are_kept_and_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let run = begin(&path).unwrap();
    let values = [("a", f64::NAN), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY), ("d", 0.1)];
    run.metrics("ppo").unwrap().log(3, &values).unwrap();
    let text = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    assert!(text.contains(r#""a":null,"b":null,"c":null,"d":0.1"#), "{text}");
    assert!(text.contains(r#""nonfinite":{"a":"nan","b":"inf","c":"-inf"}"#), "{text}");
    let line = read_metrics(&path).unwrap().remove(0);
    assert!(line.values["a"].is_nan());
    assert_eq!((line.values["b"], line.values["c"]), (f64::INFINITY, f64::NEG_INFINITY));
    assert_eq!(line.nonfinite(), ["a", "b", "c"]);
}

#[test]
fn names_that_would_be_ambiguous_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let run = begin(&place.path().join("run")).unwrap();
    assert!(matches!(run.metrics("a/b"), Err(RunError::BadName { what: "stage", .. })));
    let mut metrics = run.metrics("sft").unwrap();
    for name in ["", "step", "time", "nonfinite", "a/b"] {
        assert!(matches!(metrics.log(1, &[(name, 1.0)]), Err(RunError::BadName { .. })), "{name:?}");
    }
    assert!(metrics.log(1, &[("x", 1.0), ("x", 2.0)]).is_err());
    assert!(read_metrics(run.path()).unwrap().is_empty(), "a refused line leaves nothing");
    for name in ["", "../x", ".hidden"] {
        assert!(matches!(write_samples(&run, name, &[]), Err(RunError::BadName { .. })), "{name:?}");
    }
}

#[test]
fn a_folder_opened_for_reading_is_not_written() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    drop(begin(&path).unwrap());
    let run = RunFolder::open(&path).unwrap();
    assert!(matches!(run.finish("sft", 1.0, json!({})), Err(RunError::ReadOnly { .. })));
    assert!(matches!(run.metrics("sft"), Err(RunError::ReadOnly { .. })));
    assert!(matches!(write_samples(&run, "x", &[]), Err(RunError::ReadOnly { .. })));
    assert!(matches!(EvaluationTable::default().write(&run), Err(RunError::ReadOnly { .. })));
}

fn sample(answer: &str, spans: &[(usize, usize)]) -> Sample {
    let tokens = spans.iter().enumerate().map(|(index, (start, end))| SampleToken {
        id: index as u32,
        start: *start,
        end: *end,
        reward: if index == 0 { -0.5 } else { 0.1 },
        reasons: vec![format!("reason {index}")],
    });
    Sample {
        arm: "ppo-token".into(),
        task: "t1".into(),
        prompt: "Write it.".into(),
        answer: answer.into(),
        tokens: tokens.collect(),
        functional: Some(true),
        secure: None,
        status: "held out".into(),
        total_reward: f64::NAN,
    }
}

#[test]
fn samples_come_back_and_their_spans_are_checked() {
    let place = tempfile::tempdir().unwrap();
    let run = begin(&place.path().join("run")).unwrap();
    // The second token begins inside the two bytes of `é`.
    let good = sample("é=1", &[(0, 1), (1, 3), (3, 4), (4, 4)]);
    write_samples(&run, "held-out", std::slice::from_ref(&good)).unwrap();
    let path = run.file("samples/held-out.jsonl");
    let read = read_samples(&path).unwrap();
    assert!(read[0].total_reward.is_nan(), "an answer without a score stays without one");
    assert_eq!(read[0].tokens, good.tokens);

    for spans in [&[(0, 5)][..], &[(2, 1)], &[(0, 2), (1, 3)]] {
        assert!(matches!(
            write_samples(&run, "bad", &[sample("abcd", spans)]),
            Err(RunError::NotJson { .. })
        ));
    }
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"end\":3", "\"end\":99")).unwrap();
    assert!(matches!(read_samples(&path).unwrap_err(), RunError::Broken { line: 1, .. }));
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(matches!(read_samples(&path).unwrap_err(), RunError::Broken { line: 1, .. }));
    assert!(matches!(read_samples(&run.file("samples/none.jsonl")).unwrap_err(), RunError::Io { .. }));
}

#[test]
fn figures_survive_the_file_to_the_bit() {
    let place = tempfile::tempdir().unwrap();
    let run = begin(&place.path().join("run")).unwrap();
    assert_eq!(read_evaluation(run.path()).unwrap(), None);
    let rate = Rate { count: 1, of: 3, value: 1.0 / 3.0, low: 0.061_491_944_720_396_1, high: 0.792_345_1 };
    let table = EvaluationTable {
        suite: "range".into(),
        rows: vec![EvaluationRow {
            model: "sft".into(),
            group: "all".into(),
            answers: 3,
            rates: [("both".to_owned(), rate)].into(),
        }],
        comparisons: vec![],
    };
    table.write(&run).unwrap();
    assert_eq!(read_evaluation(run.path()).unwrap(), Some(table));
    fs::write(run.file("evaluation.json"), "{\n  \"suite\": 3").unwrap();
    assert!(matches!(read_evaluation(run.path()).unwrap_err(), RunError::Broken { line: 2, .. }));

    let summary = DataSummary {
        sections: vec![DataSection { title: "Import".into(), rows: vec![("read".into(), 803)] }],
    };
    summary.write(&run).unwrap();
    assert_eq!(read_data_summary(run.path()).unwrap(), Some(summary));
    let text = fs::read_to_string(run.file("data.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["sections"][0]["rows"][0],
        json!(["read", 803])
    );
}

#[test]
fn an_atomic_write_replaces_and_leaves_nothing_beside_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("new/folder/report.html");
    write_atomic(&path, b"one").unwrap();
    write_atomic(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    // A folder in the way is refused, and nothing is left behind.
    assert!(matches!(write_atomic(path.parent().unwrap(), b"x").unwrap_err(), RunError::Io { .. }));
    assert_eq!(fs::read_dir(place.path().join("new")).unwrap().count(), 1);
}

#[test]
fn fingerprints_follow_contents_and_names() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("a/x.jsonl", "1");
    write("a/y/z.jsonl", "2");
    let first = fingerprint(&place.path().join("a")).unwrap();
    assert_eq!(first, fingerprint(&place.path().join("a")).unwrap());
    write("a/y/z.jsonl", "3");
    assert_ne!(first, fingerprint(&place.path().join("a")).unwrap());
    // BLAKE3 of the empty input, from the reference implementation's test vectors.
    write("empty", "");
    assert_eq!(
        fingerprint(&place.path().join("empty")).unwrap(),
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    );
    assert!(matches!(fingerprint(&place.path().join("none")).unwrap_err(), RunError::Io { .. }));
}

/// The folder that the process below works in.
const HELD: &str = "VUL2SAFE_TEST_HELD_FOLDER";

#[test]
#[ignore = "is the process that the next test starts and kills"]
fn works_until_it_is_killed() {
    let run = begin(Path::new(&std::env::var_os(HELD).unwrap())).unwrap();
    for round in 0.. {
        let stage = format!("stage-{round}");
        if run.finished(&stage).is_some() {
            continue;
        }
        let mut metrics = run.metrics(&stage).unwrap();
        for step in 0..50 {
            metrics.log(step, &[("loss", 0.5), ("long", 1.0 / 3.0)]).unwrap();
        }
        run.finish(&stage, 0.1, json!({"steps": 50})).unwrap();
    }
}

/// Killed again and again at whatever it is doing, a run loses no finished stage and keeps no half of one.
#[test]
fn a_killed_process_frees_the_folder_and_loses_nothing_finished() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let mut finished = 0;
    for kill in 0..6 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "works_until_it_is_killed", "--ignored"])
            .env(HELD, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Until it works on a stage that none of the earlier processes has finished.
        let begun = std::time::Instant::now();
        while RunFolder::open(&path).map_or(0, |run| run.stages().len()) <= finished {
            assert!(begun.elapsed().as_secs() < 60, "the process makes no progress");
            std::thread::sleep(std::time::Duration::from_millis(3 + kill));
        }
        assert!(matches!(begin(&path).unwrap_err(), RunError::Locked { .. }));
        child.kill().unwrap();
        child.wait().unwrap();

        let run = begin(&path).unwrap();
        let stages = run.stages();
        assert!(stages.len() > finished);
        finished = stages.len();
        drop(run.metrics(&format!("stage-{finished}")).unwrap());
        let lines = steps(&path);
        assert_eq!(lines.len(), 50 * finished, "the lines of finished stages and no others");
        for (index, (stage, step)) in lines.iter().enumerate() {
            assert_eq!(
                (stage.as_str(), *step),
                (format!("stage-{}", index / 50).as_str(), index as u64 % 50)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever a kill cuts the last line, no earlier line is lost, and the next try appends cleanly.
    #[test]
    fn a_cut_anywhere_in_the_last_line_loses_at_most_that_line(cut in 0usize..200) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        let run = begin(&path).unwrap();
        let mut metrics = run.metrics("sft").unwrap();
        for step in 0..3 {
            metrics.log(step, &[("loss", step as f64 / 3.0), ("größe", 1.0)]).unwrap();
        }
        drop(run);
        let file = path.join("metrics.jsonl");
        let bytes = fs::read(&file).unwrap();
        let last = bytes.len() - bytes.split_inclusive(|b| *b == b'\n').next_back().unwrap().len();
        let end = last + cut % (bytes.len() - last + 1);
        fs::write(&file, &bytes[..end]).unwrap();
        let kept = if end + 1 >= bytes.len() { 3 } else { 2 };
        prop_assert_eq!(read_metrics(&path).unwrap().len(), kept);
        begin(&path).unwrap().metrics("ppo").unwrap().log(9, &[("reward_mean", 1.0)]).unwrap();
        let lines = read_metrics(&path).unwrap();
        prop_assert_eq!(lines.len(), kept + 1);
        prop_assert_eq!(lines.last().unwrap().step, 9);
    }

    /// No content of the files makes a reader panic.
    #[test]
    fn readers_survive_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let place = tempfile::tempdir().unwrap();
        for name in ["journal.jsonl", "metrics.jsonl", "evaluation.json", "data.json", "config.toml"] {
            fs::write(place.path().join(name), &bytes).unwrap();
        }
        let _ = (read_journal(place.path()), read_metrics(place.path()), begin(place.path()));
        let _ = (read_evaluation(place.path()), read_data_summary(place.path()));
        let _ = read_samples(&place.path().join("journal.jsonl"));
    }
}
