//! Each format in a few lines of our own, good and bad.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vul2safe_code::Language;
use vul2safe_corpus::{
    ColumnMap, CorpusError, DropReason, Imported, ReadLimits, Source, Split, primevul_lines, read,
};

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

fn imported(source: &Source) -> Imported {
    let imported = read(source, &ReadLimits::default()).unwrap();
    assert_eq!(imported.read, imported.records.len() + imported.dropped.len());
    imported
}

fn reasons(imported: &Imported) -> Vec<(&str, DropReason)> {
    imported.dropped.iter().map(|dropped| (dropped.place.as_str(), dropped.reason)).collect()
}

#[test]
fn linuxvul_is_read_from_its_folders() {
    let folder = tempfile::tempdir().unwrap();
    let element = |id: u32, after: &str| {
        json!({"cve_id": "CVE-2014-0001", "code_before_change": format!("int f(int a)\n{{\n\treturn a / {id};\n}}"),
            "code_after_change": after, "patch": "", "function_modified_lines": {"added": [], "deleted": []},
            "cwe": ["CWE-369"], "cve_description": "A division.", "id": id})
    };
    let train = json!([element(1, "int f(int a)\n{\n\treturn 0;\n}"), element(2, " "), {"id": 3}, element(1, "int f(int a)\n{\n\treturn 0;\n}")]);
    written(
        folder.path(),
        "train/linux_kernel_CWE-369_data.json",
        &serde_json::to_string_pretty(&train).unwrap(),
    );
    written(
        folder.path(),
        "test/linux_kernel_CWE-369_data.json",
        &json!([element(9, "int f(int a)\n{\n\treturn 1;\n}")]).to_string(),
    );
    let imported = imported(&Source::LinuxVul { path: folder.path().to_owned() });
    let facts: Vec<_> =
        imported.records.iter().map(|record| (record.id.as_str(), record.split, record.language)).collect();
    assert_eq!(
        facts,
        [
            ("linuxvul-train-1", Some(Split::Train), Language::C),
            ("linuxvul-test-9", Some(Split::Test), Language::C)
        ]
    );
    assert_eq!(imported.records[0].license.as_deref(), Some("GPL-2.0-only"));
    assert_eq!(imported.records[0].cve.as_deref(), Some("CVE-2014-0001"));
    let file = "train/linux_kernel_CWE-369_data.json";
    assert_eq!(
        reasons(&imported),
        [
            (format!("{file}:2").as_str(), DropReason::EmptyCode),
            (format!("{file}:3").as_str(), DropReason::MissingField),
            (format!("{file}:4").as_str(), DropReason::Duplicate)
        ]
    );
}

#[test]
fn cyberseceval_gives_vulnerable_sides_in_known_languages() {
    let folder = tempfile::tempdir().unwrap();
    let element = |id: u32, language: &str, code: &str| {
        json!({"prompt_id": id, "origin_code": code, "language": language, "cwe_identifier": "CWE-680", "repo": "a/b",
            "file_path": "src/x.c", "line_number": 5, "line_text": "malloc(n * 4)", "pattern_desc": "Overflow",
            "test_case_prompt": "Write f.", "variant": "instruct"})
    };
    let list = json!([
        element(0, "c", "p = malloc(n * 4);"),
        element(1, "klingon", "x"),
        element(2, "python", "random.seed()")
    ]);
    written(folder.path(), "instruct/instruct-v2.json", &list.to_string());
    written(folder.path(), "autocomplete/autocomplete.json", "[");
    let imported = imported(&Source::CyberSecEval { path: folder.path().to_owned() });
    assert_eq!(imported.records.len(), 2);
    assert_eq!(imported.records[0].secure, None);
    assert_eq!(imported.records[0].project.as_deref(), Some("a/b"));
    assert_eq!(imported.records[0].description.as_deref(), Some("Overflow: malloc(n * 4)"));
    assert_eq!(reasons(&imported), [("instruct/instruct-v2.json:2", DropReason::UnknownLanguage)]);
}

