//! Every line of input ends as a record or as a drop with its reason and place; nothing panics.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use vul2safe_code::Language;
use vul2safe_corpus::{ColumnMap, CorpusError, DropReason, Imported, PrimeVulRow, ReadLimits, Source, read};

fn written(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn columns() -> ColumnMap {
    ColumnMap {
        vulnerable: "bad".into(),
        secure: Some("fix.code".into()),
        language: Some("lang".into()),
        cwe: Some("cwe".into()),
        default_language: Some(Language::Python),
        ..ColumnMap::default()
    }
}

fn read_columns(bytes: &[u8], limits: &ReadLimits) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "data.jsonl", bytes);
    let imported = read(&Source::Jsonl { path, columns: columns() }, limits).unwrap();
    assert_eq!(imported.read, imported.records.len() + imported.dropped.len());
    imported
}

/// One line, and what becomes of it.
#[track_caller]
fn dropped_as(line: &[u8], reason: DropReason, part: &str) {
    let imported = read_columns(line, &ReadLimits { line_bytes: 400, code_bytes: 200 });
    let [dropped] = imported.dropped.as_slice() else { panic!("{imported:?}") };
    assert_eq!(dropped.reason, reason, "{}", dropped.detail);
    assert_eq!(dropped.place, "data.jsonl:1");
    assert!(dropped.detail.contains(part), "`{}` does not say `{part}`", dropped.detail);
}

