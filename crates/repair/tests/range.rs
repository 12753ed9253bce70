//! The project's own vulnerability records, Python and C, go through the offline teacher with their tests run.

use std::collections::BTreeMap;

use vul2safe_code::Language;
use vul2safe_judge::Judge;
use vul2safe_range::vulnerability_records;
use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};
use vul2safe_sandbox::{Policy, Sandbox};

#[test]
fn nearly_all_records_of_the_range_are_accepted() {
    // The code under test is our own, so a machine without landlock may run it as well.
    let sandbox = Sandbox::new(Policy { allow_unprotected: true }).map_err(|error| error.to_string());
    let judge = match sandbox.and_then(|sandbox| Judge::new(sandbox, None).map_err(|error| error.to_string()))
    {
        Ok(judge) => judge,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let records = vulnerability_records(8, 2);
    let decisions = repair(&records, &OfflineTeacher, Some(&judge), &RepairConfig::default(), &|_| ());
    // Language → accepted, all.
    let mut counts: BTreeMap<Language, (usize, usize)> = BTreeMap::new();
    let mut rejected = Vec::new();
    let mut prompts = Vec::new();
    for (record, decision) in records.iter().zip(&decisions) {
        let count = counts.entry(record.language).or_default();
        count.1 += 1;
        match decision {
            Decision::Accepted(pair) => {
                count.0 += 1;
                prompts.push(pair.prompts.len());
            }
            Decision::Rejected(rejection) => rejected.push(format!(
                "{} {:?}\n{}\n{}",
                record.id,
                rejection,
                record.vulnerable,
                record.secure.as_deref().unwrap_or_default()
            )),
            Decision::Open(open) => rejected.push(format!("{} {open:?}", record.id)),
        }
    }
    println!("{counts:?}");
    for (language, (accepted, all)) in counts {
        assert!(all >= 50, "{all} records in {language}");
        assert!(accepted * 100 >= all * 95, "{accepted} of {all} in {language}:\n{}", rejected.join("\n\n"));
    }
    assert!(prompts.iter().all(|&count| count >= 3), "a pair with few prompts: {prompts:?}");
}

#[test]
fn prompts_of_c_records_say_what_is_asked_for() {
    let records: Vec<_> =
        vulnerability_records(6, 4).into_iter().filter(|record| record.language == Language::C).collect();
    assert!(!records.is_empty());
    // The tests of the records are run above.
    let config = RepairConfig { run_tests: false, ..RepairConfig::default() };
    for decision in repair(&records, &OfflineTeacher, None, &config, &|_| ()) {
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