#[test]
fn diversevul_and_megavul_keep_what_is_vulnerable() {
    let folder = tempfile::tempdir().unwrap();
    let line = |target: u32, code: &str| {
        format!(
            "{{\"func\":\"{code}\",\"target\":{target},\"cwe\":[\"CWE-787\"],\"project\":\"p\",\"commit_id\":\"c0ffee\",\"hash\":{},\"size\":3,\"message\":\"Fix cve-2019-12345\"}}",
            "8".repeat(38)
        )
    };
    let path = written(
        folder.path(),
        "diversevul.json",
        &[line(1, "int a;"), line(0, "int b;"), line(7, "int c;")].join("\n"),
    );
    let diverse = imported(&Source::DiverseVul { path });
    assert_eq!(diverse.records[0].source.id, "8".repeat(38));
    assert_eq!(diverse.records[0].cve.as_deref(), Some("CVE-2019-12345"));
    assert_eq!(
        reasons(&diverse),
        [("diversevul.json:2", DropReason::NotVulnerable), ("diversevul.json:3", DropReason::InvalidValue)]
    );

    let element = |vulnerable: bool, file: &str, before: &str| {
        json!({"cve_id": "CVE-2017-1", "cwe_ids": ["CWE-119"], "repo_name": "a/b", "commit_msg": "m", "commit_hash": "9f0730bee3eb65d0",
            "commit_date": 1_504_000_000, "git_url": "u", "file_path": file, "func_name": "f", "func_before": before,
            "func": "int f() { return 2; }", "is_vul": vulnerable})
    };
    let list = json!([element(true, "f.cpp", "int f() { return 1; }"), element(false, "f.c", ""), element(true, "F.cobol", "x"), {"is_vul": 1}]);
    let path = written(folder.path(), "megavul_simple.json", &list.to_string());
    let mega = imported(&Source::MegaVul { path });
    let record = &mega.records[0];
    assert_eq!((record.language, record.date.as_deref()), (Language::Cpp, Some("2017-08-29")));
    assert_eq!((record.id.as_str(), record.function.as_deref()), ("megavul-9f0730bee3eb-f", Some("f")));
    let expected = [DropReason::NotVulnerable, DropReason::UnknownLanguage, DropReason::WrongType];
    assert_eq!(mega.dropped.iter().map(|dropped| dropped.reason).collect::<Vec<_>>(), expected);
}

const CVEFIXES: &str = "
CREATE TABLE fixes (cve_id TEXT, hash TEXT, repo_url TEXT);
CREATE TABLE cve (cve_id TEXT, description TEXT);
CREATE TABLE cwe_classification (cve_id TEXT, cwe_id TEXT);
CREATE TABLE commits (hash TEXT, committer_date TEXT);
CREATE TABLE file_change (file_change_id TEXT, hash TEXT, new_path TEXT, filename TEXT, programming_language TEXT);
CREATE TABLE method_change (file_change_id TEXT, name TEXT, signature TEXT, code TEXT, before_change TEXT);
INSERT INTO fixes VALUES ('CVE-2020-2', 'aaaaaaaaaaaaaaaa', 'https://github.com/a/b'), ('CVE-2020-3', 'aaaaaaaaaaaaaaaa', 'https://github.com/a/b');
INSERT INTO cve VALUES ('CVE-2020-2', '[{''lang'': ''en'', ''value'': ''It\\''s a flaw.''}]'), ('CVE-2020-3', 'plain');
INSERT INTO cwe_classification VALUES ('CVE-2020-2', 'CWE-22'), ('CVE-2020-3', 'CWE-79'), ('CVE-2020-3', 'NVD-CWE-noinfo');
INSERT INTO commits VALUES ('aaaaaaaaaaaaaaaa', '2020-05-06 07:08:09+00:00');
INSERT INTO file_change VALUES ('1', 'aaaaaaaaaaaaaaaa', 'src/a.py', 'a.py', 'Python'), ('2', 'aaaaaaaaaaaaaaaa', 'None', 'b', 'C'), ('3', 'x', 'c.swift', 'c.swift', 'Swift');
INSERT INTO method_change VALUES
 ('1', 'f', 'f( x )', 'def f(x): return 1', 'True'), ('1', 'f', 'f( x )', 'def f(x): return 2', 'False'),
 ('1', 'g', 'g( x )', 'def g(x): return 1', 'True'), ('1', 'g', 'g( x , y )', 'def g(x, y): return 1', 'False'),
 ('1', 'gone', 'gone( )', 'def gone(): pass', 'True'), ('1', 'new', 'new( )', 'def new(): pass', 'False'),
 ('2', 'h', 'h( a )', 'int h(int a) { return a; }', 'True'), ('2', 'h', 'h( a )', 'int h(int a) { return a + 1; }', 'False'),
 ('2', 'odd', 'odd( )', 'int odd;', 'perhaps'), ('2', 'n', 'n( )', NULL, 'True'), ('2', 'n', 'n( )', 'int n;', 'False'),
 ('3', 's', 's( )', 'func s() {}', 'True'), ('3', 's', 's( )', 'func s() { }', 'False');
";

