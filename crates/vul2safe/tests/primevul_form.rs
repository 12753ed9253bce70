//! Pairs of SVEN, written in PrimeVul's form and read again, give the same PrimeVul+ as SVEN itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use vul2safe_corpus::{ReadLimits, Source, VulnerabilityRecord, primevul_lines, read};
use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};

/// The records of a SVEN folder, and the same through a file of PrimeVul's paired form.
fn both_ways(sven: &Path) -> (Vec<VulnerabilityRecord>, Vec<VulnerabilityRecord>) {
    let records =
        read(&Source::Sven { path: sven.to_owned() }, &ReadLimits::default()).expect("SVEN").records;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("paired.jsonl");
    let lines: Vec<String> = primevul_lines(&records).iter().map(ToString::to_string).collect();
    std::fs::write(&path, lines.join("\n")).expect("written");
    let again = read(&Source::PrimeVulPaired { path }, &ReadLimits::default()).expect("PrimeVul");
    assert_eq!(again.dropped, [], "every pair comes back");
    (records, again.records)
}

/// Builds PrimeVul+ of both. Ids, the place in the data set and the name of the function are no fields of PrimeVul; they are
/// taken from SVEN, so that everything else can be compared.
fn same_primevul_plus(sven: &Path) -> usize {
    let (records, mut again) = both_ways(sven);
    let by_code: HashMap<(String, Option<String>), &VulnerabilityRecord> =
        records.iter().map(|record| ((record.vulnerable.clone(), record.secure.clone()), record)).collect();
    for record in &mut again {
        let first = by_code[&(record.vulnerable.clone(), record.secure.clone())];
        record.id.clone_from(&first.id);
        record.source.clone_from(&first.source);
        record.function.clone_from(&first.function);
        record.split = first.split;
    }
    let built = |records: &[VulnerabilityRecord]| -> Vec<Decision> {
        repair(records, &OfflineTeacher, None, &RepairConfig::default(), &|_| {})
    };
    let (one, other) = (built(&records), built(&again));
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other);
    }
    one.iter().filter(|decision| matches!(decision, Decision::Accepted(_))).count()
}

#[test]
fn own_pairs_give_the_same_primevul_plus() {
    let change = |start: usize, end: usize, chars: &str| json!([{"char_start": start, "char_end": end, "chars": chars}]);
    let line = |file: &str, name: &str, before: &str, after: &str, deleted, added| {
        json!({"func_name": name, "func_src_before": before, "func_src_after": after, "commit_link": "github.com/a/b/commit/c0ffee",
            "file_name": file, "vul_type": "cwe-089", "line_changes": {}, "char_changes": {"deleted": deleted, "added": added}})
    };
    let python = "def find(db, name):\n    \"\"\"Return the row of a customer.\"\"\"\n    return db.execute(\"SELECT * FROM customers WHERE name = '%s'\" % name).fetchone()\n";
    let python_fixed = "def find(db, name):\n    \"\"\"Return the row of a customer.\"\"\"\n    return db.execute(\"SELECT * FROM customers WHERE name = ?\", (name,)).fetchone()\n";
    let c = "int copy_name(char *target, const char *name)\n{\n\tstrcpy(target, name);\n\treturn 0;\n}\n";
    let c_fixed = "int copy_name(char *target, const char *name)\n{\n\tif (strlen(name) >= 64)\n\t\treturn -1;\n\tstrcpy(target, name);\n\treturn 0;\n}\n";
    let lines = [
        line("shop/db.py", "find", python, python_fixed, json!([]), json!([])),
        line("src/name.h", "copy_name", c, c_fixed, json!([]), change(0, 3, "int")),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("train")).expect("made");
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    std::fs::write(folder.path().join("train/cwe-089.jsonl"), text.join("\n")).expect("written");
    assert!(same_primevul_plus(folder.path()) >= 1);
}

#[test]
fn real_pairs_give_the_same_primevul_plus() {
    let data = std::env::var_os("VUL2SAFE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let sven = data.join("sven");
    if !sven.is_dir() {
        println!("skipped: {} not found", sven.display());
        return;
    }
    let accepted = same_primevul_plus(&sven);
    println!("{accepted} pairs accepted, the same both ways");
    assert!(accepted > 400, "{accepted}");
}
