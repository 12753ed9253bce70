//! One record on the desk: proposals, criticism, checks, revisions, votes.

use vul2safe_corpus::{Evidence, RepairPair, Verdict, VulnerabilityRecord};
use vul2safe_judge::Judge;

use crate::confidence::Weight;
use crate::decision::finish;
use crate::parallel::Slots;
use crate::quotes::locate;
use crate::teacher::{Analysis, Criticism, Unanswered};
use crate::verify::{count_votes, verify};
use crate::{Ballot, Decision, Draft, Proposal, RejectReason, Rejection, RepairConfig, Teacher, confidence};

/// A proposal that was not accepted: how far it got.
pub(crate) struct Failure {
    pub reason: RejectReason,
    pub detail: String,
    pub confidence: Option<f64>,
    pub evidence: Vec<Evidence>,
    pub proposal: Option<Proposal>,
}

/// Those who decide on a record.
pub(crate) struct Desk<'a> {
    pub teacher: &'a dyn Teacher,
    pub judge: Option<&'a Judge>,
    pub config: &'a RepairConfig,
    pub slots: &'a Slots,
}

impl Desk<'_> {
    pub fn decide(&self, record: &VulnerabilityRecord) -> Result<Decision, Unanswered> {
        let (analysis, quotes) = with_quotes_that_occur(self.teacher.analyse(record)?, record);
        let mut best: Option<Failure> = None;
        let proposals = self.teacher.propose(record, &analysis)?;
        for proposal in proposals.repairs {
            match self.examine(record, &analysis, &quotes, proposal)? {
                Ok(pair) => return Ok(Decision::Accepted(Box::new(pair))),
                Err(failure) => {
                    if best.as_ref().is_none_or(|best| failure.confidence > best.confidence) {
                        best = Some(failure);
                    }
                }
            }
        }
        let failure = best.unwrap_or_else(|| Failure {
            reason: RejectReason::NoProposal,
            detail: match proposals.shortage {
                Some(why) => format!("{} has no repair for this record: {why}", self.teacher.name()),
                None => format!("{} has no repair for this record", self.teacher.name()),
            },
            confidence: None,
            evidence: Vec::new(),
            proposal: None,
        });
        Ok(Decision::Rejected(Rejection {
            source: record.source.clone(),
            id: record.id.clone(),
            reason: failure.reason,
            detail: failure.detail,
            confidence: failure.confidence,
            evidence: failure.evidence,
            language: Some(record.language),
            cwe: record.cwe.clone(),
            vulnerable: record.vulnerable.clone(),
            proposal: failure.proposal,
        }))
    }

    /// One proposal through criticism, checks, votes, and as many revisions as the teacher and the settings allow.
    fn examine(
        &self,
        record: &VulnerabilityRecord,
        analysis: &Analysis,
        quotes: &Option<Evidence>,
        mut proposal: Proposal,
    ) -> Result<Result<RepairPair, Failure>, Unanswered> {
        let (teacher, config) = (self.teacher, self.config);
        // The latest draft that only its critic stands against. A critic errs too: should what comes after it fail, the
        // judges decide on this one, with the objection as a vote.
        let mut disputed: Option<(Draft, Vec<Ballot>)> = None;
        let mut round = 1;
        let failure = loop {
            let draft = match self.slots.run(|| Draft::new(record, &proposal, round)) {
                Ok(draft) => draft,
                Err(error) => {
                    break Failure {
                        reason: RejectReason::Unparsable,
                        detail: error.to_string(),
                        confidence: None,
                        evidence: Vec::new(),
                        proposal: Some(proposal),
                    };
                }
            };
            let criticism = teacher.criticise(&draft, analysis)?;
            let mut ballots = self.slots.run(|| verify(&draft, &criticism, self.judge, config));
            if let Some(evidence) = quotes {
                ballots.push(Ballot { evidence: evidence.clone(), weight: Weight::None, fatal: None });
            }
            let is_last = round == config.maximum_rounds;
            let refused = ballots.iter().any(|ballot| ballot.fatal.is_some());
            // Judges cost the most: what is refused already, or may still be mended, does not come before them.
            let failure = if refused {
                verdict(&draft, &ballots, config)
            } else if objects(&criticism, &ballots) && !is_last {
                None
            } else {
                match self.before_the_judges(&draft, analysis, &mut ballots)? {
                    Ok(pair) => return Ok(Ok(pair)),
                    Err(failure) => Some(failure),
                }
            };
            let failed: Vec<_> = evidence(&ballots)
                .into_iter()
                .filter(|evidence| evidence.verdict == Verdict::Failed)
                .collect();
            // Another repair does not help where the repair was not the trouble.
            let mendable = failure.as_ref().is_none_or(|failure| {
                !matches!(
                    failure.reason,
                    RejectReason::NoFunction | RejectReason::NoPrompt | RejectReason::UnsoundPair
                )
            });
            let revised = match mendable && !is_last {
                true => teacher.revise(&draft, analysis, &failed)?,
                false => None,
            };
            let revised = revised.filter(|revised| revised.secure != draft.secure);
            match (revised, failure) {
                (Some(revised), failure) => {
                    proposal = revised;
                    if failure.is_none() {
                        disputed = Some((draft, ballots));
                    }
                }
                (None, Some(failure)) => break failure,
                // The teacher stands by the repair against its critic.
                (None, None) => return self.before_the_judges(&draft, analysis, &mut ballots),
            }
            round += 1;
        };
        match disputed {
            Some((draft, mut ballots)) => self.before_the_judges(&draft, analysis, &mut ballots),
            None => Ok(Err(failure)),
        }
    }

    /// The judges' votes beside the others', and what follows from all.
    fn before_the_judges(
        &self,
        draft: &Draft,
        analysis: &Analysis,
        ballots: &mut Vec<Ballot>,
    ) -> Result<Result<RepairPair, Failure>, Unanswered> {
        ballots.extend(count_votes(draft, self.teacher.judge(draft, analysis)?));
        match verdict(draft, ballots, self.config) {
            Some(failure) => Ok(Err(failure)),
            None => finish(draft, analysis, ballots, self.teacher, self.config),
        }
    }
}

