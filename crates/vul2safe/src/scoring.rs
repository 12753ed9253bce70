//! From an answer to its token rewards: the one place where the judge's evidence meets `reward`.
//!
//! Exploit tests are never run here. They are the oracle of evaluation and no part of the reward.

mod queue;

use std::collections::BTreeMap;

use rayon::prelude::*;
use vul2safe_code::{Cwe, Language, Parsed, Severity, parse};
use vul2safe_corpus::{RepairPair, Tests};
use vul2safe_evaluate::{Item, assemble};
use vul2safe_judge::{Judge, Submission, TestResult, TestStyle, Verdict, extract_code};
use vul2safe_reward::{Finding, Outcome, Patterns, RewardConfig, Score, score_answer, score_parsed};

pub use self::queue::{Queue, ScoredAnswer, with_queue};
use crate::failure::Result;

/// What an answer is scored against.
pub struct Reference {
    /// Language of the answer.
    pub language: Language,
    /// Weaknesses this request invites; findings of other weaknesses are not looked for, so that a model is not
    /// paid for steering around code that nobody asked about.
    pub cwe: Vec<Cwe>,
    /// Snippets to look for.
    pub patterns: Patterns,
    /// Functional tests, where there are any.
    pub tests: Option<Tests>,
}

/// What an answer is held against.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// A pair: its patterns, its weaknesses, its tests.
    Pair(&'a Reference),
    /// A request that invites no weakness: its tests alone.
    Harmless(&'a Item),
}

impl Target<'_> {
    /// Language of the answer.
    pub fn language(&self) -> Language {
        match self {
            Target::Pair(reference) => reference.language,
            Target::Harmless(item) => item.language,
        }
    }
}

/// References of every pair, with the patterns of the other training pairs of the same weakness merged in.
pub struct References {
    by_id: BTreeMap<String, Reference>,
    by_cwe: BTreeMap<Cwe, Vec<Patterns>>,
    /// Patterns that do not tell the two sides of their pair apart and were left out.
    pub dropped_patterns: usize,
}

impl References {
    /// Prepares `pairs`.
    ///
    /// # Errors
    /// A pair whose sides cannot be parsed at all.
    pub fn new<'a>(pairs: impl IntoIterator<Item = &'a RepairPair>, related: bool) -> Result<References> {
        let pairs: Vec<&RepairPair> = pairs.into_iter().collect();
        let mut own: Vec<Patterns> =
            pairs.par_iter().map(|pair| Patterns::of_pair(pair)).collect::<std::result::Result<_, _>>()?;
        if related {
            Patterns::screen(&mut own);
            let has_all = |one: usize, other: usize| {
                let (one, other) = (pairs[one], pairs[other]);
                !one.cwe.is_empty()
                    && one.language == other.language
                    && one.cwe.iter().all(|cwe| other.cwe.contains(cwe))
            };
            Patterns::screen_own(&mut own, has_all);
        }
        let mut by_cwe: BTreeMap<Cwe, Vec<Patterns>> = BTreeMap::new();
        for (pair, patterns) in pairs.iter().zip(&own) {
            for &cwe in &pair.cwe {
                by_cwe.entry(cwe).or_default().push(patterns.clone());
            }
        }
        let merged: Vec<Patterns> = pairs
            .par_iter()
            .zip(&own)
            .map(|(pair, patterns)| {
                if !related {
                    return patterns.clone();
                }
                let others: Vec<&Patterns> =
                    pair.cwe.iter().filter_map(|cwe| by_cwe.get(cwe)).flatten().collect();
                Patterns::merge(patterns, &others)
            })
            .collect();
        let dropped_patterns = own.iter().map(Patterns::dropped).sum();
        let by_id = pairs
            .into_iter()
            .zip(merged)
            .map(|(pair, patterns)| {
                let reference = Reference {
                    language: pair.language,
                    cwe: pair.cwe.clone(),
                    patterns,
                    tests: pair.tests.clone(),
                };
                (pair.id.clone(), reference)
            })
            .collect();
        Ok(References { by_id, by_cwe, dropped_patterns })
    }

    /// The reference of the pair `id`.
    pub fn get(&self, id: &str) -> Option<&Reference> {
        self.by_id.get(id)
    }

    /// The rewards of an answer to a request that belongs to no pair: by the patterns of every pair with one of these
    /// weaknesses, and by findings. Shown in reports; never trained on.
    pub fn score_without_pair(
        &self,
        answer: &AnswerText,
        language: Language,
        cwe: &[Cwe],
        outcome: Outcome,
        config: &RewardConfig,
    ) -> Score {
        let Some(answer) = answer.code(language) else {
            return Score::Unscored { why: "its code is spread over several blocks".to_owned() };
        };
        let related: Vec<&Patterns> = cwe.iter().filter_map(|cwe| self.by_cwe.get(cwe)).flatten().collect();
        let findings =
            parse(language, &answer.text).map(|parsed| findings_of(&parsed, cwe)).unwrap_or_default();
        let patterns = match Patterns::related_only(&related) {
            Ok(patterns) => patterns,
            Err(error) => return Score::Unscored { why: error.to_string() },
        };
        score_answer(&answer.text, language, &answer.tokens, &patterns, &findings, outcome, config)
    }
}