#[test]
fn each_bad_line_has_its_reason() {
    let fix = r#","fix":{"code":"def f():\n    return 2"}}"#;
    let line = |head: &str| [head, fix].concat().into_bytes();
    dropped_as(br#"{"bad": "def f(): pas"#, DropReason::Truncated, "middle");
    dropped_as(b"{\"bad\": \"\xFF\xFE\"}", DropReason::NotUtf8, "byte 9");
    dropped_as(b"{\"bad\": \"a\0b\"}", DropReason::NulByte, "NUL");
    dropped_as(&line(r#"{"bad":"a\u0000b""#), DropReason::NulByte, "vulnerable");
    dropped_as(b"not json at all", DropReason::NotJson, "");
    dropped_as(b"[1, 2]", DropReason::NotJson, "object");
    dropped_as(br#"{"good": "x"}"#, DropReason::MissingField, "`bad` is absent; the line has `good`");
    dropped_as(&line(r#"{"bad":7"#), DropReason::WrongType, "a number");
    dropped_as(&line(r#"{"bad":null"#), DropReason::MissingField, "null");
    dropped_as(&line(r#"{"bad":"  \n ""#), DropReason::EmptyCode, "vulnerable");
    dropped_as(&line(r#"{"bad":"def f():\n    return 2\n""#), DropReason::IdenticalSides, "same text");
    dropped_as(&line(r#"{"bad":"x = 1","lang":"cobol""#), DropReason::UnknownLanguage, "cobol");
    dropped_as(&line(&format!(r#"{{"bad":"{}""#, "x".repeat(201))), DropReason::TooLong, "201 bytes");
    dropped_as(&[b'x'; 500], DropReason::TooLong, "500 bytes");
}

#[test]
fn good_lines_between_bad_ones_are_kept() {
    let good =
        r#"{"bad":"x = 1","fix":{"code":"x = 2"},"cwe":["CWE-078","cwe-089","NVD-CWE-noinfo"],"lang":"C++"}"#;
    let text = format!("\n{good}\r\n{{\"bad\n{good}\n{}\n   \n", good.replace("x = 1", "x = 3"));
    let imported = read_columns(text.as_bytes(), &ReadLimits::default());
    assert_eq!(imported.records.len(), 2);
    assert_eq!(imported.records[0].language, Language::Cpp);
    let cwe: Vec<_> = imported.records[0].cwe.iter().map(ToString::to_string).collect();
    assert_eq!(cwe, ["CWE-78", "CWE-89"]);
    let places: Vec<_> =
        imported.dropped.iter().map(|dropped| (dropped.place.as_str(), dropped.reason)).collect();
    assert_eq!(places, [("data.jsonl:3", DropReason::Truncated), ("data.jsonl:4", DropReason::Duplicate)]);
    assert!(imported.dropped[1].detail.contains("jsonl-data.jsonl:2"));
}

fn primevul(target: u8, code: &str, commit: &str) -> String {
    json!({"idx": 7, "project": "p", "commit_id": commit, "target": target, "func": code, "cwe": [], "file_name": "None",
           "cve": "CVE-2020-1", "func_hash": serde_json::Number::from_string_unchecked("9".repeat(39))})
    .to_string()
}

#[test]
fn primevul_pairs_are_found_turned_round_or_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        primevul(1, "int a;", "one"),
        primevul(0, "int b;", "one"),
        // The fix comes first.
        primevul(0, "int c;", "two"),
        primevul(1, "int d;", "two"),
        // No partner: the next line is of another commit.
        primevul(1, "int e;", "three"),
        primevul(1, "int f;", "four"),
        "{\"idx\": 8, \"target\"".into(),
        primevul(0, "int g;", "four"),
        primevul(2, "int h;", "five"),
    ];
    let path = written(folder.path(), "paired.jsonl", lines.join("\n").as_bytes());
    let imported = read(&Source::PrimeVulPaired { path }, &ReadLimits::default()).unwrap();
    let sides: Vec<_> = imported
        .records
        .iter()
        .map(|record| (record.vulnerable.as_str(), record.secure.as_deref().unwrap()))
        .collect();
    assert_eq!(sides, [("int a;", "int b;"), ("int d;", "int c;")]);
    assert_eq!(imported.mended.len(), 1);
    assert_eq!(imported.mended[0].reason, DropReason::SwappedSides);
    let dropped: Vec<_> =
        imported.dropped.iter().map(|dropped| (dropped.place.as_str(), dropped.reason)).collect();
    assert_eq!(
        dropped,
        [
            ("paired.jsonl:5", DropReason::PartnerMissing),
            ("paired.jsonl:6", DropReason::PartnerMissing),
            ("paired.jsonl:7", DropReason::Truncated),
            ("paired.jsonl:8", DropReason::PartnerMissing),
            ("paired.jsonl:9", DropReason::InvalidValue),
        ]
    );
    assert_eq!(imported.read, 7);
    assert_eq!(imported.records[0].source.id, format!("7:{0}|7:{0}", "9".repeat(39)));
    assert_eq!(imported.records[1].id, "primevul-7-2", "ids stay unique");
    assert_eq!(imported.records[0].language, Language::C);
}

#[test]
fn the_hash_of_39_digits_survives_a_round_trip() {
    let line = primevul(1, "int a;", "one");
    let row = PrimeVulRow::from_object(&serde_json::from_str(&line).unwrap()).unwrap();
    let again = serde_json::to_string(&row).unwrap();
    assert!(again.contains(&format!("\"func_hash\":{}", "9".repeat(39))), "{again}");
    assert_eq!(PrimeVulRow::from_object(&serde_json::from_str(&again).unwrap()).unwrap(), row);
}

#[test]
fn functions_without_a_flaw_are_dropped_from_the_single_files() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [primevul(1, "int a;", "one"), primevul(0, "int b;", "one")].join("\n");
    let path = written(folder.path(), "single.jsonl", lines.as_bytes());
    let imported = read(&Source::PrimeVul { path }, &ReadLimits::default()).unwrap();
    assert_eq!(imported.records.len(), 1);
    assert_eq!(imported.records[0].secure, None);
    assert_eq!(imported.dropped[0].reason, DropReason::NotVulnerable);
}

fn sven(deleted: &str, added: &str) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let change =
        |start: usize, chars: &str| json!({"char_start": start, "char_end": start + 1, "chars": chars});
    // Offsets count characters: `é` is one of them and two bytes.
    let line = json!({"func_name": "f", "func_src_before": "é = 1", "func_src_after": "é = 2",
        "commit_link": "github.com/a/b/commit/c0ffee", "file_name": "x/y.py", "vul_type": "cwe-089",
        "line_changes": {}, "char_changes": {"deleted": [change(4, deleted)], "added": [change(4, added)]}});
    std::fs::create_dir_all(folder.path().join("val")).unwrap();
    written(folder.path(), "val/cwe-089.jsonl", line.to_string().as_bytes());
    read(&Source::Sven { path: folder.path().to_owned() }, &ReadLimits::default()).unwrap()
}

#[test]
fn sven_offsets_count_characters() {
    let imported = sven("1", "2");
    let record = &imported.records[0];
    assert_eq!(record.project.as_deref(), Some("a/b"));
    assert_eq!(record.commit.as_deref(), Some("c0ffee"));
    assert_eq!(record.split, Some(vul2safe_corpus::Split::Validation));
    assert_eq!(record.source.id, "val/cwe-089.jsonl:1");
    assert_eq!(sven("2", "1").dropped[0].reason, DropReason::SwappedSides);
    assert_eq!(sven("5", "5").dropped[0].reason, DropReason::InvalidValue);
}

#[test]
fn a_source_that_is_not_there_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: std::path::PathBuf| read(&Source::Sven { path }, &ReadLimits::default()).unwrap_err();
    let missing = error(folder.path().join("nothing"));
    assert!(matches!(missing, CorpusError::Missing { .. }) && missing.hint().is_some());
    assert!(matches!(error(folder.path().to_owned()), CorpusError::EmptyFolder { .. }));
    let text = written(folder.path(), "data.txt", b"");
    assert!(error(text).to_string().ends_with("data.txt: expected a file that ends in .jsonl"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), "data.jsonl", &bytes);
        let sources = [
            Source::Sven { path: path.clone() },
            Source::PrimeVul { path: path.clone() },
            Source::PrimeVulPaired { path: path.clone() },
            Source::PrimeVulPlus { path: path.clone() },
            Source::Jsonl { path, columns: columns() },
        ];
        for source in sources {
            let imported = read(&source, &ReadLimits { line_bytes: 100, code_bytes: 50 }).unwrap();
            prop_assert_eq!(imported.read, imported.records.len() + imported.dropped.len());
        }
    }

    /// A valid line with a piece cut out or a byte changed.
    #[test]
    fn damaged_lines_never_panic(cut in 0usize..300, byte in any::<u8>()) {
        let mut bytes = primevul(1, "int main() { return 0; }", "one").into_bytes();
        let position = cut % bytes.len();
        bytes[position] = byte;
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), "data.jsonl", &bytes);
        let paired = read(&Source::PrimeVulPaired { path: path.clone() }, &ReadLimits::default()).unwrap();
        prop_assert_eq!(paired.read, paired.records.len() + paired.dropped.len());
        std::fs::write(&path, &bytes[..position]).unwrap();
        let single = read(&Source::PrimeVul { path }, &ReadLimits::default()).unwrap();
        prop_assert_eq!(single.read, single.records.len() + single.dropped.len());
    }
}
