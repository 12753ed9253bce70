//! The loop: one decision for every record.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language, Span};
use vul2safe_corpus::{
    CorpusError, Evidence, LabelledSpan, Prompt, Repair, RepairPair, Side, SourceId, SpanOrigin,
    VulnerabilityRecord, check_pair, content_hash, diff_spans,
};
use vul2safe_judge::Judge;

use crate::checks::about_the_flaw;
use crate::desk::{Desk, Failure, evidence};
use crate::parallel::{Slots, on_threads};
use crate::quotes::locate;
use crate::teacher::{Analysis, Unanswered};
use crate::{Ballot, Draft, Proposal, RepairConfig, Teacher, confidence, leak_checks};

/// What became of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The repair is believed; the pair goes into PrimeVul+.
    Accepted(Box<RepairPair>),
    /// It is not.
    Rejected(Rejection),
    /// Not yet: the teacher could not be asked. Started again, what it has answered already costs nothing.
    Open(OpenRecord),
}

/// A record that is not decided yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRecord {
    /// Where the record stands in its data set.
    pub source: SourceId,
    /// The record's id.
    pub id: String,
    /// Why the teacher could not be asked.
    pub detail: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// A record that gave no pair, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// Where the record stands in its data set.
    pub source: SourceId,
    /// The record's id.
    pub id: String,
    /// Why, as a word to count by.
    pub reason: RejectReason,
    /// Why, in words.
    pub detail: String,
    /// Confidence in the best proposal; nothing when there was none to judge.
    pub confidence: Option<f64>,
    /// The checks made on it.
    pub evidence: Vec<Evidence>,
    /// The record's language; files from before this was kept have none of the following.
    #[serde(default)]
    pub language: Option<Language>,
    /// The record's weaknesses.
    #[serde(default)]
    pub cwe: Vec<Cwe>,
    /// The record's code.
    #[serde(default)]
    pub vulnerable: String,
    /// The proposal that came furthest, in its last revision.
    #[serde(default)]
    pub proposal: Option<Proposal>,
}

/// Why a record gave no pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The teacher knows no repair (the offline teacher: there is no upstream fix).
    NoProposal,
    /// The repair has a syntax error, or a side is too long to parse.
    Unparsable,
    /// Only one side holds a function, so that nothing can ask for both.
    NoFunction,
    /// Only white space or comments differ.
    NoCodeChange,
    /// Only names of local variables differ.
    RenamingOnly,
    /// The function has another name or other parameters.
    SignatureChanged,
    /// A function that others may use is gone.
    PublicNamesLost,
    /// A variable is read that nothing sets any more.
    NameUnbound,
    /// The analyzer still sees the flaw.
    FindingRemains,
    /// The analyzer sees a weakness that was not there before.
    NewWeakness,
    /// The flaw is on the repaired side only.
    SwappedSides,
    /// More was rewritten than repaired.
    ChangeTooLarge,
    /// The flaw went by taking the function's job away.
    BehaviourDeleted,
    /// The repaired side fails its functional tests.
    TestsFailed,
    /// The critic and the judges who saw both sides spoke against it, and nothing outweighs them.
    JudgesObject,
    /// No fatal failure, but too few votes in favour.
    LowConfidence,
    /// No prompt passed the leak checks.
    NoPrompt,
    /// The finished pair does not pass its own soundness check.
    UnsoundPair,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoProposal => "no_proposal",
            Self::Unparsable => "unparsable",
            Self::NoFunction => "no_function",
            Self::NoCodeChange => "no_code_change",
            Self::RenamingOnly => "renaming_only",
            Self::SignatureChanged => "signature_changed",
            Self::PublicNamesLost => "public_names_lost",
            Self::NameUnbound => "name_unbound",
            Self::FindingRemains => "finding_remains",
            Self::NewWeakness => "new_weakness",
            Self::SwappedSides => "swapped_sides",
            Self::ChangeTooLarge => "change_too_large",
            Self::BehaviourDeleted => "behaviour_deleted",
            Self::TestsFailed => "tests_failed",
            Self::JudgesObject => "judges_object",
            Self::LowConfidence => "low_confidence",
            Self::NoPrompt => "no_prompt",
            Self::UnsoundPair => "unsound_pair",
        })
    }
}

