//! All votes on one repair: the deterministic checks, the functional tests, and the critic's word.

use vul2safe_corpus::Verdict;
use vul2safe_judge::{Judge, Submission, TestResult, TestStyle};

use crate::checks::{ballot, static_checks};
use crate::teacher::Criticism;
use crate::{Ballot, Draft, RejectReason, RepairConfig};

/// Collects every ballot. Tests run last, and only when nothing fatal was found: they cost a process.
pub(crate) fn verify(
    draft: &Draft,
    criticism: &Criticism,
    judge: Option<&Judge>,
    config: &RepairConfig,
) -> Vec<Ballot> {
    let mut ballots = static_checks(draft, config);
    ballots.extend(criticism.votes.iter().map(|vote| {
        let mut evidence = vote.evidence.clone();
        // An objection without a quote that stands in the repair is a claim, not a vote.
        let quoted = vote.quote.as_ref().is_some_and(|quote| occurs(quote, &draft.secure));
        if evidence.verdict == Verdict::Failed && !quoted {
            evidence.verdict = Verdict::Abstained;
            evidence.detail.push_str(" (thrown away: its quote is not in the repair)");
        }
        Ballot { evidence, weight: 1.0, fatal: None }
    }));
    if ballots.iter().all(|ballot| ballot.fatal.is_none()) {
        ballots.push(tests_pass(draft, judge, config));
    }
    ballots
}

/// Whether a quote stands in a text, white space aside.
pub(crate) fn occurs(quote: &str, text: &str) -> bool {
    let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let quote = normal(quote);
    !quote.is_empty() && normal(text).contains(&quote)
}

/// The repaired side must still do the job.
fn tests_pass(draft: &Draft, judge: Option<&Judge>, config: &RepairConfig) -> Ballot {
    let abstained = |detail: &str| ballot("tests_pass", 4.0, Verdict::Abstained, detail, None);
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
    ballot("tests_pass", 4.0, outcome, detail, Some(RejectReason::TestsFailed))
}
