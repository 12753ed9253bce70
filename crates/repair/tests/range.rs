//! The offline teacher on the project's own records: nearly all are accepted, in each language and of each family, and
//! what is rejected has a reason.

use std::collections::BTreeMap;

use vul2safe_code::Language;
use vul2safe_range::vulnerability_records;
use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};

#[test]
fn records_of_the_range_are_accepted() {
    let records = vulnerability_records(20, 3);
    // The tests of the records are run elsewhere.
    let config = RepairConfig { run_tests: false, ..RepairConfig::default() };
    let decisions = repair(&records, &OfflineTeacher, None, &config, &|_| {});
    // Language or family → accepted, all.
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (record, decision) in records.iter().zip(&decisions) {
        let family = record.id.trim_start_matches("range-").rsplit_once('-').unwrap().0;
        let language = if record.language == Language::Python { "Python" } else { "C" };
        let accepted = matches!(decision, Decision::Accepted(_));
        for name in [family, language] {
            let count = counts.entry(name).or_default();
            count[0] += usize::from(accepted);
            count[1] += 1;
        }
        if let Decision::Rejected(rejection) = decision {
            *reasons.entry(format!("{family}: {}: {}", rejection.reason, rejection.detail)).or_default() += 1;
        }
    }
    println!("{counts:#?}\n{reasons:#?}");
    for language in ["Python", "C"] {
        let [accepted, all] = counts[language];
        assert!(accepted * 100 >= all * 95, "{language}: {accepted} of {all}\n{reasons:#?}");
    }
}

#[test]
fn prompts_of_c_records_say_what_is_asked_for() {
    let records: Vec<_> =
        vulnerability_records(6, 4).into_iter().filter(|record| record.language == Language::C).collect();
    assert!(!records.is_empty());
    let config = RepairConfig { run_tests: false, ..RepairConfig::default() };
    for decision in repair(&records, &OfflineTeacher, None, &config, &|_| {}) {
        let Decision::Accepted(pair) = decision else { continue };
        let docstring = pair.secure.split("/* ").nth(1).and_then(|rest| rest.split(". */").next()).unwrap();
        let (_, effect) = docstring.split_once(' ').unwrap();
        for prompt in &pair.prompts {
            let shown = format!("{}\n{}", prompt.text, prompt.prefix.as_deref().unwrap_or(""));
            assert!(shown.contains(effect), "{effect}\n{shown}");
            assert!(shown.contains('(') && shown.contains(')'), "no signature: {shown}");
        }
        assert!(pair.prompts.len() >= 4, "{}", pair.secure);
    }
}
