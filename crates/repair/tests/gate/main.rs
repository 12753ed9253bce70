//! What the gate lets through: the true fix and ten kinds of wrong repairs, on the range (where attacks tell which are
//! wrong) and on SVEN (where the way they were made does), before judges who err.
//!
//! All of it, with its tables: `VUL2SAFE_GATE=all cargo test --release --workspace --test gate -- --nocapture`;
//! `VUL2SAFE_GATE_SEED=13` takes other names and answers.

#[path = "../support/fenced.rs"]
mod fenced;
mod planted;
mod server;
#[path = "../support/sven.rs"]
mod sven;

use std::collections::BTreeMap;

use planted::{Kind, Sides};
use rayon::prelude::*;
use server::Script;
use vul2safe_code::{Language, diff_leaves, parse};
use vul2safe_corpus::{SourceId, Tests, VulnerabilityRecord};
use vul2safe_judge::{Judge, Submission, TestStyle};
use vul2safe_range::{Level, Task, tasks};
use vul2safe_repair::{Decision, RepairConfig, repair};
use vul2safe_sandbox::{Policy, Sandbox};

/// A record, its true fix, and the attacks that tell right from wrong.
struct Subject {
    record: VulnerabilityRecord,
    secure: String,
    family: String,
    exploit: Option<String>,
}

/// A proposal for a record.
struct Case {
    subject: usize,
    kind: Kind,
    text: String,
    is_right: bool,
}

fn whole() -> bool {
    std::env::var("VUL2SAFE_GATE").is_ok_and(|value| value == "all")
}

