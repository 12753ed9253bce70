//! The rules on the project's own tasks: every implementation of every family, at every level. A site of the code
//! that is secure must not be flagged with its weakness, a vulnerable one should be.

use std::collections::{BTreeMap, BTreeSet};

use vul2safe_analyze::analyze;
use vul2safe_code::{Cwe, Language, parse};
use vul2safe_range::{Level, families, tasks};

/// Weaknesses found in a module that must parse.
fn weaknesses(language: Language, code: &str) -> BTreeSet<Cwe> {
    let parsed = parse(language, code).unwrap();
    assert!(parsed.is_clean(), "does not parse:\n{code}");
    analyze(&parsed).iter().map(|finding| finding.cwe).collect()
}

/// The labels of the sites' variants.
fn variants(label: &str) -> Vec<String> {
    label.split(" + ").map(str::to_string).collect()
}

/// Flawed sites, variants, code.
type Implementation = (Vec<String>, Vec<String>, String);

#[test]
fn secure_is_left_alone_and_vulnerable_is_flagged() {
    // Family → implementations, each with several names and contexts.
    let mut implementations: BTreeMap<String, BTreeSet<Implementation>> = BTreeMap::new();
    for level in Level::ALL {
        for task in tasks(level, 12, 3) {
            let all = implementations.entry(task.family.clone()).or_default();
            let answers = task.secure.into_iter().chain(task.vulnerable);
            all.extend(answers.map(|one| (one.flawed, variants(&one.label), one.code)));
        }
    }
    println!(
        "family | vulnerable flagged | secure flagged | vulnerable sites flagged | secure sites flagged"
    );
    let mut totals = [0usize; 8];
    let (mut alarms, mut unseen) = (Vec::new(), Vec::new());
    for family in families() {
        let all = &implementations[family.name];
        // Vulnerable flagged, vulnerable, secure flagged, secure; then the same of sites.
        let mut counts = [0usize; 8];
        for (flaws, variants, code) in all {
            let found = weaknesses(family.language, code);
            let sites = &family.sites;
            let flagged = if family.harmless {
                !found.is_empty()
            } else {
                sites.iter().any(|site| found.contains(&site.cwe))
            };
            let flawed = !flaws.is_empty();
            let at = if flawed { 0 } else { 2 };
            counts[at] += usize::from(flagged);
            counts[at + 1] += 1;
            // A secure implementation has no other weakness either.
            if !flawed && !found.is_empty() {
                alarms.push(format!("{} / {variants:?}: {found:?}\n{code}", family.name));
            }
            for (index, site) in sites.iter().enumerate() {
                let cwe = &site.cwe;
                // Two sites may have the same weakness: then a finding cannot be told from one of the other site.
                let others = || sites.iter().filter(|other| other.name != site.name && other.cwe == *cwe);
                if others().any(|other| flaws.iter().any(|name| name == other.name)) {
                    continue;
                }
                let clean = !flaws.iter().any(|name| name == site.name);
                let at = if clean { 6 } else { 4 };
                counts[at] += usize::from(found.contains(cwe));
                counts[at + 1] += 1;
                if clean == found.contains(cwe) {
                    let place = format!("{} / {}: {cwe}\n{code}", family.name, variants[index]);
                    if clean { &mut alarms } else { &mut unseen }.push(place);
                }
            }
        }
        let [a, b, c, d, e, f, g, h] = counts;
        println!("{} | {a}/{b} | {c}/{d} | {e}/{f} | {g}/{h}", family.name);
        for (total, count) in totals.iter_mut().zip(counts) {
            *total += count;
        }
    }
    let [a, b, c, d, e, f, g, h] = totals;
    println!("all | {a}/{b} | {c}/{d} | {e}/{f} | {g}/{h}");
    let kinds = |places: &[String]| -> BTreeMap<String, String> {
        places
            .iter()
            .filter_map(|place| place.split_once('\n'))
            .map(|(kind, code)| (kind.to_string(), code.to_string()))
            .collect()
    };
    for (kind, code) in kinds(&unseen) {
        println!("missed: {kind}");
        if std::env::var_os("VUL2SAFE_SHOW").is_some() {
            println!("{code}");
        }
    }
    let alarms: Vec<String> =
        kinds(&alarms).into_iter().map(|(kind, code)| format!("{kind}\n{code}")).collect();
    assert!(alarms.is_empty(), "secure sites flagged:\n{}", alarms.join("\n"));
    assert_eq!(c, 0, "secure implementations flagged");
    assert!(a * 10 >= b * 9, "{a} of {b} vulnerable implementations are flagged");
    assert!(e * 10 >= f * 9, "{e} of {f} vulnerable sites are flagged");
}

#[test]
fn asked_for_some_weaknesses_the_findings_are_the_same_as_among_all() {
    let weaknesses: std::collections::BTreeSet<_> =
        vul2safe_analyze::rules().iter().map(|rule| rule.cwe).collect();
    let mut seen = 0;
    for record in vul2safe_range::vulnerability_records(6, 11) {
        let parsed = parse(record.language, &record.vulnerable).expect("parses");
        let all = analyze(&parsed);
        for &cwe in &weaknesses {
            let expected: Vec<_> = all.iter().filter(|finding| finding.cwe == cwe).cloned().collect();
            let found = vul2safe_analyze::analyze_for(&parsed, &[cwe]);
            assert_eq!(found, expected, "{cwe} in\n{}", record.vulnerable);
            assert!(found.is_empty() || vul2safe_analyze::covers_any(record.language, &[cwe]));
            seen += found.len();
        }
    }
    assert!(seen > 100, "{seen} findings compared");
}