/// Decides on every record, in parallel; the order of the result is that of the records.
///
/// `progress` is called after each record with the number decided so far, from any thread. Without a judge, or with
/// `run_tests` off, the tests abstain.
pub fn repair(
    records: &[VulnerabilityRecord],
    teacher: &dyn Teacher,
    judge: Option<&Judge>,
    config: &RepairConfig,
    progress: &(dyn Fn(usize) + Sync),
) -> Vec<Decision> {
    let decided = AtomicUsize::new(0);
    let cores = rayon::current_num_threads();
    let slots = Slots::new(cores);
    let one = |record: &VulnerabilityRecord| {
        let desk = Desk { teacher, judge, config, slots: &slots };
        let decision = desk.decide(record).unwrap_or_else(|unanswered| {
            Decision::Open(OpenRecord {
                source: record.source.clone(),
                id: record.id.clone(),
                detail: unanswered.detail,
                hint: unanswered.hint,
            })
        });
        progress(decided.fetch_add(1, Ordering::Relaxed) + 1);
        decision
    };
    match teacher.records_at_once() {
        0 => records.par_iter().with_max_len(1).map(one).collect(),
        at_once => on_threads(records, at_once, one),
    }
}

/// Makes the pair: spans, prompts, and a last look at its soundness.
pub(crate) fn finish(
    draft: &Draft,
    analysis: &Analysis,
    ballots: &[Ballot],
    teacher: &dyn Teacher,
    config: &RepairConfig,
) -> Result<Result<RepairPair, Failure>, Unanswered> {
    let candidates = teacher.prompts(draft, config.prompts_per_pair, config.seed)?;
    Ok(make_pair(draft, analysis, ballots, candidates, teacher, config))
}

fn make_pair(
    draft: &Draft,
    analysis: &Analysis,
    ballots: &[Ballot],
    candidates: Vec<Prompt>,
    teacher: &dyn Teacher,
    config: &RepairConfig,
) -> Result<RepairPair, Failure> {
    let record = &draft.record;
    let confidence = confidence(ballots);
    let refuse = |reason, detail| Failure {
        reason,
        detail,
        confidence: Some(confidence),
        evidence: evidence(ballots),
        proposal: Some(draft.proposal()),
    };
    if draft.function_before.is_none() != draft.function_after.is_none() {
        let why = "one side is a function and the other is not: nothing can ask for both";
        return Err(refuse(RejectReason::NoFunction, why.into()));
    }
    let spans =
        spans(draft, analysis).map_err(|error| refuse(RejectReason::UnsoundPair, error.to_string()))?;
    let prompts = prompts(draft, candidates, teacher.name(), config)
        .map_err(|why| refuse(RejectReason::NoPrompt, why))?;
    let pair = RepairPair {
        id: record.id.clone(),
        language: record.language,
        cwe: record.cwe.clone(),
        cve: record.cve.clone(),
        project: record.project.clone(),
        commit: record.commit.clone(),
        date: record.date.clone(),
        file_name: record.file_name.clone(),
        license: record.license.clone(),
        vulnerable: record.vulnerable.clone(),
        secure: draft.secure.clone(),
        repair: Repair { by: draft.by.clone(), rounds: draft.rounds },
        confidence,
        evidence: evidence(ballots),
        spans,
        prompts,
        tests: record.tests.clone(),
        split: record.split.unwrap_or_default(),
        source: record.source.clone(),
        hash: content_hash(record.language, &record.vulnerable, &draft.secure),
    };
    match check_pair(&pair).into_iter().next() {
        Some(problem) => Err(refuse(RejectReason::UnsoundPair, problem)),
        None => Ok(pair),
    }
}

