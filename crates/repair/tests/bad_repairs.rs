//! A table of bad repairs, each with the reason it is refused for, and what becomes of good ones.

use vul2safe_code::{Cwe, Language};
use vul2safe_corpus::{
    Evidence, Prompt, Side, SourceId, SpanOrigin, Verdict, VulnerabilityRecord, check_pair,
};
use vul2safe_repair::{
    Analysis, Criticism, Decision, Draft, OfflineTeacher, Proposal, Proposals, RejectReason, RepairConfig,
    Teacher, Unanswered, Vote, repair,
};

const VULNERABLE: &str = r#"import sqlite3


def find_customer(database, name):
    """Return the row of the customer with the given name, or None."""
    connection = sqlite3.connect(database)
    cursor = connection.cursor()
    cursor.execute("SELECT * FROM customers WHERE name = '%s'" % name)
    return cursor.fetchone()
"#;

fn fixed() -> String {
    VULNERABLE.replace("'%s'\" % name", "?\", (name,)")
}

fn record(vulnerable: &str, secure: Option<&str>) -> VulnerabilityRecord {
    VulnerabilityRecord {
        id: "r1".into(),
        language: Language::Python,
        cwe: vec![Cwe(89)],
        cve: None,
        project: None,
        commit: None,
        date: None,
        license: None,
        file_name: None,
        function: Some("find_customer".into()),
        description: None,
        vulnerable: vulnerable.into(),
        secure: secure.map(str::to_owned),
        tests: None,
        split: None,
        original: Vec::new(),
        source: SourceId { dataset: "test".into(), id: "1".into() },
    }
}

fn decide(record: VulnerabilityRecord, teacher: &dyn Teacher) -> Decision {
    let mut decisions = repair(&[record], teacher, None, &RepairConfig::default(), &|_| {});
    assert_eq!(decisions.len(), 1);
    decisions.remove(0)
}

#[track_caller]
fn refused(secure: &str, reason: RejectReason) {
    match decide(record(VULNERABLE, Some(secure)), &OfflineTeacher) {
        Decision::Rejected(rejection) => {
            assert_eq!(rejection.reason, reason, "{}", rejection.detail);
            assert!(!rejection.detail.is_empty());
        }
        Decision::Accepted(pair) => panic!("accepted: {:#?}", pair.evidence),
        Decision::Open(open) => panic!("open: {open:?}"),
    }
}

#[test]
fn a_good_repair_is_accepted_with_its_evidence() {
    let Decision::Accepted(pair) = decide(record(VULNERABLE, Some(&fixed())), &OfflineTeacher) else {
        panic!("refused")
    };
    assert_eq!(check_pair(&pair), Vec::<String>::new());
    assert_eq!(pair.repair.by, "upstream");
    let verdict =
        |check: &str| pair.evidence.iter().find(|evidence| evidence.check == check).unwrap().verdict;
    assert_eq!(verdict("finding_gone"), Verdict::Passed);
    assert_eq!(verdict("tests_pass"), Verdict::Abstained);
    assert!(pair.spans.iter().all(|span| span.cwe == Some(Cwe(89)) && span.by == SpanOrigin::Diff));
    assert!(pair.spans.iter().any(|span| span.side == Side::Secure
        && &pair.secure[span.start..span.end] == "\"SELECT * FROM customers WHERE name = ?\", (name,)"));
    assert_eq!(pair.prompts.len(), 7);
    let styles: std::collections::HashSet<_> = pair.prompts.iter().map(|prompt| &prompt.style).collect();
    assert_eq!(styles.len(), 7, "{styles:?}");
}

#[test]
fn comments_only() {
    refused(&VULNERABLE.replace("    return", "    # checked\n    return"), RejectReason::NoCodeChange);
}

#[test]
fn white_space_only() {
    refused(&VULNERABLE.replace(" % name", "  %  name"), RejectReason::NoCodeChange);
}

