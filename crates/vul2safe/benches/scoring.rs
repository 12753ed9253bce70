//! Answers a second and core through extraction, parsing, the embedded rules, evidence and rewards, without test runs.
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo bench -p vul2safe --bench scoring [-- FOLDER-OF-SVEN]
//! ```
//!
//! The answers are SVEN's own functions of 1 to 3 KiB, about 512 tokens each (a token of four bytes), each against its record with
//! the patterns of all records of its weakness. Without the data, the range's records take their place (shorter answers).

use std::path::PathBuf;
use std::time::Instant;

use vul2safe::scoring::{AnswerText, Reference, References, score_all};
use vul2safe::stages::open_judge;
use vul2safe_corpus::{ReadLimits, RepairPair, Source, read};
use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};
use vul2safe_reward::{RewardConfig, Score};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let path =
        given.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/sven"));
    let (records, bytes) = match path.exists() {
        true => (read(&Source::Sven { path }, &ReadLimits::default())?.records, 1_000..3_000),
        false => (vul2safe_range::vulnerability_records(16, 1), 0..usize::MAX),
    };
    let config = RepairConfig::default();
    let pairs: Vec<RepairPair> = repair(&records, &OfflineTeacher, None, &config, &|_| {})
        .into_iter()
        .filter_map(|decision| match decision {
            Decision::Accepted(pair) => Some(RepairPair { tests: None, ..*pair }),
            _ => None,
        })
        .collect();
    let references = References::new(&pairs, true)?;
    let answers: Vec<(AnswerText, &Reference)> = pairs
        .iter()
        .filter_map(|pair| Some((pair, references.get(&pair.id)?)))
        .flat_map(|(pair, reference)| [&pair.vulnerable, &pair.secure].map(|text| (text, reference)))
        .filter(|(text, _)| bytes.contains(&text.len()))
        .map(|(text, reference)| {
            let tokens =
                (0..text.len()).step_by(4).map(|start| (start, (start + 4).min(text.len()))).collect();
            (AnswerText { text: text.clone(), tokens, finished: true }, reference)
        })
        .collect();
    let judge = open_judge(true)?;
    let borrowed: Vec<(&AnswerText, &Reference)> =
        answers.iter().map(|(answer, reference)| (answer, *reference)).collect();
    let tokens: usize = answers.iter().map(|(answer, _)| answer.tokens.len()).sum();
    let threads = rayon::current_num_threads();
    println!(
        "{} answers of {} tokens each on average, {threads} threads",
        answers.len(),
        tokens / answers.len().max(1)
    );
    let alone = borrowed
        .iter()
        .filter(|(answer, reference)| {
            reference
                .patterns
                .parse_answer(reference.language, &answer.text)
                .is_ok_and(|parsed| parsed.is_clean() && !parsed.functions().is_empty())
        })
        .count();
    println!("{alone} of them are code alone and parsed once");
    parts(&borrowed);
    for round in 1..=5 {
        let started = Instant::now();
        let judged = score_all(&borrowed, &judge, &RewardConfig::default());
        let seconds = started.elapsed().as_secs_f64();
        let unscored = judged.iter().filter(|one| matches!(one.score, Score::Unscored { .. })).count();
        let rate = judged.len() as f64 / seconds / threads as f64;
        println!("round {round}: {rate:.0} answers/s and core, {unscored} unscored");
    }
    Ok(())
}

/// What each part takes, in microseconds an answer.
fn parts(answers: &[(&AnswerText, &Reference)]) {
    use vul2safe::scoring::findings_of;
    use vul2safe_analyze::analyze;
    use vul2safe_code::parse;
    use vul2safe_judge::extract_code;
    use vul2safe_reward::{Outcome, find_evidence, score_answer};
    let time = |name: &str, work: &dyn Fn(&AnswerText, &Reference)| {
        let started = Instant::now();
        answers.iter().for_each(|(answer, reference)| work(answer, reference));
        println!("{name:<20} {:>6.0} µs", started.elapsed().as_secs_f64() * 1e6 / answers.len() as f64);
    };
    let parsed =
        |answer: &AnswerText, reference: &Reference| parse(reference.language, &answer.text).expect("parses");
    time("extract", &|answer, reference| drop(extract_code(&answer.text, reference.language)));
    time("parse", &|answer, reference| drop(parsed(answer, reference)));
    time("parse, functions", &|answer, reference| drop(parsed(answer, reference).functions().to_vec()));
    time("parse, analyze", &|answer, reference| drop(analyze(&parsed(answer, reference))));
    time("parse, findings", &|answer, reference| {
        drop(findings_of(&parsed(answer, reference), &reference.cwe))
    });
    time("parse, evidence", &|answer, reference| {
        drop(find_evidence(&parsed(answer, reference), &reference.patterns, &[]));
    });
    time("score", &|answer, reference| {
        let outcome = Outcome::unjudged();
        drop(score_answer(
            &answer.text,
            reference.language,
            &answer.tokens,
            &reference.patterns,
            &[],
            outcome,
            &RewardConfig::default(),
        ));
    });
}
