//! Spans, the soundness check, the strict reader and the splits.

use std::path::Path;

use proptest::prelude::*;
use vul2safe_code::{Cwe, Language};
use vul2safe_corpus::{
    CorpusError, Prompt, Repair, RepairPair, Side, SourceId, Split, SplitConfig, assign_splits, check_pair,
    content_hash, diff_spans, json_schema, read_primevul_plus, write_primevul_plus,
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