#[test]
fn names_of_locals_only() {
    refused(
        &VULNERABLE.replace("cursor", "handle").replace("connection.handle", "connection.cursor"),
        RejectReason::RenamingOnly,
    );
}

#[test]
fn a_deleted_body() {
    let head = VULNERABLE.split("    connection =").next().unwrap();
    refused(&format!("{head}    pass\n"), RejectReason::BehaviourDeleted);
    refused(&format!("{head}    raise ValueError(name)\n"), RejectReason::BehaviourDeleted);
}

#[test]
fn a_result_that_is_gone() {
    refused(
        &fixed().replace("return cursor.fetchone()", "cursor.fetchone()"),
        RejectReason::BehaviourDeleted,
    );
}

#[test]
fn another_function() {
    refused(&fixed().replace("find_customer", "find_client"), RejectReason::SignatureChanged);
}

#[test]
fn other_parameters() {
    refused(
        &fixed().replace("(database, name)", "(database, name, limit=1)"),
        RejectReason::SignatureChanged,
    );
}

#[test]
fn broken_syntax() {
    refused(&fixed().replace("(name,))", "(name,)"), RejectReason::Unparsable);
}

#[test]
fn a_flaw_that_is_still_there() {
    refused(&VULNERABLE.replace("'%s'\" % name", "\" + name"), RejectReason::FindingRemains);
}

#[test]
fn a_new_weakness() {
    let code = fixed()
        .replace("    return cursor", "    import os\n    os.system(\"logger \" + name)\n    return cursor");
    refused(&code, RejectReason::NewWeakness);
}

#[test]
fn a_lost_helper() {
    let helper = "def other(x):\n    return x\n\n\n";
    match decide(record(&format!("{VULNERABLE}\n\n{helper}"), Some(&fixed())), &OfflineTeacher) {
        Decision::Rejected(rejection) => assert_eq!(rejection.reason, RejectReason::PublicNamesLost),
        other => panic!("{other:?}"),
    }
}

