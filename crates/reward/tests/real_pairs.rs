//! Measurements on real pairs, where they are at hand: do a pair's patterns recognise its own sides, and do
//! related patterns stay silent in other records' code?

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use support::pair;
use vul2safe_code::{Cwe, Language, Parsed};
use vul2safe_corpus::{ReadLimits, Source, VulnerabilityRecord, read};
use vul2safe_reward::{
    Outcome, Patterns, RewardConfig, Score, Sign, find_evidence, intent_kept, score_answer,
};

fn sven() -> Option<Vec<VulnerabilityRecord>> {
    let data = std::env::var_os("VUL2SAFE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = data.join("sven");
    if !path.exists() {
        println!("skipped: {} not found", path.display());
        return None;
    }
    let imported = read(&Source::Sven { path }, &ReadLimits::default()).expect("the folder is readable");
    Some(imported.records)
}

struct Known {
    record: VulnerabilityRecord,
    vulnerable: Parsed,
    secure: Parsed,
    patterns: Patterns,
}

fn known(records: Vec<VulnerabilityRecord>) -> Vec<Known> {
    let mut all = Vec::new();
    for record in records {
        let Some(secure) = record.secure.clone() else { continue };
        if vul2safe_corpus::diff_spans(record.language, &record.vulnerable, &secure).is_err() {
            continue;
        }
        let pair = pair(&record.id, record.language, &record.vulnerable, &secure);
        let patterns = Patterns::of_pair(&pair).unwrap();
        // As an answer to the record's own prompts is parsed.
        all.push(Known {
            vulnerable: patterns.parse_answer(record.language, &record.vulnerable).unwrap(),
            secure: patterns.parse_answer(record.language, &secure).unwrap(),
            patterns,
            record,
        });
    }
    all
}

fn signs(answer: &Parsed, patterns: &Patterns) -> (usize, usize) {
    let evidence = find_evidence(answer, patterns, &[]);
    let count = |sign| evidence.iter().filter(|item| item.sign == sign).count();
    (count(Sign::Positive), count(Sign::Negative))
}

fn share(name: &str, count: usize, of: usize) -> f64 {
    let share = count as f64 / of.max(1) as f64;
    println!("{name}: {count} of {of} ({:.2} %)", 100.0 * share);
    share
}

#[test]
fn own_sides_are_recognised_and_other_records_are_left_alone() {
    let Some(records) = sven() else { return };
    let started = std::time::Instant::now();
    let all = known(records);
    println!("{} pairs, patterns made in {:.1} s", all.len(), started.elapsed().as_secs_f64());
    println!(
        "dropped spans: {}, pairs without any secure pattern {}, without any vulnerable one {}",
        all.iter().map(|one| one.patterns.dropped()).sum::<usize>(),
        all.iter().filter(|one| one.patterns.own_count(Sign::Positive) == 0).count(),
        all.iter().filter(|one| one.patterns.own_count(Sign::Negative) == 0).count(),
    );
    let count = all.len();
    let secure_right = all.iter().filter(|one| matches!(signs(&one.secure, &one.patterns), (1.., 0))).count();
    let vulnerable_right =
        all.iter().filter(|one| matches!(signs(&one.vulnerable, &one.patterns), (0, 1..))).count();
    assert!(share("own secure side: positive and no negative evidence", secure_right, count) >= 0.95);
    assert!(share("own vulnerable side: negative and no positive evidence", vulnerable_right, count) >= 0.95);

    let clean = all.iter().filter(|one| one.secure.is_clean() && one.vulnerable.is_clean()).count();
    share("pairs with both sides parsed cleanly", clean, count);
    let kept = all.iter().filter(|one| intent_kept(&one.secure, &one.vulnerable)).count();
    share("vulnerable sides that keep the intent of the secure side", kept, count);
    let kept = all.iter().filter(|one| one.patterns.intent_kept(&one.vulnerable)).count();
    assert!(share("the same, both sides known", kept, count) >= 0.98);

    related_patterns_stay_silent(&all);
}

/// Five folds: what four fifths of the records offer, screened against each other, is looked for in the last
/// fifth, of which nothing is known.
fn related_patterns_stay_silent(all: &[Known]) {
    let (mut wrong, mut raw, mut right, mut sides, mut most, mut withdrawn) = (0, 0, 0, 0, 0, 0);
    for fold in 0..5 {
        let (held_out, train): (Vec<_>, Vec<_>) =
            all.iter().enumerate().partition(|(index, _)| index % 5 == fold);
        let mut patterns: Vec<Patterns> = train.iter().map(|(_, one)| one.patterns.clone()).collect();
        withdrawn += Patterns::screen(&mut patterns);
        let mut groups: BTreeMap<(Cwe, Language), Patterns> = BTreeMap::new();
        for (_, one) in held_out {
            for &cwe in &one.record.cwe {
                let language = one.record.language;
                let merged = groups.entry((cwe, language)).or_insert_with(|| {
                    let others = train.iter().zip(&patterns).filter(|((_, other), _)| {
                        other.record.cwe.contains(&cwe) && other.record.language == language
                    });
                    let others: Vec<&Patterns> = others.map(|(_, patterns)| patterns).collect();
                    Patterns::merge(&nothing_known(language), &others)
                });
                most = most.max(merged.len());
                let (in_secure, in_vulnerable) =
                    (find_evidence(&one.secure, merged, &[]), find_evidence(&one.vulnerable, merged, &[]));
                sides += 2;
                right += usize::from(in_secure.iter().any(|item| item.sign == Sign::Positive));
                right += usize::from(in_vulnerable.iter().any(|item| item.sign == Sign::Negative));
                let against = in_secure.iter().find(|item| item.sign == Sign::Negative);
                let credited = in_vulnerable.iter().find(|item| item.sign == Sign::Positive);
                raw += usize::from(against.is_some()) + usize::from(credited.is_some());
                // Secure code that stands in both texts was right all along: no false match.
                let credited = in_vulnerable.iter().find(|item| {
                    let is_kept = in_secure.iter().any(|other| other.pattern == item.pattern);
                    item.sign == Sign::Positive && !is_kept
                });
                for item in [against, credited].into_iter().flatten() {
                    wrong += 1;
                    println!("wrong in {}: {:?} {}", one.record.id, item.sign, item.reason);
                }
            }
        }
    }
    measure_speed(all);
    println!("up to {most} patterns at once, {} withdrawn by the screen a fold", withdrawn / 5);
    share("unknown sides with a related match of the right sign", right, sides);
    share("the same of the wrong sign, secure code that the fix left as it was included", raw, sides);
    assert!(share("unknown sides with a false related match", wrong, sides) <= 0.01);
}

/// Seconds this thread has computed, so that other work on the machine does not count; wall time where the kernel
/// does not tell.
fn thread_seconds(started: std::time::Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds =
        told.and_then(|line| line.split(' ').next().and_then(|first| first.parse::<f64>().ok()));
    nanoseconds.map_or_else(|| started.elapsed().as_secs_f64(), |value| value * 1e-9)
}

/// Parsing, evidence and rewards of answers of about 512 tokens (1 to 3 KiB), with every Python pattern there is.
/// Printed only: how fast a machine is, is no property of the code.
fn measure_speed(all: &[Known]) {
    let python = |one: &&Known| one.record.language == Language::Python;
    let others: Vec<&Patterns> = all.iter().filter(python).map(|one| &one.patterns).collect();
    let merged = Patterns::merge(&nothing_known(Language::Python), &others);
    let answers: Vec<&str> = all
        .iter()
        .filter(python)
        .map(|one| one.record.vulnerable.as_str())
        .filter(|text| (1000..3000).contains(&text.len()))
        .collect();
    let tokens: Vec<Vec<(usize, usize)>> = answers.iter().map(|text| support::chunks(text, 4)).collect();
    let config = RewardConfig::default();
    let started = std::time::Instant::now();
    let before = thread_seconds(started);
    let (mut scored, mut bytes) = (0usize, 0);
    while started.elapsed().as_millis() < 1000 {
        for (text, tokens) in answers.iter().zip(&tokens) {
            let outcome = Outcome { functional: Some(true), ..Outcome::unjudged() };
            let score = score_answer(text, Language::Python, tokens, &merged, &[], outcome, &config);
            assert!(matches!(score, Score::Scored(_)));
            scored += 1;
            bytes += text.len();
        }
    }
    println!(
        "{:.0} answers/s on one core ({} bytes each on average, {} patterns)",
        scored as f64 / (thread_seconds(started) - before),
        bytes / scored,
        merged.len()
    );
}

/// Patterns of a pair that has nothing in common with any record.
fn nothing_known(language: Language) -> Patterns {
    let (vulnerable, secure) = match language {
        Language::Python => ("def f():\n    g.first.one()\n", "def f():\n    g.second.two()\n"),
        Language::C | Language::Cpp => {
            ("int f() { return first_one(); }", "int f() { return second_two(); }")
        }
        other => panic!("no example in {other}"),
    };
    Patterns::of_pair(&pair("none", language, vulnerable, secure)).unwrap()
}