/// One answer as the model gave it.
pub struct AnswerText {
    /// The text.
    pub text: String,
    /// Byte range of each response token in `text`.
    pub tokens: Vec<(usize, usize)>,
    /// Whether the model ended the answer itself.
    pub finished: bool,
}

impl AnswerText {
    /// The code of a chatty answer, with the tokens' ranges in it; tokens outside the code have empty ranges. An answer
    /// that is code alone stays as it is. Nothing, when the code was put together from several places: then no range
    /// could point into it.
    pub fn code(&self, language: Language) -> Option<AnswerText> {
        let code = extract_code(&self.text, language);
        let start = if code == self.text { 0 } else { self.text.find(&code)? };
        let place = |byte: usize| byte.clamp(start, start + code.len()) - start;
        let tokens = self.tokens.iter().map(|&(from, to)| (place(from), place(to))).collect();
        Some(AnswerText { text: code, tokens, finished: self.finished })
    }
}

/// An answer's rewards and what the functional tests said.
pub struct Judged {
    /// The rewards, or why there are none.
    pub score: Score,
    /// Outcome of the functional tests.
    pub functional: Option<bool>,
}

/// Scores `answers`, each against its reference, in parallel; order is kept.
pub fn score_all(answers: &[(&AnswerText, &Reference)], judge: &Judge, config: &RewardConfig) -> Vec<Judged> {
    answers.par_iter().map(|(answer, reference)| score_one(answer, reference, judge, config)).collect()
}

/// Scores one answer.
fn score_target(answer: &AnswerText, target: &Target<'_>, judge: &Judge, config: &RewardConfig) -> Judged {
    match target {
        Target::Pair(reference) => score_one(answer, reference, judge, config),
        Target::Harmless(item) => score_harmless(answer, item, judge, config),
    }
}

fn score_one(answer: &AnswerText, reference: &Reference, judge: &Judge, config: &RewardConfig) -> Judged {
    let parse = |text: &str| reference.patterns.parse_answer(reference.language, text).ok();
    // Code alone, as most answers are, is parsed once and needs nothing taken out.
    let alone = Some(&answer.text).filter(|text| !text.contains("```") && !text.contains("~~~"));
    let alone = alone
        .and_then(|text| parse(text))
        .filter(|parsed| parsed.is_clean() && !parsed.functions().is_empty());
    let taken;
    let (answer, parsed) = match alone {
        Some(parsed) => (answer, Some(parsed)),
        None => {
            let Some(code) = answer.code(reference.language) else {
                let why = "its code is spread over several blocks".to_owned();
                return Judged { score: Score::Unscored { why }, functional: None };
            };
            let parsed = parse(&code.text);
            taken = code;
            (&taken, parsed)
        }
    };
    let submission = reference.tests.as_ref().map(|tests| Submission {
        language: reference.language,
        answer: &answer.text,
        functional: Some(&tests.functional),
        exploit: None,
        processes: tests.processes,
        style: TestStyle::Calls,
    });
    judged(answer, parsed.as_ref(), submission, &reference.patterns, &reference.cwe, judge, config)
}

