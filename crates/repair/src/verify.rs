//! All votes on one repair: the deterministic checks, the functional tests, and the critic's word.

use vul2safe_corpus::Verdict;
use vul2safe_judge::{Judge, Submission, TestResult, TestStyle};

use crate::checks::{TESTS_PASS, ballot, static_checks};
use crate::confidence::Weight;
use crate::quotes::locate;
use crate::teacher::{Criticism, Vote};
use crate::{Ballot, Draft, RejectReason, RepairConfig};

/// Collects every ballot. Tests run last, and only when nothing fatal was found: they cost a process.
pub(crate) fn verify(
    draft: &Draft,
    criticism: &Criticism,
    judge: Option<&Judge>,
    config: &RepairConfig,
) -> Vec<Ballot> {
    let mut ballots = static_checks(draft, config);
    let mut objected = false;
    ballots.extend(criticism.votes.iter().map(|vote| {
        let mut evidence = vote.evidence.clone();
        // An objection without a quote that stands in the repair is a claim, not a vote.
        let quoted = vote.quote.as_ref().is_some_and(|quote| locate(quote, &draft.secure).is_some());
        if evidence.verdict == Verdict::Failed && !quoted {
            evidence.verdict = Verdict::Abstained;
            evidence.detail.push_str(" (thrown away: its quote is not in the repair)");
        }
        // A critic has one vote, however many objections.
        let again = evidence.verdict == Verdict::Failed && std::mem::replace(&mut objected, true);
        Ballot { evidence, weight: if again { Weight::None } else { Weight::Vote }, fatal: None }
    }));
    if ballots.iter().all(|ballot| ballot.fatal.is_none()) {
        ballots.push(tests_pass(draft, judge, config));
    }
    ballots
}

/// The judges' votes. They are evidence like the rest: a few against do not undo what checks and tests have shown. But if nobody is for
/// the repair it ends the matter, unless it is upstream's and there is no second voice against it.
pub(crate) fn count_votes(draft: &Draft, votes: Vec<Vote>) -> Vec<Ballot> {
    let count = |verdict| votes.iter().filter(|vote| vote.evidence.verdict == verdict).count();
    let (passed, failed, all) = (count(Verdict::Passed), count(Verdict::Failed), votes.len());
    let enough = passed > 0 || (draft.by == "upstream" && failed < 2);
    let mut ballots: Vec<Ballot> = votes
        .into_iter()
        .map(|vote| Ballot { evidence: vote.evidence, weight: Weight::Vote, fatal: None })
        .collect();
    if all > 0 {
        let verdict = if enough { Verdict::Passed } else { Verdict::Failed };
        let detail = format!(
            "{passed} judges for the repair, {failed} against, {} without a vote",
            all - passed - failed
        );
        // The votes themselves carry the weight.
        ballots.push(ballot("judges", Weight::None, verdict, detail, Some(RejectReason::JudgesObject)));
    }
    ballots
}

/// The repaired side must still do the job.
fn tests_pass(draft: &Draft, judge: Option<&Judge>, config: &RepairConfig) -> Ballot {
    let abstained = |detail: &str| ballot("tests_pass", TESTS_PASS, Verdict::Abstained, detail, None);
    let Some(tests) = &draft.record.tests else { return abstained("the record has no tests") };
    if !config.run_tests {
        return abstained("running tests is switched off");
    }
    let Some(judge) = judge else { return abstained("nothing to run tests with") };
    let verdict = judge.judge(&Submission {
        language: draft.record.language,
        answer: &draft.secure,
        functional: Some(&tests.functional),
        exploit: None,
        processes: tests.processes,
        style: TestStyle::Calls,
    });
    let (outcome, detail) = match &verdict.functional {
        TestResult::Passed { tests } => (Verdict::Passed, format!("{tests} tests pass")),
        TestResult::Failed { test, message } => (Verdict::Failed, format!("{test}: {message}")),
        TestResult::TimedOut { test } => {
            (Verdict::Failed, format!("timed out in {}", test.as_deref().unwrap_or("the module")))
        }
        TestResult::Killed { limit } => (Verdict::Failed, format!("killed: {limit}")),
        TestResult::NotRun { why } => (Verdict::Abstained, format!("not run: {why}")),
        TestResult::Absent => (Verdict::Abstained, "the tests hold no test".to_owned()),
    };
    ballot("tests_pass", TESTS_PASS, outcome, detail, Some(RejectReason::TestsFailed))
}
