//! Spans, the soundness check, the strict reader and the splits.

use std::path::Path;

use proptest::prelude::*;
use vul2safe_code::{Cwe, Language};
use vul2safe_corpus::{
    CardFacts, CorpusError, Evidence, OverlapConfig, Prompt, Repair, RepairPair, Side, SourceId, Split,
    SplitConfig, Tests, Verdict, View, assign_splits, chat_rows, check_pair, contamination, content_hash,
    data_card, diff_spans, json_schema, read_benchmark_texts, read_primevul_plus, rl_rows, sft_rows,
    write_hub, write_primevul_plus, write_primevul_plus_parquet,
};

fn pair(id: &str, vulnerable: &str, secure: &str) -> RepairPair {
    RepairPair {
        id: id.into(),
        language: Language::Python,
        cwe: vec![Cwe(89)],
        cve: None,
        project: None,
        commit: None,
        date: None,
        file_name: None,
        license: None,
        vulnerable: vulnerable.into(),
        secure: secure.into(),
        repair: Repair { by: "upstream".into(), rounds: 1 },
        confidence: 0.9,
        evidence: vec![],
        spans: diff_spans(Language::Python, vulnerable, secure).unwrap(),
        prompts: vec![Prompt {
            text: "Write f.".into(),
            style: "plain".into(),
            prefix: None,
            checks: vec![],
        }],
        tests: None,
        split: Split::Train,
        source: SourceId { dataset: "test".into(), id: id.into() },
        hash: content_hash(Language::Python, vulnerable, secure),
    }
}

const VULNERABLE: &str =
    "def find(db, name):\n    return db.execute(\"SELECT * FROM t WHERE n = '%s'\" % name)\n";
const SECURE: &str = "def find(db, name):\n    return db.execute(\"SELECT * FROM t WHERE n = ?\", (name,))\n";

/// The texts of a side's spans.
fn texts(vulnerable: &str, secure: &str, side: Side) -> Vec<String> {
    let text = if side == Side::Vulnerable { vulnerable } else { secure };
    diff_spans(Language::Python, vulnerable, secure)
        .unwrap()
        .iter()
        .filter(|span| span.side == side)
        .map(|span| text[span.start..span.end].to_owned())
        .collect()
}

#[test]
fn one_change_in_one_statement_is_one_span() {
    assert_eq!(texts(VULNERABLE, SECURE, Side::Vulnerable), ["\"SELECT * FROM t WHERE n = '%s'\" % name"]);
    assert_eq!(texts(VULNERABLE, SECURE, Side::Secure), ["\"SELECT * FROM t WHERE n = ?\", (name,)"]);
}

#[test]
fn an_insertion_anchors_at_the_statement_it_guards() {
    let before =
        "def read(root, name):\n    path = join(root, name)\n    log('x')\n    return open(path).read()\n";
    let after = "def read(root, name):\n    path = join(root, name)\n    if not inside(path):\n        raise ValueError\n    log('x')\n    return open(path).read()\n";
    assert_eq!(texts(before, after, Side::Secure), ["if not inside(path):\n        raise ValueError"]);
    assert_eq!(texts(before, after, Side::Vulnerable), ["return open(path).read()"]);
    let reason = &diff_spans(Language::Python, before, after).unwrap()[0].reason;
    assert!(reason.contains("only adds"), "{reason}");
    // Turned round, the same pair only deletes.
    assert_eq!(texts(after, before, Side::Secure), ["return open(path).read()"]);
}

#[test]
fn an_insertion_inside_a_statement_anchors_at_that_statement() {
    let before = "def page(name):\n    return '<p>' + name + '</p>'\n";
    let after = "def page(name):\n    return '<p>' + escape(name) + '</p>'\n";
    assert_eq!(texts(before, after, Side::Vulnerable), ["return '<p>' + name + '</p>'"]);
    assert_eq!(texts(before, after, Side::Secure), ["escape(name)"]);
}

#[test]
fn an_insertion_beside_other_changes_has_its_own_anchor() {
    let before = "import os\n\n\ndef run(log, name):\n    log.write('ran ' + name)\n    return os.popen('x ' + name).read()\n";
    let after = "import subprocess\n\n\ndef run(log, name):\n    log.write('ran ' + repr(name))\n    return subprocess.check_output(['x', name])\n";
    let vulnerable = texts(before, after, Side::Vulnerable);
    assert!(vulnerable.contains(&"log.write('ran ' + name)".to_owned()), "{vulnerable:?}");
    let secure = texts(before, after, Side::Secure);
    assert!(secure.iter().any(|text| text.contains("repr(name")), "{secure:?}");
}