#[test]
fn swapped_sides() {
    match decide(record(&fixed(), Some(VULNERABLE)), &OfflineTeacher) {
        Decision::Rejected(rejection) => assert_eq!(rejection.reason, RejectReason::SwappedSides),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rewrite() {
    let code = "def find_customer(database, name):\n    for row in csv.reader(open(database)):\n        if row[1] == name and not row[2].startswith('-'):\n            return {'id': int(row[0]), 'since': row[3]}\n    return None\n";
    refused(code, RejectReason::ChangeTooLarge);
}

#[test]
fn no_upstream_fix() {
    match decide(record(VULNERABLE, None), &OfflineTeacher) {
        Decision::Rejected(rejection) => {
            assert_eq!(rejection.reason, RejectReason::NoProposal);
            assert_eq!(rejection.confidence, None);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_that_nothing_sets_any_more() {
    let outcome = |secure: &str| {
        let vulnerable =
            "def size(path):\n    import os\n    name = os.path.join(path, 'x')\n    return eval(name)\n";
        match decide(record(vulnerable, Some(secure)), &OfflineTeacher) {
            Decision::Accepted(_) => None,
            Decision::Rejected(rejection) => Some(rejection.reason),
            Decision::Open(open) => panic!("{open:?}"),
        }
    };
    let lost = "def size(path):\n    import os\n    return int(name)\n";
    assert_eq!(outcome(lost), Some(RejectReason::NameUnbound));
    // An import that moves out of the function is still there.
    let moved = "import os\n\n\ndef size(path):\n    name = os.path.join(path, 'x')\n    return int(name)\n";
    assert_ne!(outcome(moved), Some(RejectReason::NameUnbound));
}

#[test]
fn code_that_becomes_a_function() {
    match decide(
        record("x = 1\ny = f(x)\n", Some("def g(x):\n    y = f(x)\n    return y\n")),
        &OfflineTeacher,
    ) {
        Decision::Rejected(rejection) => assert_eq!(rejection.reason, RejectReason::NoFunction),
        other => panic!("{other:?}"),
    }
}

/// A teacher that first proposes nonsense and mends it when told what failed.
struct Learner;

impl Teacher for Learner {
    fn name(&self) -> &str {
        "learner"
    }

    fn analyse(&self, _: &VulnerabilityRecord) -> Result<Analysis, Unanswered> {
        Ok(Analysis::default())
    }

    fn propose(&self, record: &VulnerabilityRecord, _: &Analysis) -> Result<Proposals, Unanswered> {
        let secure = record.vulnerable.replace("%s", "%d");
        Ok(vec![Proposal { secure, by: "learner".into() }].into())
    }

    fn criticise(&self, draft: &Draft, _: &Analysis) -> Result<Criticism, Unanswered> {
        let sound = Evidence { check: "critic".into(), verdict: Verdict::Passed, detail: "sound".into() };
        let votes = (draft.secure == fixed()).then_some(Vote { evidence: sound, quote: None });
        Ok(Criticism { votes: votes.into_iter().collect() })
    }

    fn revise(&self, _: &Draft, _: &Analysis, failed: &[Evidence]) -> Result<Option<Proposal>, Unanswered> {
        assert!(failed.iter().any(|evidence| evidence.check == "finding_gone"));
        Ok(Some(Proposal { secure: fixed(), by: "learner".into() }))
    }

    fn prompts(&self, _: &Draft, _: usize, _: u64) -> Result<Vec<Prompt>, Unanswered> {
        let prompt =
            |text: &str| Prompt { text: text.into(), style: "free".into(), prefix: None, checks: vec![] };
        Ok(vec![
            prompt("Write find_customer(database, name) safely: return the row of the customer."),
            prompt("Write find_customer(database, name): return the row of the customer with this name."),
            prompt("write FIND_customer(database, name): return the row of the customer with this name."),
        ])
    }
}

#[test]
fn a_repair_is_revised_and_leaking_or_repeated_prompts_are_left_out() {
    let Decision::Accepted(pair) = decide(record(VULNERABLE, None), &Learner) else { panic!("refused") };
    assert_eq!((pair.repair.by.as_str(), pair.repair.rounds), ("learner", 2));
    assert_eq!(pair.prompts.len(), 1);
    assert_eq!(pair.prompts[0].checks.len(), 6);
}

#[test]
fn every_record_gets_a_decision_in_order() {
    let records: Vec<_> = (0..40)
        .map(|index| {
            let mut record = record(VULNERABLE, (index % 3 != 0).then(fixed).as_deref());
            record.id = format!("r{index}");
            record
        })
        .collect();
    let seen = std::sync::Mutex::new(Vec::new());
    let decisions = repair(&records, &OfflineTeacher, None, &RepairConfig::default(), &|count| {
        seen.lock().unwrap().push(count);
    });
    for (index, decision) in decisions.iter().enumerate() {
        let (id, accepted) = match decision {
            Decision::Accepted(pair) => (&pair.id, true),
            Decision::Rejected(rejection) => (&rejection.id, false),
            Decision::Open(open) => panic!("open: {open:?}"),
        };
        assert_eq!((id, accepted), (&format!("r{index}"), index % 3 != 0));
    }
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
}

#[test]
fn the_same_seed_gives_the_same_prompts_and_another_seed_others() {
    let prompts = |seed| {
        let config = RepairConfig { seed, ..RepairConfig::default() };
        match repair(&[record(VULNERABLE, Some(&fixed()))], &OfflineTeacher, None, &config, &|_| {}).remove(0)
        {
            Decision::Accepted(pair) => pair.prompts,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(prompts(1), prompts(1));
    assert_ne!(prompts(1), prompts(2));
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let config = RepairConfig { threshold: 1.5, ..RepairConfig::default() };
    assert!(config.check().unwrap_err().to_string().contains("threshold is 1.5"));
    assert!(RepairConfig::default().check().is_ok());
}
