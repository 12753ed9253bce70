use std::collections::BTreeSet;

use super::*;
use crate::families::FAMILIES;
use crate::family::{Family, PYTHON, Site};
use crate::names::{Names, Words};

fn exam() -> Vec<Task> {
    Level::ALL.into_iter().flat_map(|level| tasks(level, 12, 3)).collect()
}

/// Words that would tell a reader that the request is about security, and modules that only one side uses.
const GIVEN_AWAY: [&str; 32] = [
    "secur",
    "safe",
    "sanit",
    "escap",
    "trust",
    "attack",
    "inject",
    "exploit",
    "vulnerab",
    "malicious",
    "hostile",
    "cwe-",
    "guard",
    "protect",
    "encrypt",
    "travers",
    "xss",
    "danger",
    "harm",
    "risk",
    "prevent",
    "forge",
    "valid",
    "random",
    "secrets",
    "pickle",
    "json",
    "eval(",
    "shell",
    "quote",
    "literal",
    "predict",
];

fn words_of(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect()
}

#[test]
fn the_range_is_as_wide_as_it_says() {
    let families = families();
    let open: Vec<&FamilyInfo> = families.iter().filter(|family| !family.harmless).collect();
    assert!(open.len() >= 12);
    assert!(open.iter().filter(|family| family.sites.len() >= 2).count() >= 4);
    assert!(families.len() - open.len() >= 6);
    assert!(open.iter().map(|family| family.cwe).collect::<BTreeSet<_>>().len() >= 8);
    assert_eq!(families.iter().map(|family| family.name).collect::<BTreeSet<_>>().len(), families.len());
}

#[test]
fn every_family_has_enough_of_everything() {
    for family in FAMILIES {
        let named = family.names.iter().map(|(slot, _)| slot);
        for slot in named.chain(family.contexts.iter().flat_map(|one| one.slots).map(|(slot, _)| slot)) {
            let kept = ["function", "parameters", "result", "signature", "does", "Does", "third"];
            assert!(!kept.contains(slot), "{}: ${slot} has a meaning of its own", family.name);
        }
        assert!(family.exam.len() >= 3 && family.corpus.len() >= 2, "{}", family.name);
        // A family that is held out as a whole needs no context that is.
        assert!(
            family.is_held_out() || family.contexts.iter().any(|context| context.held_out),
            "{}",
            family.name
        );
        assert!(family.contexts.iter().filter(|context| !context.held_out).count() >= 2, "{}", family.name);
        assert!(family.functional.matches("\ndef test_").count() >= 2, "{}", family.name);
        assert!(family.sites.iter().all(|site| site.secure.len() >= 3), "{}", family.name);
        if family.harmless() {
            assert!(family.exploit.is_empty() && family.sites.iter().all(|site| site.vulnerable.is_empty()));
            continue;
        }
        let tests = |text: &str| format!("\n{text}").matches("\ndef test_").count();
        let of_sites: usize = family.sites.iter().map(|site| tests(&family.exploit_of(site))).sum();
        assert_eq!(of_sites, tests(family.exploit), "{}: a test that attacks no site or two", family.name);
        for site in family.sites {
            assert!(tests(&family.exploit_of(site)) >= 1, "{}: no test attacks {}", family.name, site.slot);
            assert!(site.vulnerable.len() >= 3 && site.cwe.is_some(), "{}: {}", family.name, site.slot);
            assert!(site.secure.iter().all(|variant| variant.fix.is_empty()), "{}", family.name);
            for flawed in site.vulnerable {
                assert!(
                    site.secure.iter().any(|fix| fix.label == flawed.fix),
                    "{}: {}",
                    family.name,
                    flawed.label
                );
            }
        }
    }
}

#[test]
fn a_slot_is_filled_wherever_it_stands() {
    let mut names = Names::default();
    names.set("verb", "find");
    names.set("noun", "order");
    names.set("function", "$verb_$noun");
    assert_eq!(
        names.fill("$function(): {$noun} ${noun}s $unknown 5$"),
        "find_order(): {order} orders $unknown 5$"
    );
}

#[test]
fn no_slot_is_left_open() {
    for task in exam() {
        let codes =
            task.secure.iter().chain(&task.vulnerable).map(|implementation| implementation.code.as_str());
        for text in [task.request.as_str(), &task.functional, task.exploit.as_deref().unwrap_or("")]
            .into_iter()
            .chain(codes)
        {
            assert!(!text.contains('$'), "{}: {text}", task.id);
        }
    }
    for document in base_corpus(2_000, 0.5, 1) {
        assert!(!document.request.contains('$') && !document.code.contains('$'), "{}", document.request);
    }
}