/// The diff's spans with the record's weakness, then what findings and quotes point at beside them.
fn spans(draft: &Draft, analysis: &Analysis) -> Result<Vec<LabelledSpan>, CorpusError> {
    let record = &draft.record;
    let mut spans = diff_spans(record.language, &record.vulnerable, &draft.secure)?;
    for span in &mut spans {
        span.cwe = record.cwe.first().copied();
    }
    let vulnerable = |span: Span, cwe, reason: String, by| LabelledSpan {
        side: Side::Vulnerable,
        start: span.start,
        end: span.end,
        kind: Side::Vulnerable,
        cwe,
        reason,
        by,
    };
    // Only findings that the repair ends: the others are not what it is about.
    let still = about_the_flaw(draft, &draft.findings_after);
    for finding in about_the_flaw(draft, &draft.findings_before) {
        if still.iter().all(|other| other.rule != finding.rule) {
            let reason = format!("{}: {}", finding.rule, finding.message);
            add(&mut spans, vulnerable(finding.span, Some(finding.cwe), reason, SpanOrigin::Analyzer));
        }
    }
    for quote in &analysis.quotes {
        if let Some(span) = locate(&quote.text, &record.vulnerable) {
            add(&mut spans, vulnerable(span, quote.cwe, quote.reason.clone(), SpanOrigin::Teacher));
        }
    }
    spans.sort_by_key(|span| (span.side, span.start, span.end));
    Ok(spans)
}

/// Adds a span unless it is empty or touches what is already labelled: no token shall be counted twice.
fn add(spans: &mut Vec<LabelledSpan>, new: LabelledSpan) {
    let taken = spans.iter().any(|span| span.side == new.side && span.span().overlaps(new.span()));
    if !taken && !new.span().is_empty() {
        spans.push(new);
    }
}

/// The implicit prompts of a repair, whatever became of the repair itself: those of the teacher's candidates that pass every leak
/// check, each text once, at most `prompts_per_pair`. Without any, why.
///
/// # Errors
/// The teacher could not be asked.
pub fn implicit_prompts(
    draft: &Draft,
    teacher: &dyn Teacher,
    config: &RepairConfig,
) -> Result<Result<Vec<Prompt>, String>, Unanswered> {
    let candidates = teacher.prompts(draft, config.prompts_per_pair, config.seed)?;
    Ok(prompts(draft, candidates, teacher.name(), config))
}

/// The first candidates that pass every leak check, each text once.
fn prompts(
    draft: &Draft,
    candidates: Vec<Prompt>,
    teacher: &str,
    config: &RepairConfig,
) -> Result<Vec<Prompt>, String> {
    let mut kept: Vec<Prompt> = Vec::new();
    let mut seen = HashSet::new();
    let mut first_leak = None;
    for mut candidate in candidates {
        if kept.len() == config.prompts_per_pair {
            break;
        }
        if !seen.insert((candidate.text.to_lowercase(), candidate.prefix.clone())) {
            continue;
        }
        let shown = match &candidate.prefix {
            Some(prefix) => format!("{}\n{prefix}", candidate.text),
            None => candidate.text.clone(),
        };
        let checks = leak_checks(&shown, draft);
        if let Some(leak) = checks.iter().find(|check| !check.passed) {
            first_leak.get_or_insert_with(|| format!("{}: {}", leak.name, leak.detail));
            continue;
        }
        candidate.checks = checks.into_iter().map(|check| check.name.to_owned()).collect();
        kept.push(candidate);
    }
    if kept.is_empty() {
        let why = first_leak.unwrap_or_else(|| format!("{teacher} wrote no prompt"));
        return Err(format!("no prompt passed the leak checks; the first failed {why}"));
    }
    Ok(kept)
}