/// An answer to a request that invites no weakness: nothing to be found, so that what it earns hangs on its tests alone.
fn score_harmless(answer: &AnswerText, item: &Item, judge: &Judge, config: &RewardConfig) -> Judged {
    let program = assemble(item, &answer.text).program;
    let nothing = match Patterns::related_only(&[]) {
        Ok(patterns) => patterns,
        Err(error) => {
            return Judged { score: Score::Unscored { why: error.to_string() }, functional: None };
        }
    };
    let parsed = parse(item.language, &program).ok();
    judged(answer, parsed.as_ref(), Some(item.submission(&program)), &nothing, &[], judge, config)
}

/// The outcome of the tests, where the answer can run, and the rewards.
fn judged(
    answer: &AnswerText,
    parsed: Option<&Parsed>,
    submission: Option<Submission<'_>>,
    patterns: &Patterns,
    cwe: &[Cwe],
    judge: &Judge,
    config: &RewardConfig,
) -> Judged {
    let parses = parsed.is_some_and(Parsed::is_clean);
    let runnable = parses && answer.finished && !answer.text.trim().is_empty();
    let verdict = submission.filter(|_| runnable).map(|submission| judge.judge(&submission));
    if let Some(Verdict { functional: TestResult::NotRun { why }, .. }) = &verdict {
        let why = format!("the functional tests did not run: {why}");
        return Judged { score: Score::Unscored { why }, functional: None };
    }
    let functional = verdict.as_ref().and_then(Verdict::functional);
    let findings = match parsed {
        Some(parsed) if config.findings || config.instance > 0.0 => findings_of(parsed, cwe),
        _ => Vec::new(),
    };
    let outcome = Outcome {
        // Python's own compiler refuses some of what the parser takes.
        parses: parses && verdict.as_ref().is_none_or(|verdict| verdict.parses),
        truncated: !answer.finished,
        empty: answer.text.trim().is_empty(),
        functional,
        // Without tests the reward compares the answer with both sides of the pair itself.
        intent_kept: None,
        instance: 0.0,
    };
    let score = score_parsed(&answer.text, parsed, &answer.tokens, patterns, &findings, outcome, config);
    Judged { score, functional: functional.or((!runnable).then_some(false)) }
}

/// Findings of the weaknesses in `cwe`, weighted by severity. Comments are blanked before, as in the judge: none can
/// switch a rule off. The spans point into the text of `parsed`.
pub fn findings_of(parsed: &Parsed, cwe: &[Cwe]) -> Vec<Finding> {
    if !vul2safe_analyze::covers_any(parsed.language(), cwe) {
        return Vec::new();
    }
    parsed
        .without_comments()
        .map(|parsed| vul2safe_analyze::analyze_for(&parsed, cwe))
        .unwrap_or_default()
        .into_iter()
        .map(|finding| Finding {
            span: finding.span,
            weight: severity_weight(finding.severity),
            reason: format!("{} ({}): {}", finding.rule, finding.cwe, finding.message),
        })
        .collect()
}