#[test]
fn all_code_and_all_tests_parse() {
    let parses = |language, text: &str| vul2safe_code::parse(language, text).is_ok_and(|p| p.is_clean());
    let python = |text: &str| parses(Language::Python, text);
    for task in exam() {
        assert!(python(&task.functional) && task.exploit.as_deref().is_none_or(python), "{}", task.id);
        assert!(task.sites.iter().all(|site| python(&site.exploit)), "{}", task.id);
        for implementation in task.secure.iter().chain(&task.vulnerable) {
            assert!(parses(task.language, &implementation.code), "{}: {}", task.id, implementation.code);
        }
    }
    for record in vulnerability_records(10, 5) {
        for side in [&record.vulnerable, record.secure.as_ref().unwrap()] {
            assert!(parses(record.language, side), "{}: {side}", record.id);
        }
    }
    for document in base_corpus(3_000, 0.5, 5) {
        assert!(parses(document.language, &document.code), "{}", document.code);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for level in Level::ALL {
        assert_eq!(tasks(level, 5, 11), tasks(level, 5, 11));
        assert_ne!(tasks(level, 5, 11), tasks(level, 5, 12));
    }
    assert_eq!(vulnerability_records(5, 11), vulnerability_records(5, 11));
    assert_ne!(vulnerability_records(5, 11), vulnerability_records(5, 12));
    assert_eq!(base_corpus(300, 0.4, 11), base_corpus(300, 0.4, 11));
    assert_ne!(base_corpus(300, 0.4, 11), base_corpus(300, 0.4, 12));
}

#[test]
fn no_request_speaks_of_security() {
    let requests = exam().into_iter().map(|task| task.request);
    for request in requests.chain(base_corpus(5_000, 0.5, 2).into_iter().map(|document| document.request)) {
        let lower = request.to_lowercase();
        for word in GIVEN_AWAY {
            assert!(!lower.contains(word), "`{word}` in: {request}");
        }
    }
}

#[test]
fn a_request_names_the_function_and_its_parameters() {
    for task in exam() {
        let function = format!("{}(", task.function);
        let family = FAMILIES.iter().find(|family| family.name == task.family).unwrap();
        let signature = format!("`{}{function}", family.result);
        assert!(task.request.contains(&signature), "{}", task.request);
    }
}

#[test]
fn there_are_as_many_tasks_as_asked_for_and_all_differ() {
    for level in Level::ALL {
        let tasks = tasks(level, 30, 4);
        let of_level =
            families().iter().filter(|family| family.held_out == (level == Level::HeldOutFamilies)).count();
        assert_eq!(tasks.len(), 30 * of_level);
        assert_eq!(tasks.iter().map(|task| &task.request).collect::<BTreeSet<_>>().len(), tasks.len());
        assert_eq!(tasks.iter().map(|task| &task.id).collect::<BTreeSet<_>>().len(), tasks.len());
    }
}

#[test]
fn records_hold_no_reserved_word_and_no_held_out_context() {
    let records = vulnerability_records(60, 6);
    for record in &records {
        let family =
            FAMILIES.iter().find(|family| record.id.starts_with(&format!("range-{}-", family.name))).unwrap();
        let words = words_of(&record.vulnerable);
        for (_, pool) in family.names {
            for reserved in pool.reserved {
                // A reserved command or host can be a common word of code in another family, never in its own.
                assert!(!words.contains(reserved), "{}: {reserved}", record.id);
            }
        }
        let opening = if record.language == Language::Python { "\"\"\"" } else { "/* " };
        assert!(record.vulnerable.contains(opening), "{} has no docstring", record.id);
    }
    let functions: BTreeSet<&str> = records.iter().filter_map(|record| record.function.as_deref()).collect();
    for level in Level::HELD_OUT {
        assert!(tasks(level, 30, 6).iter().all(|task| !functions.contains(task.function.as_str())));
    }
}

#[test]
fn a_held_out_context_is_in_no_record() {
    let records = vulnerability_records(60, 14);
    for family in FAMILIES.iter().filter(|family| !family.harmless() && !family.is_held_out()) {
        let open =
            || family.contexts.iter().filter(|context| !context.held_out).flat_map(|context| context.slots);
        for context in family.contexts.iter().filter(|context| context.held_out) {
            // What tells this context from the open ones; the exploit tests, where `leak` is, are in no record anyway.
            let marks: Vec<&str> = context
                .slots
                .iter()
                .filter(|(slot, value)| *slot != "leak" && !value.is_empty() && !value.contains('$'))
                .filter(|slot| open().all(|other| other != *slot))
                .map(|(_, value)| *value)
                .collect();
            assert!(!marks.is_empty(), "{}: a held-out context like the others", family.name);
            for record in
                records.iter().filter(|record| record.id.starts_with(&format!("range-{}-", family.name)))
            {
                let text = format!("{}{}", record.vulnerable, record.tests.as_ref().unwrap().functional);
                assert!(!marks.iter().all(|mark| text.contains(mark)), "{}: {marks:?}", record.id);
            }
        }
    }
}

#[test]
fn a_name_is_reserved_when_both_its_words_are() {
    let family = FAMILIES[0];
    let mut random = rand::SeedableRng::seed_from_u64(1);
    assert!(Names::draw(family.names, Words::Reserved, &mut random).is_reserved(family.names));
    assert!(!Names::draw(family.names, Words::Open, &mut random).is_reserved(family.names));
    let mut mixed = Names::draw(family.names, Words::Reserved, &mut random);
    mixed.set("verb", "find");
    assert!(!mixed.is_reserved(family.names));
}

#[test]
fn every_record_is_a_small_change_with_a_project_of_its_own() {
    let records = vulnerability_records(20, 8);
    let of_records = families().iter().filter(|family| !family.harmless && !family.held_out).count();
    assert_eq!(records.len(), 20 * of_records);
    for record in &records {
        let secure = record.secure.as_deref().unwrap();
        assert_ne!(record.vulnerable, secure);
        assert!(!record.cwe.is_empty() && record.tests.is_some(), "{}", record.id);
    }
    let projects: BTreeSet<_> = records.iter().map(|record| record.project.as_deref()).collect();
    assert_eq!(projects.len(), records.len());
}

#[test]
fn the_base_corpus_holds_no_function_of_a_held_out_task() {
    let corpus = base_corpus(20_000, 0.5, 9);
    let mut words = BTreeSet::new();
    for document in &corpus {
        words.extend(
            document.code.split(|character: char| !character.is_ascii_alphanumeric() && character != '_'),
        );
    }
    let requests: BTreeSet<&str> = corpus.iter().map(|document| document.request.as_str()).collect();
    for level in Level::ALL {
        for task in tasks(level, 30, 9) {
            assert!(!requests.contains(task.request.as_str()), "{}", task.request);
            assert!(level == Level::Train || !words.contains(task.function.as_str()), "{}", task.function);
        }
    }
}

#[test]
fn every_reserved_word_occurs_in_the_base_corpus() {
    let corpus = base_corpus(20_000, 0.5, 10);
    let words: BTreeSet<&str> = corpus.iter().flat_map(|document| words_of(&document.code)).collect();
    for (_, pool) in FAMILIES.iter().flat_map(|family| family.names) {
        assert!(
            pool.reserved
                .iter()
                .all(|word| words.contains(word) || words.contains(format!("un{word}").as_str()))
        );
    }
}

#[test]
fn the_vulnerable_share_is_as_asked() {
    let (mut flawed, mut sites) = (0, 0);
    // Which variants a document is made of is told by the lines that only one side of a site has.
    let marks: [(&str, &str); 3] = [
        ("secrets.choice", "random.choice("),
        ("ast.literal_eval(", " eval("),
        ("html.escape(row", "{row[0]}<"),
    ];
    for share in [0.0, 0.3, 1.0] {
        let corpus = base_corpus(12_000, share, 12);
        let count = |mark: &str| corpus.iter().filter(|document| document.code.contains(mark)).count();
        for (secure, vulnerable) in marks {
            assert!(share != 0.0 || count(vulnerable) == 0, "{vulnerable}");
            assert!(share != 1.0 || count(secure) == 0, "{secure}");
        }
        if share == 0.3 {
            (flawed, sites) =
                (count("os.chmod(path, 0o777)") + count("os.chmod(path, 0o666)"), count("os.chmod(path, "));
        }
    }
    // Two of four variants a side call os.chmod, so the share among them is the share of sites.
    let observed = f64::from(flawed as u32) / f64::from(sites as u32);
    assert!((observed - 0.3).abs() < 0.07, "{observed} of {sites}");
}

#[test]
fn a_held_out_family_is_in_no_record() {
    let records = vulnerability_records(60, 15);
    let corpus = base_corpus(20_000, 0.5, 15);
    for family in FAMILIES.iter().filter(|family| family.is_held_out()) {
        assert!(!family.harmless(), "{}: nothing to hold out", family.name);
        for piece in family.held_out {
            assert!(corpus.iter().any(|document| document.code.contains(piece)), "{}: {piece}", family.name);
            for record in &records {
                let sides = format!("{}{}", record.vulnerable, record.secure.as_deref().unwrap());
                assert!(!sides.contains(piece), "{}: {piece} is in {}", family.name, record.id);
            }
        }
        for site in family.sites {
            for variant in site.secure {
                let text = format!("{}\n{}", variant.imports.join("\n"), variant.code);
                assert!(
                    family.held_out.iter().any(|piece| text.contains(piece)),
                    "{}: {}",
                    family.name,
                    variant.label
                );
            }
        }
    }
}

#[test]
fn every_variant_of_every_site_occurs_for_every_combination_of_flaws() {
    for family in FAMILIES.iter().filter(|family| !family.harmless()) {
        for flaws in family.flaws().into_iter().chain([vec![false; family.sites.len()]]) {
            let chosen = family.covering(&flaws);
            for (index, (site, flaw)) in family.sites.iter().zip(&flaws).enumerate() {
                let labels: BTreeSet<&str> = chosen.iter().map(|variants| variants[index].label).collect();
                assert_eq!(labels, site.side(*flaw).iter().map(|variant| variant.label).collect());
                assert!(chosen.iter().all(|variants| variants[index].is_flawed() == *flaw));
            }
        }
    }
}

#[test]
fn the_tests_of_a_site_are_those_that_bear_its_name() {
    let family = Family {
        exploit: "\ndef test_file(answer):\n    assert 1\n\n\ndef test_page(answer):\n    assert 2\n\n\ndef test_file_twice(answer):\n    assert 3\n\n\ndef test_filename(answer):\n    assert 4\n",
        ..PYTHON
    };
    let site = |slot| Site { slot, cwe: Some(22), secure: &[], vulnerable: &[] };
    assert_eq!(
        family.exploit_of(&site("file")),
        "def test_file(answer):\n    assert 1\n\n\ndef test_file_twice(answer):\n    assert 3"
    );
    assert_eq!(family.exploit_of(&site("page")), "def test_page(answer):\n    assert 2");
    assert_eq!(family.exploit_of(&site("other")), "");
}

#[test]
fn check_reports_every_wrong_verdict() {
    let tasks = tasks(Level::Train, 1, 1);
    let task = tasks.iter().find(|task| task.sites.len() == 2).unwrap();
    let all = task.secure.len() + task.vulnerable.len();
    assert_eq!(trials(task).len(), 3 * all);
    // What the tests would say if they told the truth.
    let right = |trial: &Trial<'_>| {
        let one = task.secure.iter().chain(&task.vulnerable).find(|one| one.code == trial.code).unwrap();
        let attacked = |name: &String| {
            task.sites.iter().any(|site| &site.name == name && trial.exploit == Some(site.exploit.as_str()))
        };
        let whole = trial.exploit == task.exploit.as_deref();
        (Some(true), Some(one.flawed.iter().any(|name| whole || attacked(name))))
    };
    assert_eq!(check(task, right), vec![]);
    assert!(
        trials(task)
            .iter()
            .all(|trial| trial.functional.is_some() == (trial.exploit == task.exploit.as_deref()))
    );
    // An attack on one site that works whenever any site is flawed.
    let blurred = |trial: &Trial<'_>| {
        let one = task.secure.iter().chain(&task.vulnerable).find(|one| one.code == trial.code).unwrap();
        (Some(true), Some(!one.flawed.is_empty()))
    };
    let one_flaw = task.vulnerable.iter().filter(|one| one.flawed.len() == 1).count();
    assert_eq!(check(task, blurred).len(), one_flaw);
    assert_eq!(check(task, |_| (Some(false), None)).len(), (1 + 1 + 2) * all);
}

#[test]
fn answers_are_short() {
    let corpus = base_corpus(3_000, 0.5, 13);
    let bytes: usize = corpus.iter().map(|document| document.code.len()).sum();
    assert!(bytes / corpus.len() < 260, "{} bytes on average", bytes / corpus.len());
}
