//! The patterns of a repair pair, and of other records of the same weakness.

use crate::dead::outermost;
use crate::index::Index;
use crate::inline::{Inlined, inlined, longest_run, run_of};
use crate::pattern::{Pattern, Reading};
use crate::sequence::{Item, Positions, items, items_in};
use crate::{RewardError, Sign};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use vul2safe_code::{Hunk, Language, ParseError, Parsed, Span, diff_leaves, parse, parse_excerpt};
use vul2safe_corpus::{LabelledSpan, RepairPair, Side, SpanOrigin};

/// Leaves that a window may grow to each side while local names are still slots and the pattern is still short
/// enough to be found in an answer that is not a copy.
const NEAR: [usize; 5] = [2, 4, 6, 8, 12];
/// Leaves that a window may grow to each side before the span is given up as not telling the sides apart.
const FAR: [usize; 7] = [20, 32, 48, 96, 192, 384, 768];

/// The secure and vulnerable snippets of a repair pair, ready to be looked for in an answer.
///
/// Each labelled span becomes a pattern: its own leaves, and as much of the code around it as it takes until the
/// sequence says enough and does not occur on the other side of the pair. Only the span is ever rewarded; the
/// code around it locates it.
#[derive(Debug, Clone)]
pub struct Patterns {
    sides: Arc<Sides>,
    /// Own patterns: string contents exact.
    own: Vec<Arc<Pattern>>,
    /// Of each own pattern the one to look for where single-use temporaries are left out of both texts.
    inlined: Vec<Option<Arc<Pattern>>>,
    /// Those that there are, and whose they are by place in `own`.
    inlined_index: Arc<(Index, Vec<usize>)>,
    /// The same spans with string contents reduced to their shape: what other records may use.
    general: Vec<Arc<Pattern>>,
    /// General patterns taken over by [`Patterns::merge`].
    related: Vec<Arc<Pattern>>,
    dropped: usize,
    /// Names of the functions the record asks for: what its secure side defines at its top.
    asked: Arc<[String]>,
    index: Arc<Index>,
}

/// Both texts of the pair, parsed.
#[derive(Debug)]
struct Sides {
    vulnerable: Parsed,
    secure: Parsed,
}

impl Patterns {
    /// Makes the patterns of one pair from its labelled spans.
    ///
    /// A span that no window of its side tells apart from the other side gives no pattern; it is counted by
    /// [`Patterns::dropped`].
    ///
    /// # Errors
    /// A side that cannot be parsed at all (more than 1 MiB), or a labelled span that covers no code.
    pub fn of_pair(pair: &RepairPair) -> Result<Patterns, RewardError> {
        let side = |text: &str, side| {
            parse_excerpt(pair.language, text).map_err(|error| RewardError::Side {
                record: pair.id.clone(),
                side,
                why: error.to_string(),
            })
        };
        let sides = Sides {
            vulnerable: side(&pair.vulnerable, "vulnerable")?,
            secure: side(&pair.secure, "secure")?,
        };
        let hunks = diff_leaves(&sides.vulnerable, &sides.secure);
        let vulnerable = Positions::new(items(&sides.vulnerable));
        let secure = Positions::new(items(&sides.secure));
        let record: Arc<str> = Arc::from(pair.id.as_str());
        let vulnerable_inlined = inlined(&sides.vulnerable, &vulnerable.items);
        let secure_inlined = inlined(&sides.secure, &secure.items);
        let vulnerable_positions = Positions::new(vulnerable_inlined.items.clone());
        let secure_positions = Positions::new(secure_inlined.items.clone());

        let (mut own, mut general, mut dropped) = (Vec::new(), Vec::new(), 0);
        let mut own_inlined = Vec::new();
        for label in widest_first(&pair.spans) {
            let (parsed, here, name) = match label.side {
                Side::Vulnerable => (&sides.vulnerable, &vulnerable, "vulnerable"),
                Side::Secure => (&sides.secure, &secure, "secure"),
            };
            // The pattern has to be absent from the text of the other kind.
            let (sign, there) = match label.kind {
                Side::Vulnerable => (Sign::Negative, &secure),
                Side::Secure => (Sign::Positive, &vulnerable),
            };
            let rewarded = items_in(&here.items, label.span());
            if rewarded.is_empty() || label.end > parsed.text().len() {
                return Err(RewardError::LabelledSpan {
                    record: pair.id.clone(),
                    side: name,
                    span: label.span(),
                });
            }
            let reason =
                Arc::from(format!("{} ({}, record {})", label.reason, origin_name(label.by), pair.id));
            let (place, is_anchor) = place_of(parsed, label, &hunks);
            let like = Pattern::blank(sign, place, reason, record.clone());
            let near = near_windows(parsed, &here.items, rewarded.clone());
            match own_pattern(&here.items, &near, &rewarded, there, &like) {
                Some(pattern) => {
                    own.push(Arc::new(pattern));
                    let here = if label.side == Side::Secure { &secure_inlined } else { &vulnerable_inlined };
                    let there = match sign {
                        Sign::Negative => &secure_positions,
                        Sign::Positive => &vulnerable_positions,
                    };
                    own_inlined.push(inlined_pattern(here, &rewarded, there, &like));
                }
                None => dropped += 1,
            }
            if is_anchor {
                // The statement beside an insertion is the same on both sides: what it lacks shows in its own
                // record's context, and says nothing of other code.
                continue;
            }
            let shaped = Reading { pinned: false, shaped: true };
            general.extend(
                near.iter()
                    .map(|window| Pattern::read(&here.items, window.clone(), rewarded.clone(), shaped, &like))
                    .find(|pattern| {
                        pattern.is_distinctive() && pattern.says_enough() && !pattern.occurs_in(there)
                    })
                    .map(Arc::new),
            );
        }
        let index = Arc::new(Index::new(&own, &[]));
        let asked =
            outermost(sides.secure.functions()).into_iter().map(|function| function.name.clone()).collect();
        let inlined_index = inlined_index(&own_inlined);
        Ok(Patterns {
            sides: Arc::new(sides),
            own,
            inlined: own_inlined,
            inlined_index,
            general,
            related: Vec::new(),
            dropped,
            asked,
            index,
        })
    }