#[test]
fn an_inserted_import_is_no_place_to_anchor() {
    let before = "import os\n\n\ndef page(name):\n    return '<p>' + name + '</p>'\n";
    let after =
        "import os\nimport html\n\n\ndef page(name):\n    return '<p>' + html.escape(name) + '</p>'\n";
    assert_eq!(texts(before, after, Side::Vulnerable), ["return '<p>' + name + '</p>'"]);
}

#[test]
fn comments_and_white_space_are_no_difference() {
    let commented = VULNERABLE.replace("    return", "    # nosec\n\n    return");
    assert!(matches!(diff_spans(Language::Python, VULNERABLE, &commented), Err(CorpusError::NoDifference)));
}

#[test]
fn a_sound_pair_has_no_problems_and_each_damage_is_named() {
    let sound = pair("a", VULNERABLE, SECURE);
    assert_eq!(check_pair(&sound), Vec::<String>::new());
    let damage = |change: &dyn Fn(&mut RepairPair)| {
        let mut damaged = sound.clone();
        change(&mut damaged);
        check_pair(&damaged).join("; ")
    };
    assert!(damage(&|pair| pair.spans[0].end = 100_000).contains("spans: span 0"));
    assert!(damage(&|pair| pair.spans[0].end = pair.spans[0].start).contains("is empty"));
    assert!(damage(&|pair| pair.spans.clear()).contains("none is labelled vulnerable"));
    assert!(damage(&|pair| pair.secure.push('\n')).contains("hash: is"));
    assert!(damage(&|pair| pair.secure = pair.vulnerable.clone()).contains("same text as vulnerable"));
    assert!(damage(&|pair| pair.confidence = f64::NAN).contains("no probability"));
    assert!(damage(&|pair| pair.prompts.push(pair.prompts[0].clone())).contains("twice"));
    assert!(damage(&|pair| pair.prompts[0].prefix = Some("def other".into())).contains("prefix"));
    assert!(damage(&|pair| pair.prompts[0].text = " ".into()).contains("prompt 0 is empty"));
    assert!(damage(&|pair| pair.id.clear()).contains("id: is empty"));
}

fn file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("primevul-plus.jsonl")
}

#[test]
fn pairs_survive_the_file_and_every_damage_names_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let pairs = [pair("a", VULNERABLE, SECURE), pair("b", "x = 1\n", "x = 2\n")];
    write_primevul_plus(&path, &pairs).unwrap();
    assert_eq!(read_primevul_plus(&path).unwrap(), pairs);
    let text = std::fs::read_to_string(&path).unwrap();
    let refused = |from: &str, to: &str| {
        let second = text.lines().nth(1).unwrap();
        assert!(second.contains(from), "{from} in {second}");
        let damaged = format!("{}\n{}\n", text.lines().next().unwrap(), second.replacen(from, to, 1));
        std::fs::write(&path, damaged).unwrap();
        read_primevul_plus(&path).unwrap_err().to_string()
    };
    assert!(refused("\"confidence\":0.9", "\"confidence\":\"high\"").contains("jsonl:2: field `confidence`"));
    assert!(refused("\"confidence\":0.9", "\"confidenze\":0.9").contains("jsonl:2: field `confidenze`"));
    assert!(
        refused("\"repair\":{\"by\":\"upstream\"", "\"repair\":{\"by\":3")
            .contains("jsonl:2: field `repair`")
    );
    assert!(refused("\"split\":\"train\"", "\"split\":\"dev\"").contains("jsonl:2: field `split`"));
    assert!(refused("\"language\":\"python\",", "").contains("jsonl:2: field `language`"));
    assert!(refused("\"x = 2\\n\"", "\"x = 3\\n\"").contains("jsonl:2: field `hash`"));
    assert!(refused("}]", "").contains("jsonl:2: field `(line)`"));
}

#[test]
fn a_written_file_replaces_the_old_one_and_a_missing_folder_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    write_primevul_plus(&path, &[pair("a", VULNERABLE, SECURE)]).unwrap();
    write_primevul_plus(&path, &[]).unwrap();
    assert_eq!(read_primevul_plus(&path).unwrap(), []);
    let error = write_primevul_plus(Path::new("/proc/nowhere/x.jsonl"), &[]).unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere/x.jsonl"), "{error}");
}

