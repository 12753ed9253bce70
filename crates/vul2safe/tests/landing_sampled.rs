//! Rewards land where they should, on answers that a model gave.
//!
//! `data/sampled-answers.jsonl` holds answers of two models of the experiment (after SFT, and after training with rewards on tokens) to
//! the prompts of records of the range, as they were sampled; `sample_answers` wrote it. What is true of such an answer is shown by
//! patching: a place is found by holding the answer against the nearest one that is known, its lines are exchanged for ones
//! of the other kind, and the exploit tests of that place must then say the opposite, those of other places the same, and the functional
//! tests must pass both times. Only such places count.

mod known;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use known::share;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vul2safe::recipe::EvaluationConfig;
use vul2safe::scoring::{Reference, References, findings_of};
use vul2safe::stages::base::open_model;
use vul2safe::stages::evaluate::{Request, draw};
use vul2safe::stages::open_judge;
use vul2safe::stages::prompts::prompt_ids;
use vul2safe_code::{Parsed, Span, diff_leaves, parse};
use vul2safe_corpus::RepairPair;
use vul2safe_judge::{Judge, Submission};
use vul2safe_model::Placement;
use vul2safe_range::{KnownRecord, Selection, SitedAnswer};
use vul2safe_repair::RepairConfig;
use vul2safe_reward::{Outcome, RewardConfig, Score, Sign, score_answer};

/// Records of other names than any run of the experiment has.
const SEED: u64 = 4_711;
const RECORDS_PER_FAMILY: usize = 12;
const FAMILIES: [&str; 6] =
    ["path_read", "render_html", "make_token", "file_page", "token_row", "hash_password"];

#[derive(Serialize, Deserialize)]
struct Sampled {
    /// Which model gave it.
    model: String,
    record: String,
    answer: String,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sampled-answers.jsonl")
}

/// The records, and the pairs made of them.
fn pairs() -> Vec<(RepairPair, KnownRecord)> {
    let selection = Selection::of(&FAMILIES.map(str::to_owned)).expect("families");
    let known = selection.records_with_answers(RECORDS_PER_FAMILY, SEED);
    known::pairs(known, &RepairConfig::default())
}

/// A place of an answer as patching showed it.
struct Shown {
    /// Its place among the record's.
    site: usize,
    flawed: bool,
    spans: Vec<Span>,
}

/// What became of one answer.
#[derive(Default)]
struct Counts {
    answers: usize,
    /// Working answers with a place that patching showed.
    shown: usize,
    /// Places that could not be shown.
    unshown: usize,
    evidence: usize,
    right: usize,
    /// Evidence in a place that could not be shown: nothing is known of it.
    unknown: usize,
    flawed: usize,
    flawed_found: usize,
    secure: usize,
    secure_found: usize,
}

impl Counts {
    fn add(mut self, other: Counts) -> Counts {
        self.answers += other.answers;
        self.shown += other.shown;
        self.unshown += other.unshown;
        self.evidence += other.evidence;
        self.right += other.right;
        self.unknown += other.unknown;
        self.flawed += other.flawed;
        self.flawed_found += other.flawed_found;
        self.secure += other.secure;
        self.secure_found += other.secure_found;
        self
    }
}

/// Where the lines of each place of the nearest known answer stand in this one, and the imports that belong to them.
fn places(answer: &Parsed, known: &[SitedAnswer]) -> Option<Vec<(Span, Vec<Span>)>> {
    let parsed: Vec<(Parsed, &SitedAnswer)> =
        known.iter().filter_map(|one| Some((parse(answer.language(), &one.code).ok()?, one))).collect();
    let (nearest, sited, hunks) =
        parsed.iter().map(|(parsed, one)| (parsed, one, diff_leaves(parsed, answer))).min_by_key(
            |(_, _, hunks)| hunks.iter().map(|hunk| hunk.before.len() + hunk.after.len()).sum::<usize>(),
        )?;
    // The leaf of the answer at which a leaf of the known answer stands; of one that differs, the beginning or end of the difference.
    let across = |leaf: usize, is_end: bool| {
        let mut moved = leaf as isize;
        for hunk in &hunks {
            if hunk.before.contains(&leaf) || (is_end && hunk.before.end == leaf && !hunk.before.is_empty()) {
                return if is_end { hunk.after.end } else { hunk.after.start };
            }
            if hunk.before.end <= leaf {
                moved += hunk.after.len() as isize - hunk.before.len() as isize;
            }
        }
        moved.max(0) as usize
    };
    let lines = |span: Span| {
        let leaves = nearest.leaves();
        let first = leaves.partition_point(|leaf| leaf.span.end <= span.start);
        let last = leaves.partition_point(|leaf| leaf.span.start < span.end);
        let (first, last) = (across(first, false), across(last, true));
        let (start, end) =
            (answer.leaves().get(first)?.span.start, answer.leaves().get(last.checked_sub(1)?)?.span.end);
        let text = answer.text();
        let start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
        (start < end).then(|| Span::new(start, end))
    };
    sited
        .places
        .iter()
        .map(|place| {
            // Imports stand before the lines of the place, which are one run.
            let body_start = place.spans.last()?;
            let body: Span = place
                .spans
                .iter()
                .rev()
                .scan(*body_start, |run, span| {
                    if span.end >= run.start {
                        *run = run.cover(*span);
                        Some(*run)
                    } else {
                        None
                    }
                })
                .last()?;
            let imports =
                place.spans.iter().filter(|span| span.end <= body.start).filter_map(|span| lines(*span));
            Some((lines(body)?, imports.collect()))
        })
        .collect()
}

