//! The readers on the real SVEN data, where it is present, and through a conversion into PrimeVul's paired shape.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use vul2safe_corpus::{
    DropReason, Imported, ReadLimits, Side, Source, Split, SvenRow, VulnerabilityRecord, diff_spans, read,
};

fn sven() -> Option<PathBuf> {
    data("sven")
}

fn data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VUL2SAFE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} not found", path.display());
    None
}

fn imported(source: &Source) -> Imported {
    let imported = read(source, &ReadLimits::default()).unwrap();
    assert_eq!(imported.read, imported.records.len() + imported.dropped.len());
    imported
}

/// Every one of the 803 lines ends as a record or as a drop with a reason.
#[test]
fn every_line_of_sven_is_accounted_for() {
    let Some(path) = sven() else { return };
    let imported = imported(&Source::Sven { path });
    println!("{} read, {} records, dropped {:?}", imported.read, imported.records.len(), imported.counts());
    for dropped in &imported.dropped {
        println!("  {} {}: {}", dropped.place, dropped.reason, dropped.detail);
    }
    assert_eq!(imported.read, 803);
    let validation = imported.records.iter().filter(|record| record.split == Some(Split::Validation)).count();
    assert!(validation > 70 && validation <= 83, "{validation}");
    let ids: HashSet<_> = imported.records.iter().map(|record| &record.id).collect();
    assert_eq!(ids.len(), imported.records.len());
    assert!(imported.records.iter().all(|record| record.project.is_some() && record.commit.is_some()));
}

/// Spans of the leaf diff lie on character boundaries and touch what SVEN's own character diff changed.
#[test]
fn spans_agree_with_svens_own_changes() {
    let Some(path) = sven() else { return };
    let records = imported(&Source::Sven { path: path.clone() }).records;
    let mut without_difference = 0;
    let (mut own, mut touched) = (0, 0);
    for record in &records {
        let secure = record.secure.as_deref().unwrap();
        let Ok(spans) = diff_spans(record.language, &record.vulnerable, secure) else {
            without_difference += 1;
            continue;
        };
        for span in &spans {
            let text = if span.side == Side::Vulnerable { record.vulnerable.as_str() } else { secure };
            assert!(!span.span().is_empty() && text.get(span.start..span.end).is_some(), "{}", record.id);
        }
        for side in [Side::Vulnerable, Side::Secure] {
            assert!(spans.iter().any(|span| span.kind == side), "{} has no {side:?} span", record.id);
        }
        let row = row_of(&path, record);
        let (_, added) = row.byte_changes().unwrap();
        for change in
            added.iter().filter(|change| change.text(secure).is_some_and(|text| !text.trim().is_empty()))
        {
            own += 1;
            touched += usize::from(
                spans.iter().any(|span| span.side == Side::Secure && span.span().overlaps(*change)),
            );
        }
    }
    println!("{without_difference} pairs differ in comments only; {touched} of {own} added pieces touched");
    assert!(without_difference < 20);
    // Comments and white space account for the rest.
    assert!(touched * 100 >= own * 90, "{touched} of {own}");
}

fn row_of(path: &std::path::Path, record: &VulnerabilityRecord) -> SvenRow {
    let (file, line) = record.source.id.rsplit_once(':').unwrap();
    let text = std::fs::read_to_string(path.join(file)).unwrap();
    let line = text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
    SvenRow::from_object(serde_json::from_str::<Value>(line).unwrap().as_object().unwrap()).unwrap()
}

/// The C and C++ part of SVEN, written in PrimeVul's paired shape and read again, is the same code.
#[test]
fn sven_survives_the_shape_of_primevul() {
    let Some(path) = sven() else { return };
    let records: Vec<_> = imported(&Source::Sven { path })
        .records
        .into_iter()
        .filter(|record| record.language != vul2safe_code::Language::Python)
        .collect();
    let mut lines = String::new();
    for (index, record) in records.iter().enumerate() {
        for (target, code) in [(1, &record.vulnerable), (0, record.secure.as_ref().unwrap())] {
            lines.push_str(&primevul_line(index, target, code, record));
            lines.push('\n');
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("primevul_train_paired.jsonl");
    std::fs::write(&file, lines).unwrap();
    let again = imported(&Source::PrimeVulPaired { path: file });
    println!("{} pairs, {} records, dropped {:?}", records.len(), again.records.len(), again.counts());
    assert_eq!(again.read, records.len());
    // C and C++ twins that SVEN's file extensions keep apart may fall together here.
    assert!(again.dropped.iter().all(|dropped| dropped.reason == DropReason::Duplicate));
    let code: HashSet<_> =
        records.iter().map(|record| (&record.vulnerable, record.secure.as_ref().unwrap())).collect();
    for record in &again.records {
        assert!(code.contains(&(&record.vulnerable, record.secure.as_ref().unwrap())));
        assert!(record.source.id.contains("340282366920938463463374607431768"));
        assert_eq!(record.file_name, None);
    }
}

fn primevul_line(index: usize, target: u8, code: &str, record: &VulnerabilityRecord) -> String {
    let mut row = json!({
        "idx": 2 * index + usize::from(target == 0),
        "project": record.project, "commit_id": record.commit, "project_url": null, "commit_url": null,
        "commit_message": "", "target": target, "func": code, "func_hash": 0, "file_name": "None",
        "file_hash": null, "cwe": record.cwe, "cve": "None", "cve_desc": "None", "nvd_url": null,
    })
    .to_string();
    // 39 digits, more than 64 bits hold.
    row = row.replace(
        "\"func_hash\":0",
        &format!("\"func_hash\":340282366920938463463374607431768{index:03}{target:03}"),
    );
    row
}

/// Every one of LinuxVul's 2,317 pairs and of CyberSecEval's 1,681 cut-outs is a record or a drop with a reason.
#[test]
fn every_element_of_linuxvul_and_cyberseceval_is_accounted_for() {
    if let Some(path) = data("linuxvul") {
        let imported = imported(&Source::LinuxVul { path });
        println!(
            "LinuxVul: {} read, {} records, {:?}",
            imported.read,
            imported.records.len(),
            imported.counts()
        );
        assert_eq!(imported.read, 2_317);
        assert!(imported.records.len() > 2_000);
        assert!(imported.records.iter().all(|record| record.cve.is_some() && !record.cwe.is_empty()));
    }
    if let Some(path) = data("cyberseceval") {
        let imported = imported(&Source::CyberSecEval { path });
        println!(
            "CyberSecEval: {} read, {} records, {:?}",
            imported.read,
            imported.records.len(),
            imported.counts()
        );
        assert_eq!(imported.read, 1_681);
        assert!(imported.records.iter().all(|record| record.secure.is_none() && record.cwe.len() == 1));
        assert!(
            imported
                .counts()
                .keys()
                .all(|reason| { matches!(reason, DropReason::UnknownLanguage | DropReason::Duplicate) })
        );
    }
}