#[test]
fn the_schema_describes_every_field() {
    let schema = json_schema();
    let properties = schema["properties"].as_object().unwrap();
    let line = serde_json::to_value(pair("a", VULNERABLE, SECURE)).unwrap();
    for field in line.as_object().unwrap().keys() {
        assert!(
            properties[field]["description"].is_string() || properties[field]["$ref"].is_string(),
            "{field}"
        );
    }
    assert_eq!(schema["additionalProperties"], false);
}

fn splits(pairs: &[RepairPair]) -> Vec<(String, Split)> {
    let mut splits: Vec<_> = pairs.iter().map(|pair| (pair.id.clone(), pair.split)).collect();
    splits.sort();
    splits
}

/// 60 pairs; project, CVE and code of some are shared, also in chains.
fn many() -> Vec<RepairPair> {
    (0..60)
        .map(|index| {
            let code = if index % 20 == 7 { 7 } else { index };
            let mut pair =
                pair(&format!("p{index:02}"), &format!("x = {code}\n"), &format!("x  =  {code} + 1\n"));
            pair.project = (index % 3 == 0).then(|| format!("project {}", index / 6));
            pair.cve = (index % 5 == 0).then(|| format!("CVE-2020-{}", index / 10));
            pair
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn splits_never_part_a_group_and_do_not_depend_on_order(seed in any::<u64>()) {
        let config = SplitConfig { seed, validation: 0.2, test: 0.1, keep: false, ..SplitConfig::default() };
        let mut pairs = many();
        let summary = assign_splits(&mut pairs, &config);
        prop_assert_eq!(summary.leaking_groups, 0);
        prop_assert_eq!(summary.train + summary.validation + summary.test, 60);
        prop_assert_eq!(summary.validation, 12);
        prop_assert_eq!(summary.test, 6);
        for a in &pairs {
            for b in &pairs {
                let together = (a.project.is_some() && a.project == b.project)
                    || (a.cve.is_some() && a.cve == b.cve)
                    || a.vulnerable == b.vulnerable;
                prop_assert!(!together || a.split == b.split, "{} and {}", a.id, b.id);
            }
        }
        let mut reversed = many();
        reversed.reverse();
        assign_splits(&mut reversed, &config);
        prop_assert_eq!(splits(&pairs), splits(&reversed));
    }

    /// Any two texts give spans on character boundaries, or say why not.
    #[test]
    fn spans_of_any_two_texts_are_sound(before in "[ -~éß\n]{1,80}", after in "[ -~éß\n]{1,80}") {
        if let Ok(spans) = diff_spans(Language::Python, &before, &after) {
            for span in spans {
                let text = if span.side == Side::Vulnerable { &before } else { &after };
                prop_assert!(span.start < span.end && text.get(span.start..span.end).is_some());
            }
        }
    }
}

#[test]
fn keep_leaves_the_splits_and_counts_the_leaks() {
    let mut pairs = many();
    pairs[0].split = Split::Validation;
    let summary = assign_splits(&mut pairs, &SplitConfig { keep: true, ..SplitConfig::default() });
    assert_eq!(pairs[0].split, Split::Validation);
    assert_eq!((summary.validation, summary.leaking_groups), (1, 1));
}

/// Every field set, none of them to a default.
fn full(id: &str) -> RepairPair {
    let mut pair = pair(id, VULNERABLE, SECURE);
    pair.cve = Some("CVE-2020-1".into());
    pair.project = Some("a/b".into());
    pair.commit = Some("c0ffee".into());
    pair.date = Some("2020-05-06".into());
    pair.file_name = Some("src/é.py".into());
    pair.license = Some("MIT".into());
    pair.repair.rounds = 3;
    pair.evidence =
        vec![Evidence { check: "parses".into(), verdict: Verdict::Passed, detail: "\"both\"\n".into() }];
    pair.spans[0].cwe = Some(Cwe(89));
    pair.prompts[0].checks = vec!["lexicon".into(), "tokens".into()];
    pair.prompts.push(Prompt {
        text: "Go on.".into(),
        style: "prefix".into(),
        prefix: Some("def find(".into()),
        checks: vec![],
    });
    pair.tests = Some(Tests { functional: "def test_a(answer): pass".into(), processes: 2 });
    pair.split = Split::Test;
    pair
}

#[test]
fn parquet_keeps_every_field_and_is_read_as_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    let mut pairs = vec![full("a"), pair("b", "x = 1\n", "x = 2\n")];
    pairs[1].prompts.clear();
    // More than one row group.
    pairs.extend((0..1_500).map(|index| pair(&format!("n{index}"), &format!("x = {index}\n"), "y = 2\n")));
    write_primevul_plus_parquet(&path, &pairs).unwrap();
    assert_eq!(read_primevul_plus(&path).unwrap(), pairs);
    write_primevul_plus_parquet(&path, &[]).unwrap();
    assert_eq!(read_primevul_plus(&path).unwrap(), []);
    pairs[1].hash = "0".repeat(64);
    write_primevul_plus_parquet(&path, &pairs[..2]).unwrap();
    let error = read_primevul_plus(&path).unwrap_err().to_string();
    assert!(error.contains("pairs.parquet:2: field `hash`"), "{error}");
    std::fs::write(&path, b"PAR1 and nothing more").unwrap();
    assert!(matches!(read_primevul_plus(&path), Err(CorpusError::BrokenFile { .. })));
}

/// A function of some length in which `changes` tokens differ from the others.
fn long(changes: usize) -> String {
    let lines: Vec<String> = (0..30)
        .map(|line| {
            format!("    value_{line} = step_{}(value)\n", if line < changes { 100 + line } else { line })
        })
        .collect();
    format!("def run(value):\n{}    return value\n", lines.concat())
}

#[test]
fn near_duplicates_stay_on_one_side() {
    let groups = |near_duplicates: f64, changes: usize| {
        let other = long(changes);
        let mut pairs = [
            pair("a", &long(0), &format!("{}# a\nx = 1\n", long(0))),
            pair("b", &other, &format!("{other}y = 2\nz = 3\n")),
        ];
        let config = SplitConfig { near_duplicates, ..SplitConfig::default() };
        let summary = assign_splits(&mut pairs, &config);
        (summary.groups, summary.near_duplicates > 0)
    };
    assert_eq!(groups(0.8, 1), (1, true));
    assert_eq!(groups(0.8, 15), (2, false));
    assert_eq!(groups(1.0, 1), (2, false), "1 joins the same tokens only");
    assert_eq!(groups(1.0, 0), (1, false));
}

#[test]
fn projects_and_days_are_held_out_with_all_that_belongs_to_them() {
    let mut pairs = many();
    let config = SplitConfig { hold_out_projects: vec!["PROJECT 1".into()], ..SplitConfig::default() };
    let summary = assign_splits(&mut pairs, &config);
    assert_eq!(summary.leaking_groups, 0);
    assert!(
        pairs
            .iter()
            .filter(|pair| pair.project.as_deref() == Some("project 1"))
            .all(|pair| pair.split == Split::Test)
    );
    assert!(pairs.iter().any(|pair| pair.split == Split::Train));

    let mut pairs = many();
    for (index, pair) in pairs.iter_mut().enumerate() {
        pair.project = Some("one".into());
        pair.date = (index % 10 != 9).then(|| format!("20{index:02}-01-01"));
    }
    let config = SplitConfig { hold_out_from: Some("2050-01-01".into()), ..SplitConfig::default() };
    let summary = assign_splits(&mut pairs, &config);
    assert_eq!((summary.leaking_groups, summary.undated), (0, 6));
    for pair in &pairs {
        match pair.date.as_deref() {
            Some(date) if date >= "2050-01-01" => assert_eq!(pair.split, Split::Test, "{}", pair.id),
            Some(_) => {}
            None => assert_ne!(pair.split, Split::Train, "{}", pair.id),
        }
    }
    // Only what shares a CVE or code with a later pair is tested beside those.
    assert!(summary.train > 20 && summary.test >= 9, "{summary:?}");
}

#[test]
fn benchmark_texts_are_found_in_sides_and_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let solution = "def median(values):\n    ordered = sorted(values)\n    middle = len(ordered) // 2\n    return ordered[middle]\n";
    let lines =
        serde_json::json!({"task_id": "T/1", "canonical_solution": solution, "entry_point": "median"})
            .to_string();
    let path = folder.path().join("suite.jsonl");
    std::fs::write(&path, &lines).unwrap();
    let texts = read_benchmark_texts(&path).unwrap();
    std::fs::write(&path, format!("[{lines}]")).unwrap();
    assert_eq!(read_benchmark_texts(&path).unwrap(), texts);
    let mut asked = pair("asked", "x = 1\n", "x = 2\n");
    asked.prompts[0].text = format!("Explain:\n{solution}");
    let pairs =
        [pair("side", &format!("import os\n{solution}"), "y = 2\n"), pair("none", VULNERABLE, SECURE), asked];
    let found = contamination(&pairs, &texts, &OverlapConfig::default());
    let places: Vec<_> =
        found.overlaps.iter().map(|one| (one.pair.as_str(), one.place.as_str(), one.share)).collect();
    assert_eq!(places, [("side", "vulnerable", 1.0), ("asked", "plain", 1.0)]);
    assert_eq!(found.overlaps[0].benchmark, "T/1#canonical_solution");
    assert_eq!(found.too_short, ["T/1#entry_point", "T/1#task_id"]);
    std::fs::write(&path, "{\"text\": \"a\"}\n{broken").unwrap();
    assert!(read_benchmark_texts(&path).unwrap_err().to_string().contains("value 2"));
}