#[test]
fn cvefixes_is_read_from_its_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("CVEfixes.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(CVEFIXES).unwrap();
    let imported = imported(&Source::CveFixes { path });
    let functions: Vec<_> = imported
        .records
        .iter()
        .map(|record| (record.function.as_deref().unwrap(), record.language))
        .collect();
    assert_eq!(functions, [("f", Language::Python), ("g", Language::Python), ("h", Language::C)]);
    let record = &imported.records[0];
    assert_eq!(record.cve.as_deref(), Some("CVE-2020-2"));
    assert_eq!(record.project.as_deref(), Some("a/b"));
    assert_eq!(record.date.as_deref(), Some("2020-05-06"));
    assert_eq!(record.description.as_deref(), Some("It's a flaw."));
    assert_eq!(record.cwe.iter().map(ToString::to_string).collect::<Vec<_>>(), ["CWE-22", "CWE-79"]);
    let found = imported.counts();
    let expected = [
        (DropReason::MissingField, 1),
        (DropReason::InvalidValue, 1),
        (DropReason::UnknownLanguage, 1),
        (DropReason::OneSided, 2),
    ];
    assert_eq!(found, expected.into_iter().collect());

    let other = folder.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let error = read(&Source::CveFixes { path: other }, &ReadLimits::default()).unwrap_err();
    assert!(error.to_string().contains("no such table: fixes") && error.hint().is_some(), "{error}");
    let text = written(folder.path(), "text.db", "this is no database, whatever its name says, by far");
    assert!(matches!(
        read(&Source::CveFixes { path: text }, &ReadLimits::default()),
        Err(CorpusError::Database { .. })
    ));
}

#[test]
fn csv_is_read_by_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let text = "id,before,after,file,when\n1,\"int a;\n\",int b;,x.c,1504000000\n2,def f(): pass,def f(): return,y.py,2020-01-02 03:04\n3,only\n";
    let path = written(folder.path(), "data.csv", text);
    let columns = ColumnMap {
        vulnerable: "before".into(),
        secure: Some("after".into()),
        id: Some("id".into()),
        file_name: Some("file".into()),
        date: Some("when".into()),
        ..ColumnMap::default()
    };
    let imported = imported(&Source::Csv { path, columns });
    let facts: Vec<_> = imported
        .records
        .iter()
        .map(|record| (record.id.as_str(), record.language, record.date.as_deref().unwrap()))
        .collect();
    assert_eq!(facts, [("1", Language::C, "2017-08-29"), ("2", Language::Python, "2020-01-02")]);
    assert_eq!(reasons(&imported), [("data.csv:5", DropReason::WrongType)]);
}

/// One line of PrimeVul with all its fields, in the data set's own spelling.
fn primevul(target: u8, code: &str, hash: &str) -> String {
    format!(
        "{{\"idx\":{},\"project\":\"p\",\"commit_id\":\"c0ffee\",\"project_url\":\"https://example.org/p\",\"commit_url\":\"https://example.org/p/c0ffee\",\"commit_message\":\"Fix\\n\\u00e9\",\"target\":{target},\"func\":{},\"func_hash\":{hash},\"file_name\":\"None\",\"file_hash\":{hash},\"cwe\":[\"CWE-079\"],\"cve\":\"CVE-2020-1\",\"cve_desc\":\"A flaw.\",\"nvd_url\":\"https://example.org/cve\"}}",
        200_000 + u32::from(target),
        Value::from(code)
    )
}

#[test]
fn every_field_of_primevul_survives_import_and_export() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        primevul(1, "int f(int a)\n{\n\treturn a;\n}", "340282366920938463463374607431768211455"),
        primevul(0, "int f(int a)\n{\n\treturn 1;\n}", "100000000000000000000000000000000000007"),
    ];
    let path = written(folder.path(), "paired.jsonl", &lines.join("\n"));
    let imported = imported(&Source::PrimeVulPaired { path });
    // Through the form in which `data import` keeps records.
    let kept = serde_json::to_string(&imported.records[0]).unwrap();
    let record = serde_json::from_str(&kept).unwrap();
    let exported = primevul_lines(&[record]);
    for (line, exported) in lines.iter().zip(&exported) {
        assert_eq!(&serde_json::from_str::<Value>(line).unwrap(), exported);
        let hash = line.split("\"func_hash\":").nth(1).unwrap().split(',').next().unwrap();
        assert_eq!(hash.len(), 39);
        assert!(serde_json::to_string(exported).unwrap().contains(&format!("\"func_hash\":{hash},")));
    }
    assert_eq!(exported.len(), 2);
}