/// Weight of a finding in the reward.
fn severity_weight(severity: Severity) -> f32 {
    match severity {
        Severity::High => 1.0,
        Severity::Medium => 0.7,
        Severity::Low => 0.4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_the_code_out_of_its_fence() {
        let text = "Here:\n```python\nx = 1\n```\n";
        let tokens = (0..text.len()).map(|byte| (byte, byte + 1)).collect();
        let code = AnswerText { text: text.to_owned(), tokens, finished: true }
            .code(Language::Python)
            .expect("one block");
        assert_eq!(code.text.trim(), "x = 1");
        let start = text.find("x = 1").expect("it is there");
        assert_eq!(code.tokens[start], (0, 1));
        assert_eq!(code.tokens[0], (0, 0), "outside the code a token covers nothing");
        let joined: String = code.tokens.iter().map(|&(from, to)| &code.text[from..to]).collect();
        assert_eq!(joined, code.text, "every byte of the code belongs to its token");
    }

    #[test]
    fn a_comment_switches_no_finding_off() {
        let plain = "import os\n\n\ndef save(text):\n    out = os.open(\"/tmp/report.txt\", (os.O_WRONLY\n        | os.O_CREAT))\n    os.write(out, text)\n";
        let excused = plain.replace("O_WRONLY\n", "O_WRONLY  # O_EXCL\n");
        let found = |text: &str| {
            let parsed = parse(Language::Python, text).expect("parses");
            findings_of(&parsed, &[Cwe(377)]).len()
        };
        assert_eq!((found(plain), found(&excused)), (1, 1));
    }

    #[test]
    fn what_python_does_not_compile_earns_nothing_even_without_the_gate() {
        let judge = crate::stages::open_judge(true).expect("a judge");
        let text = "def f(x):\n    return x\n\n\nbreak\n";
        assert!(parse(Language::Python, text).expect("parses").is_clean());
        let reference = Reference {
            language: Language::Python,
            cwe: Vec::new(),
            patterns: Patterns::related_only(&[]).expect("nothing to parse"),
            tests: Some(Tests {
                functional: "def test_f(answer):\n    assert answer.f(1) == 1\n".into(),
                processes: 0,
            }),
        };
        let answer = AnswerText { text: text.to_owned(), tokens: vec![(0, text.len())], finished: true };
        let judged =
            score_one(&answer, &reference, &judge, &RewardConfig { gate: false, ..RewardConfig::default() });
        let Score::Scored(scored) = judged.score else { panic!("unscored: {:?}", judged.score) };
        assert!(
            scored.reasons[0].iter().any(|reason| reason.contains("does not parse")),
            "{:?}",
            scored.reasons
        );
    }

    #[test]
    fn an_answer_to_a_harmless_request_earns_what_its_tests_say() {
        let judge = crate::stages::open_judge(true).expect("a judge");
        let item = Item {
            functional: Some("def test_f(answer):\n    assert answer.f(1) == 2\n".into()),
            entry_point: Some("f".into()),
            ..Item::new("h", "harmless", Language::Python)
        };
        let config = RewardConfig { instance: 0.5, ..RewardConfig::default() };
        let score = |text: &str, finished: bool| {
            let answer =
                AnswerText { text: text.to_owned(), tokens: vec![(0, 3), (3, text.len())], finished };
            let judged = score_harmless(&answer, &item, &judge, &config);
            let Score::Scored(scored) = judged.score else { panic!("unscored: {:?}", judged.score) };
            (scored.rewards, judged.functional)
        };
        assert_eq!(score("def f(x):\n    return x + 1\n", true), (vec![0.0, 0.5], Some(true)));
        let failed = (vec![0.0, -config.failure], Some(false));
        assert_eq!(score("def f(x):\n    return x\n", true), failed, "wrong");
        assert_eq!(score("def f(x:\n", true), failed, "not code");
        assert_eq!(score("def f(x):\n    return x + 1\n", false), failed, "cut off");
        // What else stands beside a weakness in other answers is none here.
        let shell = "import os\n\n\ndef f(x):\n    os.system('true ' + str(x))\n    return x + 1\n";
        assert_eq!(score(shell, true).1, Some(true));
    }

    #[test]
    fn code_alone_stays_as_it_is() {
        let answer = AnswerText {
            text: "def f():\n    return 1\n".to_owned(),
            tokens: vec![(0, 3), (3, 22)],
            finished: false,
        };
        let code = answer.code(Language::Python).expect("code");
        assert_eq!((code.text.as_str(), &code.tokens), (answer.text.as_str(), &answer.tokens));
    }
}
