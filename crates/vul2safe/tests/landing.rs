//! Rewards land where they should: on answers to the range's requests, of which it is known where each place is and whether it is
//! flawed, evidence must lie in a place of its sign.
//!
//! The answers are all variants of all places, in all combinations of flaws, in the names of the record. That a variant is flawed or
//! not is shown by `range check`, which turns one place at a time and runs the exploits. A place counts where its weakness is one
//! that the request invites (one of the record's): others are not looked for.

mod known;

use std::collections::BTreeMap;

use known::share;
use vul2safe::scoring::{References, findings_of};
use vul2safe_code::parse;
use vul2safe_corpus::RepairPair;
use vul2safe_range::{Selection, SitedAnswer};
use vul2safe_repair::RepairConfig;
use vul2safe_reward::{Outcome, RewardConfig, Score, Scored, Sign, score_answer};

/// Counts of one family, or of all.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Pieces of evidence, and those that lie in a place of their sign.
    spans: usize,
    right: usize,
    /// Flawed places and those with negative evidence; secure places and those with positive evidence.
    flawed: usize,
    flawed_found: usize,
    secure: usize,
    secure_found: usize,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.spans += other.spans;
        self.right += other.right;
        self.flawed += other.flawed;
        self.flawed_found += other.flawed_found;
        self.secure += other.secure;
        self.secure_found += other.secure_found;
    }
}

/// Holds the evidence against the places.
fn compare(pair: &RepairPair, answer: &SitedAnswer, scored: &Scored) -> Counts {
    let mut counts = Counts::default();
    for item in &scored.evidence {
        counts.spans += 1;
        let is_here = |flawed: bool| {
            answer.places.iter().any(|place| {
                place.flawed == flawed && place.spans.iter().any(|span| span.overlaps(item.span))
            })
        };
        let is_right = is_here(item.sign == Sign::Negative);
        counts.right += usize::from(is_right);
        if !is_right && std::env::var_os("VUL2SAFE_LANDING_WRONG").is_some() {
            let text = item.span.text(&answer.code).unwrap_or_default();
            println!(
                "wrong in {}: {:?} {:?} `{text}` {}\n{}",
                pair.id, item.origin, item.sign, item.reason, answer.code
            );
        }
    }
    for place in answer.places.iter().filter(|place| place.cwe.is_some_and(|cwe| pair.cwe.contains(&cwe))) {
        let wanted = if place.flawed { Sign::Negative } else { Sign::Positive };
        let is_found = scored
            .evidence
            .iter()
            .any(|item| item.sign == wanted && place.spans.iter().any(|span| span.overlaps(item.span)));
        if place.flawed {
            counts.flawed += 1;
            counts.flawed_found += usize::from(is_found);
        } else {
            counts.secure += 1;
            counts.secure_found += usize::from(is_found);
        }
    }
    counts
}

#[test]
fn evidence_lies_in_places_of_its_sign() {
    let seed = std::env::var("VUL2SAFE_LANDING_SEED").map_or(21, |seed| seed.parse().expect("a number"));
    let known = Selection::default().records_with_answers(8, seed);
    let pairs = known::pairs(known, &RepairConfig { threshold: 0.5, ..RepairConfig::default() });
    let references = References::new(pairs.iter().map(|(pair, _)| pair), true).expect("patterns");
    let config = RewardConfig::default();
    let mut families: BTreeMap<String, Counts> = BTreeMap::new();
    for (pair, known) in &pairs {
        let reference = references.get(&pair.id).expect("a reference");
        let family = pair.id.trim_start_matches("range-").rsplit_once('-').expect("a name").0.to_owned();
        for answer in &known.answers {
            let parsed = parse(reference.language, &answer.code).expect("parses");
            assert!(parsed.is_clean(), "{}", answer.code);
            let findings = findings_of(&parsed, &reference.cwe);
            let tokens: Vec<(usize, usize)> =
                parsed.leaves().iter().map(|leaf| (leaf.span.start, leaf.span.end)).collect();
            let outcome = Outcome { functional: Some(true), ..Outcome::unjudged() };
            let patterns = &reference.patterns;
            let score = score_answer(
                &answer.code,
                reference.language,
                &tokens,
                patterns,
                &findings,
                outcome,
                &config,
            );
            let Score::Scored(scored) = score else { panic!("{score:?}") };
            families.entry(family.clone()).or_default().add(&compare(pair, answer, &scored));
        }
    }
    let mut all = Counts::default();
    println!(
        "{:<18} {:>7} {:>10} {:>14} {:>14}",
        "family", "spans", "precision", "flawed found", "secure found"
    );
    for (family, counts) in &families {
        all.add(counts);
        print(family, counts);
    }
    print("all", &all);
    let found = share(all.flawed_found + all.secure_found, all.flawed + all.secure);
    println!("recall {found:.3}");
    assert!(pairs.len() > 250 && all.flawed > 1_000);
    assert!(share(all.right, all.spans) >= 0.95, "{all:?}");
    assert!(found >= 0.8, "{all:?}");
}

fn print(name: &str, counts: &Counts) {
    println!(
        "{name:<18} {:>7} {:>10.3} {:>6} {:>7.3} {:>6} {:>7.3}",
        counts.spans,
        share(counts.right, counts.spans),
        counts.flawed,
        share(counts.flawed_found, counts.flawed),
        counts.secure,
        share(counts.secure_found, counts.secure)
    );
}
