//! The offline teacher on the real SVEN pairs, where they are present: what becomes of each of the 803.

#[path = "support/sven.rs"]
mod sven;

use std::collections::{BTreeMap, HashSet};

use vul2safe_corpus::{VulnerabilityRecord, check_pair};
use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};

#[test]
fn every_pair_of_sven_is_decided() {
    let Some(records) = sven::sven() else { return };
    let config = RepairConfig::default();
    let decisions = repair(&records, &OfflineTeacher, None, &config, &|_| {});
    assert_eq!(decisions.len(), records.len());
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_language: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut styles: BTreeMap<String, usize> = BTreeMap::new();
    let mut accepted = 0;
    for (record, decision) in records.iter().zip(&decisions) {
        let count = by_language.entry(record.language.to_string()).or_default();
        count.1 += 1;
        match decision {
            Decision::Accepted(pair) => {
                accepted += 1;
                count.0 += 1;
                assert_eq!(pair.id, record.id);
                assert_eq!(check_pair(pair), Vec::<String>::new(), "{}", pair.id);
                assert!(pair.confidence >= config.threshold);
                let texts: HashSet<_> =
                    pair.prompts.iter().map(|prompt| (&prompt.text, &prompt.prefix)).collect();
                assert_eq!(texts.len(), pair.prompts.len());
                for prompt in &pair.prompts {
                    *styles.entry(prompt.style.clone()).or_default() += 1;
                }
                if std::env::var_os("SHOW_PROMPTS").is_some() {
                    for prompt in &pair.prompts {
                        println!("{} [{}] {}", pair.id, prompt.style, prompt.text);
                    }
                }
            }
            Decision::Open(open) => panic!("open: {open:?}"),
            Decision::Rejected(rejection) => {
                assert_eq!(rejection.id, record.id);
                *reasons.entry(rejection.reason.to_string()).or_default() += 1;
                if std::env::var_os("SHOW_REJECTED").is_some() {
                    println!("{} {}: {}", record.id, rejection.reason, rejection.detail);
                }
            }
        }
    }
    println!("{accepted} of {} accepted; by language {by_language:?}", records.len());
    println!("rejected: {reasons:?}");
    println!("prompts by style: {styles:?}");
    assert!(accepted * 2 > records.len(), "{accepted}");
    assert!(styles.len() >= 5);
}

/// A function of more than 100,000 characters is decided like any other.
#[test]
fn a_function_of_100_000_characters_is_decided() {
    let body = "    total = total + rows[1] * 2\n".repeat(3_600);
    let vulnerable = format!("def total_of_rows(rows, total):\n{body}    return eval(total)\n");
    assert!(vulnerable.len() > 110_000);
    let mut record = sven_like(&vulnerable, &vulnerable.replace("eval(total)", "int(total)"));
    record.cwe.clear();
    let decisions = repair(&[record], &OfflineTeacher, None, &RepairConfig::default(), &|_| {});
    assert!(matches!(&decisions[0], Decision::Accepted(_)), "{decisions:?}");
}

fn sven_like(vulnerable: &str, secure: &str) -> VulnerabilityRecord {
    VulnerabilityRecord {
        id: "long".into(),
        language: vul2safe_code::Language::Python,
        cwe: vec![],
        cve: None,
        project: None,
        commit: None,
        date: None,
        license: None,
        file_name: None,
        function: None,
        description: None,
        vulnerable: vulnerable.into(),
        secure: Some(secure.into()),
        tests: None,
        split: None,
        original: Vec::new(),
        source: vul2safe_corpus::SourceId { dataset: "test".into(), id: "long".into() },
    }
}