/// Whether the critic has broken the repair: an objection that was not thrown away.
fn objects(criticism: &Criticism, ballots: &[Ballot]) -> bool {
    criticism.votes.iter().any(|vote| {
        vote.evidence.verdict == Verdict::Failed
            && ballots.iter().any(|ballot| ballot.evidence == vote.evidence)
    })
}

/// The analysis with those quotes that stand in the code, and what became of the others.
fn with_quotes_that_occur(
    mut analysis: Analysis,
    record: &VulnerabilityRecord,
) -> (Analysis, Option<Evidence>) {
    let all = analysis.quotes.len();
    analysis.quotes.retain(|quote| locate(&quote.text, &record.vulnerable).is_some());
    let kept = analysis.quotes.len();
    let evidence = (all > 0).then(|| Evidence {
        check: "quotes_occur".into(),
        verdict: Verdict::Abstained,
        detail: format!(
            "{kept} of {all} quotes of the teacher stand in the code; {} thrown away",
            all - kept
        ),
    });
    (analysis, evidence)
}

pub(crate) fn evidence(ballots: &[Ballot]) -> Vec<Evidence> {
    ballots.iter().map(|ballot| ballot.evidence.clone()).collect()
}

/// The reason to refuse, if there is one: the first fatal failure, else too little confidence.
fn verdict(draft: &Draft, ballots: &[Ballot], config: &RepairConfig) -> Option<Failure> {
    let confidence = confidence(ballots);
    let fatal = ballots.iter().find_map(|ballot| Some((ballot.fatal?, ballot)));
    let (reason, detail) = match fatal {
        Some((reason, ballot)) => (reason, format!("{}: {}", ballot.evidence.check, ballot.evidence.detail)),
        None if confidence < config.threshold => {
            let votes = |wanted| {
                let is_vote =
                    |ballot: &&Ballot| ballot.weight == Weight::Vote && ballot.evidence.verdict == wanted;
                ballots.iter().filter(is_vote).count()
            };
            let objected = votes(Verdict::Failed) > votes(Verdict::Passed);
            let reason = if objected { RejectReason::JudgesObject } else { RejectReason::LowConfidence };
            (reason, format!("confidence {confidence:.2} is below {:.2}", config.threshold))
        }
        None => return None,
    };
    Some(Failure {
        reason,
        detail,
        confidence: Some(confidence),
        evidence: evidence(ballots),
        proposal: Some(draft.proposal()),
    })
}