#[test]
fn views_have_the_shapes_that_trainers_read() {
    let pair = full("a");
    let sft = sft_rows(&pair);
    assert_eq!(sft.len(), 2);
    assert_eq!(sft[1]["prompt"], serde_json::json!([{"role": "user", "content": "Go on.\ndef find("}]));
    assert_eq!(sft[1]["completion"], serde_json::json!([{"role": "assistant", "content": SECURE}]));
    assert_eq!(chat_rows(&pair)[0]["messages"][1]["content"], SECURE);
    let rl = &rl_rows(&pair)[0];
    assert_eq!(rl["vulnerable"], VULNERABLE);
    assert_eq!((&rl["functional_tests"], &rl["processes"]), (&"def test_a(answer): pass".into(), &2.into()));
    assert_eq!(rl["spans"].as_array().unwrap().len(), pair.spans.len());
    assert!(rl.get("completion").is_none());
}

#[test]
fn a_card_counts_what_is_there() {
    let pairs = [full("a"), pair("b", "x = 1\n", "x = 2\n")];
    let facts = CardFacts {
        title: "Own: \"data\"".into(),
        rejected: vec![("no_prompt".into(), 3)],
        left_out: vec![],
    };
    let views: Vec<View> = vec![("pairs", vec![(Split::Train, "pairs/train.parquet".into())])];
    let card = data_card(&pairs, &facts, &views);
    for line in [
        "pretty_name: \"Own: \\\"data\\\"\"",
        "license: other",
        "- n<1K",
        "  - split: train\n    path: pairs/train.parquet",
        "2 repair pairs with 3 implicit prompts",
        "| CWE-89 | 2 |",
        "| MIT | 1 |",
        "| unknown | 1 |",
        "| no_prompt | 3 |",
        "| test | 1 |",
    ] {
        assert!(card.readme.contains(line), "{line} is missing in\n{}", card.readme);
    }
    let charts: Vec<&str> = card.charts.iter().map(|(file, _)| file.as_str()).collect();
    assert!(charts.contains(&"plots/weakness.svg") && !charts.contains(&"plots/left-out.svg"), "{charts:?}");
    let one = data_card(&pairs[..1], &facts, &views);
    assert!(one.readme.contains("license: mit\n"));
}

#[test]
fn a_hub_folder_appears_whole_with_the_files_that_its_card_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub");
    std::fs::create_dir(&path).unwrap();
    // Left by an attempt that was killed.
    std::fs::create_dir(folder.path().join(".hub.partial")).unwrap();
    std::fs::write(folder.path().join(".hub.partial/rest"), "x").unwrap();
    let pairs = [full("a"), pair("b", "x = 1\n", "x = 2\n")];
    write_hub(&path, &pairs, &CardFacts { title: "Own".into(), ..CardFacts::default() }).unwrap();
    let card = std::fs::read_to_string(path.join("README.md")).unwrap();
    let files: Vec<&str> = card.lines().filter_map(|line| line.trim().strip_prefix("path: ")).collect();
    assert_eq!(files.len(), 8, "four views of two splits: {files:?}");
    assert!(files.iter().all(|file| path.join(file).is_file()));
    assert_eq!(read_primevul_plus(&path.join("pairs/test.parquet")).unwrap(), pairs[..1]);
    assert!(!path.join("rest").exists() && path.join("schema.json").is_file());
    let again = write_hub(&path, &pairs, &CardFacts::default()).unwrap_err();
    assert!(again.to_string().contains("hub"), "{again}");
}
