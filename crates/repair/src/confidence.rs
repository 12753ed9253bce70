//! From the votes of the checks to one number.

use vul2safe_corpus::{Evidence, Verdict};

/// One check with its weight, and whether failing it ends the matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Ballot {
    /// What was checked and seen.
    pub evidence: Evidence,
    /// How much the check counts; 1 is an ordinary check.
    pub weight: f64,
    /// A failed fatal check rejects the repair whatever the others say.
    pub fatal: Option<crate::RejectReason>,
}

/// Mean of the Beta posterior over the weighted votes, starting from the uniform prior Beta(1, 1):
///
/// ```text
/// confidence = (1 + Σ w over passed) / (2 + Σ w over passed and failed)
/// ```
///
/// A check that abstains has no vote. No votes at all give ½.
pub fn confidence(ballots: &[Ballot]) -> f64 {
    let sum = |verdict: Verdict| -> f64 {
        ballots.iter().filter(|ballot| ballot.evidence.verdict == verdict).map(|ballot| ballot.weight).sum()
    };
    let (passed, failed) = (sum(Verdict::Passed), sum(Verdict::Failed));
    (1.0 + passed) / (2.0 + passed + failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(verdict: Verdict, weight: f64) -> Ballot {
        let evidence = Evidence { check: "check".into(), verdict, detail: String::new() };
        Ballot { evidence, weight, fatal: None }
    }

    /// Beta(1 + 5, 1 + 1) has mean 6/8.
    #[test]
    fn mean_of_the_posterior() {
        let ballots =
            [ballot(Verdict::Passed, 3.0), ballot(Verdict::Passed, 2.0), ballot(Verdict::Failed, 1.0)];
        assert!((confidence(&ballots) - 0.75).abs() < 1e-12);
        assert!((confidence(&[]) - 0.5).abs() < 1e-12);
        assert!((confidence(&[ballot(Verdict::Abstained, 9.0)]) - 0.5).abs() < 1e-12);
    }
}
