//! Evidence in one answer: matches and findings, with every conflict between them settled.

use crate::dead::Dead;
use crate::index::Match;
use crate::patterns::Patterns;
use crate::sequence::{Item, items, items_in};
use crate::{Cheat, Evidence, Finding, Origin, Sign};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use vul2safe_code::{Parsed, Span};

/// w of a related pattern: it holds for another record, so it says half as much as the record's own.
pub const RELATED_WEIGHT: f32 = 0.5;

/// Finds the evidence in an answer, in order of the text.
///
/// * A record's own patterns of one sign share the weight 1, so that a fix in ten pieces earns as much as a fix
///   in one; a related pattern weighs [`RELATED_WEIGHT`]; related secure patterns are scaled so that all
///   positive weights together stay at most 1.
/// * Of two pieces of evidence in the same place the record's own comes first, then the larger match, then the
///   negative one. A finding gives way to own secure evidence that is at least as large, and merges with own
///   vulnerable evidence. No two pieces overlap in the end.
/// * Each secure pattern is credited once; a vulnerable one costs wherever it stands.
/// * Own secure evidence is void while the vulnerable text it should have replaced still stands, and what the fix
///   only inserts is void while any of the record's vulnerable text stands; related secure evidence is void beside
///   any negative evidence: a guard pasted next to the flaw is no fix.
/// * Code that never runs is no evidence, and code in functions that nothing calls earns nothing.
///
/// Whether the answer parses and works is not asked here; [`crate::token_rewards`] gates by that.
pub fn find_evidence(answer: &Parsed, patterns: &Patterns, findings: &[Finding]) -> Vec<Evidence> {
    find(answer, patterns, findings, true).evidence
}

/// Evidence, and what the search saw on the way.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub evidence: Vec<Evidence>,
    /// Ways to cheat that the search had to see through.
    pub cheats: Vec<Cheat>,
}

/// As [`find_evidence`]; without `related`, other records' patterns are not even part of a conflict.
pub(crate) fn find(answer: &Parsed, patterns: &Patterns, findings: &[Finding], related: bool) -> Found {
    let items = items(answer);
    let mut matches: Vec<Candidate> = patterns
        .index()
        .matches(&items)
        .into_iter()
        .map(|found| Candidate::new(found, patterns, &items))
        .filter(|found| related || found.is_own)
        .collect();
    // What is not there as it stands may be there with a temporary more or less.
    let seen: HashSet<usize> =
        matches.iter().filter(|found| found.is_own).map(|found| found.pattern).collect();
    let more = patterns.inlined_matches(answer, &items, |number| !seen.contains(&number));
    matches.extend(more.into_iter().map(|(number, run)| Candidate::of_run(number, run, patterns, &items)));
    if matches.is_empty() && findings.is_empty() {
        return Found::default();
    }
    let mut cheats = Vec::new();
    let dead = Dead::find(answer, patterns.asked_functions());
    matches.retain(|found| {
        let runs = !dead.is_never_run(found.span)
            && (found.sign == Sign::Negative || !dead.is_never_called(found.span));
        if !runs && found.is_own && found.sign == Sign::Positive {
            cheats.push(Cheat::FixInDeadCode);
        }
        runs
    });
    if is_repeated(&matches, patterns) {
        cheats.push(Cheat::RepeatedGuard);
    }
    matches.sort_by_key(|found| {
        (
            !found.is_own,
            std::cmp::Reverse(found.extent.len()),
            found.sign != Sign::Negative,
            found.extent.start,
            found.pattern,
        )
    });

    let mut accepted: Vec<Candidate> = Vec::new();
    accept(matches.iter().filter(|found| found.is_own), &mut accepted);
    let standing: Vec<Option<usize>> =
        accepted.iter().filter(|own| own.sign == Sign::Negative).map(|own| own.place).collect();
    accepted.retain(|own| {
        let stands = own.sign == Sign::Positive && !standing.is_empty();
        let counts = !stands || (!standing.contains(&own.place) && patterns.replaces_something(own.place));
        if !counts {
            cheats.push(Cheat::FixBesideFlaw);
        }
        counts
    });

    let mut evidence: Vec<Evidence> = Vec::new();
    let weight_of = |sign: Sign| 1.0 / patterns.own_count(sign).max(1) as f32;
    let mut kept_findings: Vec<Evidence> = Vec::new();
    // Weights that findings raise own vulnerable evidence to, by place in `accepted`.
    let mut weights: Vec<f32> = accepted.iter().map(|own| weight_of(own.sign)).collect();
    for (number, finding) in findings.iter().enumerate() {
        if dead.is_never_run(finding.span) {
            continue;
        }
        place_finding(number, finding, &items, &mut accepted, &mut weights, &mut kept_findings);
    }
    for (own, weight) in accepted.iter().zip(&weights) {
        evidence.push(own.evidence(patterns, *weight, Origin::Record));
    }
    evidence.append(&mut kept_findings);

    let own_count = accepted.len();
    let free = matches
        .iter()
        .filter(|found| !found.is_own)
        .filter(|found| evidence.iter().all(|other| !other.span.overlaps(found.span)));
    accept(free, &mut accepted);
    let any_negative = evidence.iter().any(|item| item.sign == Sign::Negative)
        || accepted[own_count..].iter().any(|related| related.sign == Sign::Negative);
    let mut related: Vec<Evidence> = accepted[own_count..]
        .iter()
        .filter(|found| found.sign == Sign::Negative || !any_negative)
        .map(|found| found.evidence(patterns, RELATED_WEIGHT, Origin::Related))
        .collect();
    let room =
        1.0 - evidence.iter().filter(|item| item.sign == Sign::Positive).map(|item| item.weight).sum::<f32>();
    let asked: f32 = related.iter().filter(|item| item.sign == Sign::Positive).map(|item| item.weight).sum();
    if asked > room {
        for item in related.iter_mut().filter(|item| item.sign == Sign::Positive) {
            item.weight *= room.max(0.0) / asked;
        }
        // Rounding of 1/n leaves a crumb of room beside a complete own fix; that is no evidence.
        related.retain(|item| item.sign == Sign::Negative || item.weight > 1e-4);
    }
    evidence.append(&mut related);
    evidence.sort_by_key(|item| (item.span.start, item.span.end, item.origin, item.pattern));
    Found { evidence, cheats }
}