/// Which names and answers of the range are taken; the bars hold for the default, other seeds are for looking.
fn seed() -> u64 {
    std::env::var("VUL2SAFE_GATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11)
}

fn judge() -> Option<Judge> {
    let sandbox = Sandbox::new(Policy { allow_unprotected: true }).map_err(|error| error.to_string());
    match sandbox.and_then(|sandbox| Judge::new(sandbox, None).map_err(|error| error.to_string())) {
        Ok(judge) => Some(judge),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// For each flawed answer that is picked, the secure answer that is nearest to it is its true fix.
fn range_subjects(per_family: usize, seed: u64) -> Vec<Subject> {
    let pick = |task: &Task, count: usize| (server::draw(&[&task.id, "flawed"]) * count as f64) as usize;
    tasks(Level::Train, per_family, seed)
        .into_iter()
        .filter(|task| task.exploit.is_some())
        .map(|task| {
            let flawed = &task.vulnerable[pick(&task, task.vulnerable.len())];
            let before = parse(task.language, &flawed.code).unwrap();
            let distance = |code: &str| -> usize {
                let hunks = diff_leaves(&before, &parse(task.language, code).unwrap());
                hunks.iter().map(|hunk| hunk.before.len() + hunk.after.len()).sum()
            };
            let secure = task.secure.iter().min_by_key(|one| distance(&one.code)).unwrap().code.clone();
            let cwe = task
                .sites
                .iter()
                .filter(|site| flawed.flawed.contains(&site.name))
                .map(|site| site.cwe)
                .collect();
            let record = VulnerabilityRecord {
                function: Some(task.function.clone()),
                tests: Some(Tests { functional: task.functional.clone(), processes: task.processes }),
                ..record(&task.id, task.language, cwe, &flawed.code)
            };
            Subject { record, secure, family: task.family.clone(), exploit: task.exploit.clone() }
        })
        .collect()
}

fn record(
    id: &str,
    language: Language,
    cwe: Vec<vul2safe_code::Cwe>,
    vulnerable: &str,
) -> VulnerabilityRecord {
    VulnerabilityRecord {
        id: id.into(),
        language,
        cwe,
        cve: None,
        project: None,
        commit: None,
        date: None,
        license: None,
        file_name: None,
        function: None,
        description: None,
        vulnerable: vulnerable.into(),
        secure: None,
        tests: None,
        split: None,
        original: Vec::new(),
        source: SourceId { dataset: "gate".into(), id: id.into() },
    }
}

/// Whether a proposal does its work and withstands every attack; nothing where that could not be found out.
fn truth(subject: &Subject, text: &str, judge: &Judge) -> Option<bool> {
    let tests = subject.record.tests.as_ref()?;
    judge
        .judge(&Submission {
            language: subject.record.language,
            answer: text,
            functional: Some(&tests.functional),
            exploit: Some(subject.exploit.as_deref()?),
            processes: tests.processes,
            style: TestStyle::Calls,
        })
        .both()
}

/// The true fix and every kind of wrong repair that a subject gives occasion for.
fn cases(subjects: &[Subject], judge: Option<&Judge>) -> Vec<Case> {
    let sides: Vec<Sides> = subjects
        .iter()
        .map(|subject| {
            let (record, function) = (&subject.record, subject.record.function.as_deref().unwrap_or(""));
            Sides::new(record.language, &record.vulnerable, &subject.secure, function)
        })
        .collect();
    let one = |index: usize| -> Vec<Case> {
        let subject = &subjects[index];
        let other = (1..subjects.len())
            .map(|step| (index + step * 7) % subjects.len())
            .find(|other| {
                subjects[*other].family != subject.family
                    && subjects[*other].record.language == subject.record.language
            })
            .unwrap_or(index);
        let mut cases = Vec::new();
        for kind in std::iter::once(Kind::TrueFix).chain(Kind::BAD) {
            let wanted = kind == Kind::TrueFix;
            let found = sides[index].planted(kind, &sides[other]).into_iter().find(|text| match judge {
                // An accident may leave a text right: it is not what was to be planted.
                Some(judge) => truth(subject, text, judge) == Some(wanted),
                None => true,
            });
            cases.extend(found.map(|text| Case { subject: index, kind, text, is_right: wanted }));
        }
        cases
    };
    (0..subjects.len()).into_par_iter().with_max_len(1).flat_map_iter(one).collect()
}

/// The record with the number of its script.
fn numbered(subject: &Subject, number: usize) -> VulnerabilityRecord {
    VulnerabilityRecord {
        id: format!("{}/{number}", subject.record.id),
        description: Some(format!("case-{number}")),
        ..subject.record.clone()
    }
}

/// What the gate decides on each case.
fn decide(subjects: &[Subject], cases: &[Case], judge: Option<&Judge>) -> Vec<Decision> {
    let scripts = cases
        .iter()
        .map(|case| Script {
            proposals: vec![case.text.clone()],
            right: case.is_right.then(|| case.text.clone()).into_iter().collect(),
            record: case.subject,
        })
        .collect();
    let records: Vec<VulnerabilityRecord> =
        cases.iter().enumerate().map(|(number, case)| numbered(&subjects[case.subject], number)).collect();
    let (_server, teacher) = server::teacher(scripts);
    let config = RepairConfig { maximum_rounds: 1, ..RepairConfig::default() };
    repair(&records, &teacher, judge, &config, &|_| {})
}

#[derive(Default)]
struct Row {
    all: usize,
    accepted: usize,
    reasons: BTreeMap<String, usize>,
}

fn table(title: &str, subjects: &[Subject], cases: &[Case], decisions: &[Decision]) -> BTreeMap<Kind, Row> {
    let mut rows: BTreeMap<Kind, Row> = BTreeMap::new();
    for (case, decision) in cases.iter().zip(decisions) {
        let row = rows.entry(case.kind).or_default();
        row.all += 1;
        match decision {
            Decision::Accepted(_) => row.accepted += 1,
            Decision::Rejected(rejection) => {
                *row.reasons.entry(rejection.reason.to_string()).or_default() += 1;
            }
            Decision::Open(open) => panic!("{open:?}"),
        }
        let wrong = matches!(decision, Decision::Accepted(_)) != case.is_right;
        if wrong && std::env::var_os("SHOW_WRONG").is_some() {
            let subject = &subjects[case.subject];
            let (what, evidence) = match decision {
                Decision::Accepted(pair) => {
                    (format!("accepted {:.2}", pair.confidence), pair.evidence.clone())
                }
                Decision::Rejected(one) => {
                    (format!("rejected {}: {}", one.reason, one.detail), one.evidence.clone())
                }
                Decision::Open(_) => unreachable!("refused above"),
            };
            println!("=== {} {}: {what}", subject.record.id, case.kind.words());
            for one in evidence {
                println!("    {:?} {}: {}", one.verdict, one.check, one.detail);
            }
            println!("--- vulnerable\n{}--- proposal\n{}", subject.record.vulnerable, case.text);
        }
    }
    if std::env::var_os("SHOW_EVIDENCE").is_some() {
        let mut seen: BTreeMap<(String, bool), usize> = BTreeMap::new();
        for (case, decision) in cases.iter().zip(decisions) {
            let evidence = match decision {
                Decision::Accepted(pair) => &pair.evidence,
                Decision::Rejected(one) => &one.evidence,
                Decision::Open(_) => continue,
            };
            if !evidence.iter().any(|one| one.check == "judges") {
                continue;
            }
            let telling = evidence.iter().filter(|one| {
                ["finding_gone", "not_only_deletion", "tests_pass", "small_change"]
                    .contains(&one.check.as_str())
            });
            let words: Vec<String> = telling.map(|one| format!("{} {:?}", one.check, one.verdict)).collect();
            *seen.entry((words.join(", "), case.is_right)).or_default() += 1;
        }
        println!("before the judges:");
        for ((words, is_right), count) in seen {
            println!("{count:>5} {} {words}", if is_right { "right" } else { "WRONG" });
        }
    }
    println!("\n{title}: {} records", subjects.len());
    println!("{:22} {:>6} {:>9}  rejected for", "proposal", "cases", "accepted");
    for (kind, row) in &rows {
        let reasons: Vec<String> =
            row.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        println!(
            "{:22} {:>6} {:>4} {:>3.0}%  {}",
            kind.words(),
            row.all,
            row.accepted,
            100.0 * row.accepted as f64 / row.all as f64,
            reasons.join(", ")
        );
    }
    let bad = rows.iter().filter(|(kind, _)| **kind != Kind::TrueFix);
    let (accepted, all) = bad.fold((0, 0), |sum, (_, row)| (sum.0 + row.accepted, sum.1 + row.all));
    println!(
        "{:22} {all:>6} {accepted:>4} {:>5.1}%",
        "wrong ones together",
        100.0 * accepted as f64 / all as f64
    );
    rows
}

/// Share of right ones by confidence, over all cases that have one; the expected calibration error.
fn reliability(title: &str, cases: &[Case], decisions: &[Decision], unrefused: bool) -> f64 {
    let mut bins = [(0usize, 0usize, 0.0f64); 10];
    for (case, decision) in cases.iter().zip(decisions) {
        let confidence = match decision {
            Decision::Accepted(pair) => Some(pair.confidence),
            Decision::Rejected(rejection) => rejection.confidence,
            Decision::Open(_) => None,
        };
        let Some(confidence) = confidence else { continue };
        if unrefused && confidence <= 0.01 {
            continue;
        }
        let bin = &mut bins[((confidence * 10.0) as usize).min(9)];
        *bin = (bin.0 + 1, bin.1 + usize::from(case.is_right), bin.2 + confidence);
    }
    let all: usize = bins.iter().map(|bin| bin.0).sum();
    println!("\n{title}:\nconfidence   cases   mean   right");
    let mut error = 0.0;
    for (index, (count, right, sum)) in bins.into_iter().enumerate().filter(|(_, bin)| bin.0 > 0) {
        let (mean, share) = (sum / count as f64, right as f64 / count as f64);
        error += (mean - share).abs() * count as f64 / all as f64;
        println!(
            "{:.1} to {:.1} {count:>7}   {mean:.2}   {share:.2}",
            index as f64 / 10.0,
            (index + 1) as f64 / 10.0
        );
    }
    println!("expected calibration error {error:.3}");
    error
}

#[test]
fn wrong_repairs_of_the_range_do_not_pass() {
    let Some(judge) = judge() else { return };
    let subjects = range_subjects(if whole() { 12 } else { 2 }, seed());
    let cases = cases(&subjects, Some(&judge));
    let decisions = decide(&subjects, &cases, Some(&judge));
    let rows = table("the range, functional tests run", &subjects, &cases, &decisions);
    let error = reliability("of all proposals", &cases, &decisions, false);
    reliability("of those that no check refuses", &cases, &decisions, true);
    if whole() {
        let untested = decide(&subjects, &cases, None);
        table("the range, no code run", &subjects, &cases, &untested);
        reliability("of all proposals", &cases, &untested, false);
    }
    let share = |row: &Row| row.accepted as f64 / row.all.max(1) as f64;
    let bad = || rows.iter().filter(|(kind, _)| **kind != Kind::TrueFix).map(|(_, row)| row);
    let (accepted, all) = bad().fold((0, 0), |sum, row| (sum.0 + row.accepted, sum.1 + row.all));
    assert!(accepted as f64 <= 0.02 * all as f64, "{accepted} of {all} wrong repairs are accepted");
    // Of 76 true fixes, four fifths are measured to within a tenth.
    let floor = if whole() { 0.8 } else { 0.7 };
    assert!(share(&rows[&Kind::TrueFix]) >= floor, "too few true fixes are accepted");
    assert!(error <= 0.08, "the confidence is off by {error:.3}");
    // A kind of which there are a few dozen is not measured to a twentieth: one or two may pass there.
    for row in bad() {
        assert!(share(row) <= 0.05 || row.accepted <= 2, "{} of {} of a kind", row.accepted, row.all);
    }
}

/// A teacher who is right at first in 55 % of the cases, and mends what was named in 60 %.
#[test]
fn reflection_earns_its_cost() {
    let Some(judge) = judge() else { return };
    let subjects = range_subjects(if whole() { 12 } else { 2 }, seed() + 1);
    let cases = cases(&subjects, Some(&judge));
    let mut by_subject: Vec<Vec<&Case>> = subjects.iter().map(|_| Vec::new()).collect();
    for case in &cases {
        by_subject[case.subject].push(case);
    }
    let mut scripts = Vec::new();
    let mut records = Vec::new();
    for (number, all) in by_subject.iter().enumerate() {
        let name = number.to_string();
        let (right, wrong): (Vec<&&Case>, Vec<&&Case>) = all.iter().partition(|case| case.is_right);
        let Some(right) = right.first() else { continue };
        // The wrong ones in an order of their own for each record, up to the right one.
        let mut wrong: Vec<&str> = wrong.iter().map(|case| case.text.as_str()).collect();
        let turn = (server::draw(&["turn", &name]) * wrong.len() as f64) as usize;
        wrong.rotate_left(turn);
        let mut proposals = Vec::new();
        if server::draw(&["first", &name]) >= 0.55 {
            for (round, text) in wrong.iter().enumerate() {
                proposals.push((*text).to_owned());
                if server::draw(&["mend", &name, &round.to_string()]) < 0.6 {
                    break;
                }
            }
        }
        proposals.push(right.text.clone());
        // A right repair that is criticised all the same is spoilt by the revision.
        proposals.extend(wrong.first().map(|text| (*text).to_owned()));
        records.push(numbered(&subjects[number], scripts.len()));
        scripts.push(Script { right: vec![right.text.clone()], proposals, record: number });
    }
    println!(
        "\n{} records           accepted   of them right   share of records   requests each accepted",
        records.len()
    );
    let mut shares = Vec::new();
    for (name, rounds) in [("single pass", 1), ("up to 3 rounds", 3)] {
        let (server, teacher) = server::teacher(scripts.clone());
        let config = RepairConfig { maximum_rounds: rounds, ..RepairConfig::default() };
        let decisions = repair(&records, &teacher, Some(&judge), &config, &|_| {});
        let accepted: Vec<(usize, &str)> = decisions
            .iter()
            .enumerate()
            .filter_map(|(index, decision)| match decision {
                Decision::Accepted(pair) => Some((index, pair.secure.as_str())),
                _ => None,
            })
            .collect();
        let is_right = |(index, text): &&(usize, &str)| {
            scripts[*index].right.iter().any(|right| right.trim_end() == text.trim_end())
        };
        let right = accepted.iter().filter(is_right).count();
        let requests = server.call_count() as f64 / accepted.len().max(1) as f64;
        println!(
            "{name:22} {:>8} {right:>15} {:>17.1}% {requests:>18.1}",
            accepted.len(),
            100.0 * right as f64 / records.len() as f64
        );
        assert!(right * 100 >= accepted.len() * 95, "{right} of {} are right", accepted.len());
        shares.push(right);
    }
    assert!(shares[1] * 100 >= shares[0] * 120, "the loop repairs little more: {shares:?}");
}

#[test]
fn wrong_repairs_of_sven() {
    if !whole() {
        println!("skipped: VUL2SAFE_GATE is not `all`");
        return;
    }
    let Some(records) = sven::sven() else { return };
    let subjects: Vec<Subject> = records
        .into_iter()
        .map(|mut record| {
            let secure = record.secure.take().unwrap();
            let functions = parse(record.language, &secure).unwrap().functions().to_vec();
            record.function = functions.first().map(|function| function.name.clone());
            Subject { secure, family: record.source.id.clone(), exploit: None, record }
        })
        .collect();
    let cases = cases(&subjects, None);
    let decisions = decide(&subjects, &cases, None);
    table("SVEN", &subjects, &cases, &decisions);
}
