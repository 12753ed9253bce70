//! From what the checks saw and the models voted to one number.

use vul2safe_corpus::{Evidence, Verdict};

/// What a check's outcome says about the repair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weight {
    /// Nothing: it is kept for the reader.
    None,
    /// Weight of evidence, in nats (Good 1950): how much likelier the outcome is for a right repair than for a wrong one.
    Evidence {
        /// Added to the log-odds when the check passed.
        passed: f64,
        /// Taken from them when it failed.
        failed: f64,
    },
    /// A vote of a language model. All of them share one unknown rate of being right.
    Vote,
}

impl Weight {
    /// A check that nearly every proposal passes: it says something only when it fails.
    pub(crate) fn against(failed: f64) -> Weight {
        Weight::Evidence { passed: 0.0, failed }
    }
}

/// One check with what it says, and whether failing it ends the matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Ballot {
    /// What was checked and seen.
    pub evidence: Evidence,
    /// What follows from it.
    pub weight: Weight,
    /// A failed fatal check rejects the repair whatever the others say.
    pub fatal: Option<crate::RejectReason>,
}

/// Confidence in a repair that a fatal check has refused.
const REFUSED: f64 = 0.01;

/// How likely the repair is right: from even odds, each check moves the log-odds by its weight, and the votes by that of all of
/// them together,
///
/// ```text
/// confidence = σ(Σ weights + ln((k + 1)(k + 2) / ((f + 1)(f + 2))))      k votes for the repair, f against
/// ```
///
/// The last term is the likelihood ratio of k and f votes when the voters are right at a common unknown rate with the prior
/// Beta(3, 1): ¾ on average. So votes are not counted as if they were independent: two voters' errors correlate by
/// 1/(3 + 1 + 1) = 0.2, and five votes of five are worth 21 to 1 where independent ones would be worth 243 to 1.
///
/// A check that abstains says nothing. A repair that a fatal check refused gets at most 0.01.
pub fn confidence(ballots: &[Ballot]) -> f64 {
    let (mut odds, mut votes_for, mut votes_against) = (0.0, 0.0, 0.0);
    for ballot in ballots {
        match (ballot.weight, ballot.evidence.verdict) {
            (_, Verdict::Abstained) | (Weight::None, _) => {}
            (Weight::Evidence { passed, .. }, Verdict::Passed) => odds += passed,
            (Weight::Evidence { failed, .. }, Verdict::Failed) => odds -= failed,
            (Weight::Vote, Verdict::Passed) => votes_for += 1.0,
            (Weight::Vote, Verdict::Failed) => votes_against += 1.0,
        }
    }
    let worth = |votes: f64| (votes + 1.0) * (votes + 2.0);
    odds += f64::ln(worth(votes_for) / worth(votes_against));
    let likely = 1.0 / (1.0 + f64::exp(-odds));
    if ballots.iter().any(|ballot| ballot.fatal.is_some()) { likely.min(REFUSED) } else { likely }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(verdict: Verdict, weight: Weight) -> Ballot {
        let evidence = Evidence { check: "check".into(), verdict, detail: String::new() };
        Ballot { evidence, weight, fatal: None }
    }

    fn close(ballots: &[Ballot], expected: f64) {
        let found = confidence(ballots);
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    /// The likelihood ratio of k votes of n under Beta(3, 1), by the beta-binomial's integral.
    fn integrated(votes_for: i32, votes_against: i32) -> f64 {
        let steps = 200_000;
        let sum = |right: i32, wrong: i32| -> f64 {
            (0..steps)
                .map(|step| {
                    let rate = (f64::from(step) + 0.5) / f64::from(steps);
                    rate.powi(right + 2) * (1.0 - rate).powi(wrong)
                })
                .sum()
        };
        sum(votes_for, votes_against) / sum(votes_against, votes_for)
    }

    #[test]
    fn votes_are_worth_what_the_beta_binomial_says() {
        for (votes_for, votes_against) in [(5, 0), (4, 1), (3, 2), (1, 0), (0, 3), (2, 6)] {
            let mut ballots = vec![ballot(Verdict::Passed, Weight::Vote); votes_for as usize];
            ballots.extend(vec![ballot(Verdict::Failed, Weight::Vote); votes_against as usize]);
            let ratio = integrated(votes_for, votes_against);
            let found = confidence(&ballots);
            assert!((found / (1.0 - found) / ratio - 1.0).abs() < 1e-4, "{votes_for} to {votes_against}");
        }
    }

    #[test]
    fn weights_add_up_in_the_log_odds() {
        close(&[], 0.5);
        let weight = Weight::Evidence { passed: f64::ln(4.0), failed: f64::ln(8.0) };
        close(&[ballot(Verdict::Passed, weight)], 0.8);
        close(&[ballot(Verdict::Passed, weight), ballot(Verdict::Failed, weight)], 1.0 / 3.0);
        close(&[ballot(Verdict::Abstained, weight), ballot(Verdict::Failed, Weight::None)], 0.5);
        // Odds of 4 to 1, and 21 to 1 from five votes.
        let mut ballots = vec![ballot(Verdict::Passed, Weight::Vote); 5];
        ballots.push(ballot(Verdict::Passed, weight));
        close(&ballots, 84.0 / 85.0);
        ballots[0].fatal = Some(crate::RejectReason::Unparsable);
        close(&ballots, 0.01);
    }
}