/// The answer with the lines of a place exchanged for those of a known answer where it is the other way.
fn patched(answer: &str, lines: Span, place: usize, flawed: bool, known: &[SitedAnswer]) -> Vec<String> {
    let others = known.iter().filter(|one| one.places[place].flawed != flawed);
    others
        .map(|one| {
            let (mut imports, mut body) = (String::new(), String::new());
            for span in &one.places[place].spans {
                let line = span.text(&one.code).unwrap_or_default();
                let is_import = line.starts_with("import ") || line.starts_with("from ");
                if is_import { imports.push_str(line) } else { body.push_str(line) }
            }
            // What several places import is no place's own.
            for line in one.code.lines().take_while(|line| !line.starts_with("def ")) {
                if line.starts_with("import ") || line.starts_with("from ") {
                    imports.push_str(line);
                    imports.push('\n');
                }
            }
            format!("{imports}{}{body}{}", &answer[..lines.start], &answer[lines.end..])
        })
        .collect()
}

/// The places of an answer that patching shows, and how many it does not.
fn shown(
    judge: &Judge,
    pair: &RepairPair,
    known: &KnownRecord,
    answer: &Parsed,
) -> Option<(Vec<Shown>, Vec<Span>)> {
    let tests = pair.tests.as_ref()?;
    let run = |text: &str| -> Option<Vec<bool>> {
        let mut outcomes = Vec::new();
        for site in &known.sites {
            let verdict = judge.judge(&Submission {
                functional: outcomes.is_empty().then_some(tests.functional.as_str()),
                exploit: Some(&site.exploit),
                processes: tests.processes,
                ..Submission::new(pair.language, text)
            });
            if outcomes.is_empty() && verdict.functional() != Some(true) {
                return None;
            }
            outcomes.push(verdict.vulnerable()?);
        }
        Some(outcomes)
    };
    let before = run(answer.text())?;
    let places = places(answer, &known.answers)?;
    let (mut found, mut not) = (Vec::new(), Vec::new());
    for (place, (lines, imports)) in places.into_iter().enumerate() {
        let flawed = before[place];
        let turned =
            patched(answer.text(), lines, place, flawed, &known.answers).iter().take(3).any(|text| {
                run(text).is_some_and(|after| {
                    before
                        .iter()
                        .zip(&after)
                        .enumerate()
                        .all(|(other, (was, is))| (was == is) == (other != place))
                })
            });
        let spans: Vec<Span> = std::iter::once(lines).chain(imports).collect();
        if turned { found.push(Shown { site: place, flawed, spans }) } else { not.extend(spans) }
    }
    Some((found, not))
}

