//! A record with nothing but its code and its weakness.

use vul2safe_code::{Cwe, Language};
use vul2safe_corpus::{SourceId, VulnerabilityRecord};

pub fn record(language: Language, cwe: u32, vulnerable: &str, secure: &str) -> VulnerabilityRecord {
    VulnerabilityRecord {
        id: "snapshot".into(),
        language,
        cwe: vec![Cwe(cwe)],
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
        source: SourceId { dataset: "test".into(), id: "1".into() },
    }
}