/// Whether a secure pattern of the record stands in more places than in the record's own repair.
fn is_repeated(matches: &[Candidate], patterns: &Patterns) -> bool {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for found in matches.iter().filter(|found| found.is_own && found.sign == Sign::Positive) {
        *counts.entry(found.pattern).or_default() += 1;
    }
    counts.into_iter().any(|(pattern, count)| count > 1 && count > patterns.count_in_repair(pattern))
}

/// A match with what conflicts are settled by.
#[derive(Debug, Clone)]
struct Candidate {
    pattern: usize,
    is_own: bool,
    sign: Sign,
    place: Option<usize>,
    /// Items of the whole match.
    extent: Range<usize>,
    /// Bytes of the rewarded items.
    span: Span,
}

impl Candidate {
    fn new(found: Match, patterns: &Patterns, items: &[Item<'_>]) -> Self {
        let (pattern, is_own) = patterns.pattern(found.pattern);
        let first = items[found.start + pattern.rewarded.start].span;
        let last = items[found.start + pattern.rewarded.end - 1].span;
        Self {
            pattern: found.pattern,
            is_own,
            sign: pattern.sign,
            place: pattern.place,
            extent: found.start..found.start + pattern.elements.len(),
            span: first.cover(last),
        }
    }

    /// A match without temporaries, by the items that it rewards.
    fn of_run(number: usize, run: Range<usize>, patterns: &Patterns, items: &[Item<'_>]) -> Self {
        let (pattern, is_own) = patterns.pattern(number);
        let span = items[run.start].span.cover(items[run.end - 1].span);
        Self { pattern: number, is_own, sign: pattern.sign, place: pattern.place, extent: run, span }
    }

    fn evidence(&self, patterns: &Patterns, weight: f32, origin: Origin) -> Evidence {
        let (pattern, _) = patterns.pattern(self.pattern);
        let (span, sign) = (self.span, self.sign);
        Evidence { span, sign, weight, origin, pattern: self.pattern, reason: pattern.reason.to_string() }
    }
}

/// Takes candidates in the order given unless they conflict with one taken before.
fn accept<'a>(candidates: impl Iterator<Item = &'a Candidate>, accepted: &mut Vec<Candidate>) {
    for candidate in candidates {
        let is_free = accepted.iter().all(|other| {
            let credited = other.pattern == candidate.pattern && candidate.sign == Sign::Positive;
            let nested = other.sign != candidate.sign
                && other.extent.start <= candidate.extent.start
                && candidate.extent.end <= other.extent.end;
            !credited && !nested && !other.span.overlaps(candidate.span)
        });
        if is_free {
            accepted.push(candidate.clone());
        }
    }
}

/// Settles one finding against the record's own evidence and the findings before it.
fn place_finding(
    number: usize,
    finding: &Finding,
    items: &[Item<'_>],
    accepted: &mut Vec<Candidate>,
    weights: &mut Vec<f32>,
    kept: &mut Vec<Evidence>,
) {
    let size = items_in(items, finding.span).len();
    let touches = |own: &Candidate| own.span.overlaps(finding.span);
    if let Some(flaw) = accepted.iter().position(|own| touches(own) && own.sign == Sign::Negative) {
        weights[flaw] = weights[flaw].max(finding.weight);
        return;
    }
    if accepted.iter().any(|own| touches(own) && own.extent.len() >= size) {
        return;
    }
    let mut index = 0;
    while index < accepted.len() {
        if touches(&accepted[index]) {
            accepted.remove(index);
            weights.remove(index);
        } else {
            index += 1;
        }
    }
    if let Some(known) = kept.iter_mut().find(|known| known.span.overlaps(finding.span)) {
        known.weight = known.weight.max(finding.weight);
        return;
    }
    kept.push(Evidence {
        span: finding.span,
        sign: Sign::Negative,
        weight: finding.weight,
        origin: Origin::Finding,
        pattern: number,
        reason: finding.reason.clone(),
    });
}