fn compare(
    judge: &Judge,
    pair: &RepairPair,
    known: &KnownRecord,
    reference: &Reference,
    text: &str,
) -> Counts {
    let mut counts = Counts { answers: 1, ..Counts::default() };
    let Ok(answer) = parse(pair.language, text) else { return counts };
    if !answer.is_clean() {
        return counts;
    }
    let Some((places, not_shown)) = shown(judge, pair, known, &answer) else { return counts };
    counts.unshown = known.sites.len() - places.len();
    counts.shown = usize::from(!places.is_empty());
    if places.is_empty() {
        return counts;
    }
    let tokens: Vec<(usize, usize)> =
        answer.leaves().iter().map(|leaf| (leaf.span.start, leaf.span.end)).collect();
    let findings = findings_of(&answer, &reference.cwe);
    let outcome = Outcome { functional: Some(true), ..Outcome::unjudged() };
    let config = RewardConfig::default();
    let score = score_answer(text, pair.language, &tokens, &reference.patterns, &findings, outcome, &config);
    let Score::Scored(scored) = score else { panic!("{score:?}") };
    for item in &scored.evidence {
        let is_in = |spans: &[Span]| spans.iter().any(|span| span.overlaps(item.span));
        let is_right =
            places.iter().any(|place| place.flawed == (item.sign == Sign::Negative) && is_in(&place.spans));
        if !is_right && is_in(&not_shown) {
            counts.unknown += 1;
            continue;
        }
        counts.evidence += 1;
        counts.right += usize::from(is_right);
        if !is_right && std::env::var_os("VUL2SAFE_LANDING_WRONG").is_some() {
            println!(
                "wrong in {}: {:?} {} {}\n{text}",
                pair.id,
                item.sign,
                item.reason,
                item.span.text(text).unwrap_or_default()
            );
        }
    }
    for place in &places {
        let site = &known.sites[place.site];
        // Weaknesses that the request does not invite are not looked for.
        if !pair.cwe.contains(&site.cwe) {
            continue;
        }
        let wanted = if place.flawed { Sign::Negative } else { Sign::Positive };
        let is_found = scored
            .evidence
            .iter()
            .any(|item| item.sign == wanted && place.spans.iter().any(|span| span.overlaps(item.span)));
        let (all, found) = match place.flawed {
            true => (&mut counts.flawed, &mut counts.flawed_found),
            false => (&mut counts.secure, &mut counts.secure_found),
        };
        *all += 1;
        *found += usize::from(is_found);
        if !is_found && std::env::var_os("VUL2SAFE_LANDING_WRONG").is_some() {
            println!("missed in {}: {} flawed {}\n{text}", pair.id, site.name, place.flawed);
        }
    }
    counts
}

#[test]
fn evidence_in_sampled_answers_lies_where_patching_shows_a_place() {
    let sampled: Vec<Sampled> = std::fs::read_to_string(fixture())
        .expect("the answers")
        .lines()
        .map(|line| serde_json::from_str(line).expect("an answer"))
        .collect();
    let pairs = pairs();
    let references = References::new(pairs.iter().map(|(pair, _)| pair), true).expect("patterns");
    let by_id: BTreeMap<&str, &(RepairPair, KnownRecord)> =
        pairs.iter().map(|both| (both.0.id.as_str(), both)).collect();
    let judge = open_judge(true).expect("a judge");
    let all = sampled
        .par_iter()
        .map(|one| {
            let (pair, known) = by_id.get(one.record.as_str()).expect("a record of the range");
            compare(&judge, pair, known, references.get(&pair.id).expect("a reference"), &one.answer)
        })
        .reduce(Counts::default, Counts::add);
    let precision = share(all.right, all.evidence);
    let recall = share(all.flawed_found + all.secure_found, all.flawed + all.secure);
    println!(
        "{} answers, {} that work and have a place that patching shows ({} places not shown); {} pieces of evidence, {} right, \
         precision {precision:.3} ({} in places not shown); {} of {} flawed and {} of {} secure places found, recall {recall:.3}",
        all.answers,
        all.shown,
        all.unshown,
        all.evidence,
        all.right,
        all.unknown,
        all.flawed_found,
        all.flawed,
        all.secure_found,
        all.secure
    );
    assert!(all.shown >= 60 && all.flawed >= 30 && all.secure >= 30, "too few to say anything");
    assert!(precision >= 0.95 && recall >= 0.8);
}

/// Writes the answers anew: `VUL2SAFE_LANDING_MODELS=sft=FOLDER,tlr=FOLDER cargo test --release -p vul2safe --test landing_sampled
/// -- --ignored sample_answers`.
#[test]
#[ignore = "writes the fixture from models of a run"]
fn sample_answers() {
    let models = std::env::var("VUL2SAFE_LANDING_MODELS").expect("VUL2SAFE_LANDING_MODELS=name=folder,…");
    let config =
        EvaluationConfig { maximum_new_tokens: 160, temperature: 1.0, ..EvaluationConfig::default() };
    let mut lines = String::new();
    for model in models.split(',') {
        let (name, folder) = model.split_once('=').expect("name=folder");
        let (model, tokenizer) = open_model(Path::new(folder), None, Placement::default()).expect("a model");
        let mut requests = Vec::new();
        let mut records = Vec::new();
        for (pair, _) in &pairs() {
            for (number, prompt) in
                prompt_ids(&tokenizer, pair).expect("prompts").into_iter().take(2).enumerate()
            {
                let seed = vul2safe::stages::derive_seed(SEED + number as u64, &pair.id);
                requests.push(Request { prompt, seed });
                records.push(pair.id.clone());
            }
        }
        let answers = draw(&model, &tokenizer, &requests, &config).expect("answers");
        for (record, drawn) in records.into_iter().zip(answers).filter(|(_, drawn)| drawn.finished) {
            let sampled = Sampled { model: name.to_owned(), record, answer: drawn.text };
            lines.push_str(&serde_json::to_string(&sampled).expect("JSON"));
            lines.push('\n');
        }
    }
    let path = fixture();
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, lines).expect("written");
}