    /// Matches of own patterns in a text without its single-use temporaries: the pattern's place in `own`, and the items of the
    /// text that are rewarded. Only of patterns that are `wanted`.
    pub(crate) fn inlined_matches(
        &self,
        answer: &Parsed,
        plain: &[Item<'_>],
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<(usize, Range<usize>)> {
        let (index, numbers) = &*self.inlined_index;
        if !numbers.iter().any(|&number| wanted(number)) {
            return Vec::new();
        }
        let text = inlined(answer, plain);
        let mut found = Vec::new();
        for place in index.matches(&text.items) {
            let number = numbers[place.pattern];
            let Some(pattern) = self.inlined[number].as_ref().filter(|_| wanted(number)) else { continue };
            let rewarded = place.start + pattern.rewarded.start..place.start + pattern.rewarded.end;
            found.extend(longest_run(&text, rewarded).map(|run| (number, run)));
        }
        found
    }

    /// Parses an answer: as an excerpt where the record's own repair is one, for then that is what was asked for (the prompt
    /// shows a method without its class, say), and as a whole text otherwise.
    ///
    /// # Errors
    /// A text that is not parsed at all: too long, too deep.
    pub fn parse_answer(&self, language: Language, text: &str) -> Result<Parsed, ParseError> {
        if self.sides.secure.is_excerpt() { parse_excerpt(language, text) } else { parse(language, text) }
    }

    /// The patterns of `own`, and beside them what its own and the `others`' spans say in general: local names
    /// renamed, string contents of the same shape. `others` are records of the same weakness.
    ///
    /// What the pair itself contradicts is left out: a general secure pattern that occurs in its vulnerable text
    /// only, and a general vulnerable one that occurs in its secure text; and so is a sequence that one record
    /// calls secure and another vulnerable. (A secure pattern in both texts is code that was right all along.)
    pub fn merge(own: &Patterns, others: &[&Patterns]) -> Patterns {
        let secure = Positions::new(items(&own.sides.secure));
        let vulnerable = Positions::new(items(&own.sides.vulnerable));
        let all =
            || std::iter::once(own).chain(others.iter().copied()).flat_map(|patterns| &patterns.general);
        let mut signs: HashMap<&[_], HashSet<Sign>> = HashMap::new();
        for pattern in all() {
            signs.entry(pattern.elements.as_slice()).or_default().insert(pattern.sign);
        }
        let mut seen = HashSet::new();
        let related: Vec<Arc<Pattern>> = all()
            .filter(|pattern| signs[pattern.elements.as_slice()].len() == 1)
            // Records of the same origin repeat each other: each sequence and rewarded part counts once.
            .filter(|pattern| seen.insert((pattern.elements.as_slice(), pattern.rewarded.clone())))
            .filter(|pattern| match pattern.sign {
                Sign::Positive => !pattern.occurs_in(&vulnerable) || pattern.occurs_in(&secure),
                Sign::Negative => !pattern.occurs_in(&secure),
            })
            .cloned()
            .collect();
        let index = Arc::new(Index::new(&own.own, &related));
        Patterns { related, index, ..own.clone() }
    }

    /// What the spans of `others` say in general, for an answer to a request that belongs to no record: no own
    /// patterns, no own sides.
    ///
    /// # Errors
    /// None that can happen for an empty text; the parser's signature has one.
    pub fn related_only(others: &[&Patterns]) -> Result<Patterns, RewardError> {
        let nothing = || {
            parse(Language::Python, "").map_err(|error| RewardError::Side {
                record: "no record".into(),
                side: "empty",
                why: error.to_string(),
            })
        };
        let own = Patterns {
            sides: Arc::new(Sides { vulnerable: nothing()?, secure: nothing()? }),
            own: Vec::new(),
            inlined: Vec::new(),
            inlined_index: inlined_index(&[]),
            general: Vec::new(),
            related: Vec::new(),
            dropped: 0,
            asked: Arc::default(),
            index: Arc::new(Index::new(&[], &[])),
        };
        Ok(Patterns::merge(&own, others))
    }

    /// Withdraws own patterns that records of the same weaknesses contradict: diffs hold more than the repair (another call that
    /// does the same, an import), and what is no part of the repair here stands in the flawed code there. A secure pattern goes when
    /// it stands in another record's vulnerable text, a vulnerable one when it stands in another's secure text. A record keeps the
    /// patterns of a sign that would lose all of them. `has_all(a, b)` says whether record `b`, by its place, has all weaknesses of
    /// record `a`: only such a text is flawed (or mended) in every way that the pattern may be about. Returns how many were withdrawn. Do this once over a training set, beside [`Patterns::screen`].
    pub fn screen_own(records: &mut [Patterns], has_all: impl Fn(usize, usize) -> bool) -> usize {
        let offered: Vec<(usize, Arc<Pattern>)> = records
            .iter()
            .enumerate()
            .flat_map(|(record, patterns)| patterns.own.iter().map(move |pattern| (record, pattern.clone())))
            .collect();
        let all: Vec<Arc<Pattern>> = offered.iter().map(|(_, pattern)| pattern.clone()).collect();
        let index = Index::new(&all, &[]);
        let mut contradicted: HashSet<*const Pattern> = HashSet::new();
        for (other, record) in records.iter().enumerate() {
            let found = |side: &Parsed| -> HashSet<usize> {
                index.matches(&items(side)).into_iter().map(|found| found.pattern).collect()
            };
            let (vulnerable, secure) = (found(&record.sides.vulnerable), found(&record.sides.secure));
            for &number in vulnerable.union(&secure) {
                let (own, pattern) = &offered[number];
                let is_wrong = match pattern.sign {
                    Sign::Positive => vulnerable.contains(&number),
                    Sign::Negative => secure.contains(&number),
                };
                if is_wrong && *own != other && has_all(*own, other) {
                    contradicted.insert(Arc::as_ptr(pattern));
                }
            }
        }
        let mut withdrawn = 0;
        for record in records.iter_mut() {
            let stays = |pattern: &Arc<Pattern>| !contradicted.contains(&Arc::as_ptr(pattern));
            let keeps_some =
                |sign: Sign| record.own.iter().any(|pattern| pattern.sign == sign && stays(pattern));
            let (positive, negative) = (keeps_some(Sign::Positive), keeps_some(Sign::Negative));
            let before = record.own.len();
            let kept: Vec<bool> = record
                .own
                .iter()
                .map(|pattern| {
                    let replaceable = if pattern.sign == Sign::Positive { positive } else { negative };
                    stays(pattern) || !replaceable
                })
                .collect();
            let mut of_own = kept.iter();
            record.own.retain(|_| of_own.next() == Some(&true));
            let mut of_inlined = kept.iter();
            record.inlined.retain(|_| of_inlined.next() == Some(&true));
            if record.own.len() < before {
                record.inlined_index = inlined_index(&record.inlined);
                withdrawn += before - record.own.len();
                record.index = Arc::new(Index::new(&record.own, &record.related));
            }
        }
        withdrawn
    }

    /// Withdraws general patterns that other records contradict: a secure one found in the vulnerable text of any
    /// of `records` but not in its secure text, a vulnerable one found in the secure text of any. Returns how many
    /// were withdrawn. Do this once over a training set before [`Patterns::merge`].
    pub fn screen(records: &mut [Patterns]) -> usize {
        let offered: Vec<Arc<Pattern>> =
            records.iter().flat_map(|patterns| patterns.general.iter().cloned()).collect();
        let index = Index::new(&[], &offered);
        let mut contradicted: HashSet<*const Pattern> = HashSet::new();
        for record in records.iter() {
            let found = |side: &Parsed| -> HashSet<usize> {
                index.matches(&items(side)).into_iter().map(|found| found.pattern).collect()
            };
            let (vulnerable, secure) = (found(&record.sides.vulnerable), found(&record.sides.secure));
            let is_wrong = |pattern: &&usize| match offered[**pattern].sign {
                Sign::Positive => !secure.contains(*pattern),
                Sign::Negative => secure.contains(*pattern),
            };
            let wrong = vulnerable.union(&secure).filter(is_wrong);
            contradicted.extend(wrong.map(|&pattern| Arc::as_ptr(&offered[pattern])));
        }
        for record in records.iter_mut() {
            record.general.retain(|pattern| !contradicted.contains(&Arc::as_ptr(pattern)));
        }
        contradicted.len()
    }

    /// Number of patterns that are looked for: own ones first, then related ones.
    /// [`crate::Evidence::pattern`] counts in this order.
    pub fn len(&self) -> usize {
        self.own.len() + self.related.len()
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of the pair's own patterns of one sign.
    pub fn own_count(&self, sign: Sign) -> usize {
        self.own.iter().filter(|pattern| pattern.sign == sign).count()
    }

    /// Number of patterns the pair offers to other records of the same weakness.
    pub fn general_count(&self) -> usize {
        self.general.len()
    }

    /// Labelled spans that gave no pattern, because nothing tells them apart from the other side.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Whether `answer` still does what both sides of the pair do; see [`crate::intent_kept`].
    pub fn intent_kept(&self, answer: &Parsed) -> bool {
        crate::intent::kept(&[&self.sides.secure, &self.sides.vulnerable], answer)
    }

    /// Where `answer` departs from both sides of the pair.
    pub(crate) fn departures(&self, answer: &Parsed) -> Vec<Span> {
        crate::departures::departures(&[&self.sides.secure, &self.sides.vulnerable], answer)
    }

    /// Whether the record has vulnerable text in this place of its difference.
    pub(crate) fn replaces_something(&self, place: Option<usize>) -> bool {
        place.is_some() && self.own.iter().any(|own| own.sign == Sign::Negative && own.place == place)
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The pattern with this index, and whether it is the record's own.
    pub(crate) fn pattern(&self, index: usize) -> (&Pattern, bool) {
        match self.own.get(index) {
            Some(pattern) => (pattern, true),
            None => (&self.related[index - self.own.len()], false),
        }
    }

    /// The record's own patterns.
    pub(crate) fn own(&self) -> &[Arc<Pattern>] {
        &self.own
    }

    /// How often an own pattern stands in the record's own repair.
    pub(crate) fn count_in_repair(&self, pattern: usize) -> usize {
        self.index.matches(&items(&self.sides.secure)).iter().filter(|found| found.pattern == pattern).count()
    }

    pub(crate) fn asked_functions(&self) -> &[String] {
        &self.asked
    }
}

/// The pattern of a span where temporaries are left out of both sides.
fn inlined_pattern(
    here: &Inlined<'_>,
    rewarded: &Range<usize>,
    there: &Positions<'_>,
    like: &Pattern,
) -> Option<Arc<Pattern>> {
    let run = run_of(here, rewarded)?;
    let near: Vec<Range<usize>> =
        std::iter::once(0).chain(NEAR).map(|by| grown(&run, by, here.items.len())).collect();
    own_pattern(&here.items, &near, &run, there, like).map(Arc::new)
}

fn inlined_index(patterns: &[Option<Arc<Pattern>>]) -> Arc<(Index, Vec<usize>)> {
    let (there, numbers): (Vec<Arc<Pattern>>, Vec<usize>) =
        patterns.iter().enumerate().filter_map(|(number, pattern)| Some((pattern.clone()?, number))).unzip();
    Arc::new((Index::new(&there, &[]), numbers))
}

/// Labelled spans, the widest first, without those that overlap a wider one of the same kind: a teacher may
/// quote what the diff has found already, and nothing is to be counted twice. Returned in order of the text.
fn widest_first(spans: &[LabelledSpan]) -> Vec<&LabelledSpan> {
    let mut sorted: Vec<&LabelledSpan> = spans.iter().collect();
    sorted.sort_by_key(|label| (std::cmp::Reverse(label.span().len()), label.start));
    let mut kept: Vec<&LabelledSpan> = Vec::new();
    for label in sorted {
        let is_new = kept.iter().all(|other| {
            (other.side, other.kind) != (label.side, label.kind) || !other.span().overlaps(label.span())
        });
        if is_new {
            kept.push(label);
        }
    }
    kept.sort_by_key(|label| (label.side, label.start));
    kept
}

fn origin_name(by: SpanOrigin) -> &'static str {
    match by {
        SpanOrigin::Diff => "diff",
        SpanOrigin::Teacher => "teacher",
        SpanOrigin::Analyzer => "analyzer",
    }
}

/// The hunk a span belongs to: the one it overlaps, or, for the anchor of a pure insertion or deletion (which may
/// stand some way behind it), the nearest one that is empty on its side. Also says whether the span is such an anchor.
fn place_of(parsed: &Parsed, label: &LabelledSpan, hunks: &[Hunk]) -> (Option<usize>, bool) {
    let leaves = parsed.leaves();
    let span = label.span();
    let first = leaves.partition_point(|leaf| leaf.span.end <= span.start);
    let last = leaves.partition_point(|leaf| leaf.span.start < span.end);
    let range = |hunk: &Hunk| match label.side {
        Side::Vulnerable => hunk.before.clone(),
        Side::Secure => hunk.after.clone(),
    };
    let overlapped = hunks.iter().position(|hunk| range(hunk).start < last && first < range(hunk).end);
    let nearest_empty = || {
        let distance = |hunk: &Hunk| {
            let place = range(hunk).start;
            first.saturating_sub(place).max(place.saturating_sub(last))
        };
        let empty = hunks.iter().enumerate().filter(|(_, hunk)| range(hunk).is_empty());
        empty.min_by_key(|(_, hunk)| distance(hunk)).map(|(place, _)| place)
    };
    match overlapped {
        Some(place) => (Some(place), range(&hunks[place]).is_empty()),
        None => (nearest_empty(), true),
    }
}

/// Windows around the rewarded items, from the span alone outwards: the syntax nodes around it, its statement,
/// and a few leaves more to each side. Each contains the one before.
fn near_windows(parsed: &Parsed, items: &[Item<'_>], rewarded: Range<usize>) -> Vec<Range<usize>> {
    let span = Span::new(items[rewarded.start].span.start, items[rewarded.end - 1].span.end);
    let mut windows = vec![rewarded.clone()];
    let statement = parsed.statement_around(span).unwrap_or(span);
    let mut node = Some(parsed.root().descendant_for_byte_range(span.start, span.end));
    while let Some(inner) = node {
        let bytes = Span::from(inner.byte_range());
        if !statement.contains(bytes) {
            break;
        }
        windows.push(items_in(items, bytes));
        node = inner.parent();
    }
    windows.push(items_in(items, statement));
    let statement = cover(&rewarded, &items_in(items, statement));
    // The span alone may say enough without its statement, so it grows by itself first.
    windows.extend(NEAR.iter().map(|&by| grown(&rewarded, by, items.len())));
    windows.extend(NEAR.iter().map(|&by| grown(&statement, by, items.len())));
    let mut windows: Vec<Range<usize>> =
        windows.into_iter().map(|window| cover(&window, &rewarded)).collect();
    windows.dedup();
    windows
}

fn cover(first: &Range<usize>, second: &Range<usize>) -> Range<usize> {
    first.start.min(second.start)..first.end.max(second.end)
}

fn grown(window: &Range<usize>, by: usize, length: usize) -> Range<usize> {
    window.start.saturating_sub(by)..(window.end + by).min(length)
}

/// The first reading of a span that does not occur on the other side: with local names as slots where a near
/// window suffices; else with the names themselves, which any answer that keeps them can still show; else as
/// much of the code around it as it takes.
fn own_pattern(
    items: &[Item<'_>],
    near: &[Range<usize>],
    rewarded: &Range<usize>,
    there: &Positions<'_>,
    like: &Pattern,
) -> Option<Pattern> {
    let far: Vec<Range<usize>> = FAR.iter().map(|&by| grown(rewarded, by, items.len())).collect();
    let renamed = Reading { pinned: false, shaped: false };
    let pinned = Reading { pinned: true, shaped: false };
    // A window that tells the sides apart without a telling word is still better than no pattern.
    [(near, renamed, true), (near, pinned, true), (&far, renamed, false), (&far, pinned, false)]
        .into_iter()
        .flat_map(|(windows, reading, strict)| windows.iter().map(move |window| (window, reading, strict)))
        .filter_map(|(window, reading, strict)| {
            let pattern = Pattern::read(items, window.clone(), rewarded.clone(), reading, like);
            (!strict || pattern.says_enough()).then_some(pattern)
        })
        .find(|pattern| !pattern.occurs_in(there))
}
