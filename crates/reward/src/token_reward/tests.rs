use super::*;
use proptest::prelude::*;
use vul2safe_code::Span;

/// Ten tokens of two bytes over a text of twenty.
const TEXT: &str = "aabbccddeeffgghhiijj";

fn tokens() -> Vec<(usize, usize)> {
    (0..10).map(|token| (2 * token, 2 * token + 2)).collect()
}

fn item(start: usize, end: usize, sign: Sign, weight: f32) -> Evidence {
    let reason = "why".to_string();
    Evidence { span: Span::new(start, end), sign, weight, origin: Origin::Record, pattern: 0, reason }
}

fn working() -> Outcome {
    Outcome { functional: Some(true), ..Outcome::unjudged() }
}

fn reward(outcome: Outcome, evidence: &[Evidence], config: &RewardConfig) -> Scored {
    token_rewards(&Answer { tokens: &tokens(), text: TEXT, outcome, failed_at: &[] }, evidence, config)
        .unwrap()
}

fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!((actual - expected).abs() < 1e-6, "token {index}: {actual} is not {expected}");
    }
}

#[test]
fn a_failure_can_stand_where_the_answer_departs() {
    let failed = Outcome { functional: Some(false), ..Outcome::unjudged() };
    let config = RewardConfig { failure_placement: FailurePlacement::Departures, ..RewardConfig::default() };
    let pay = |failed_at: &[Span], config: &RewardConfig| {
        let answer = Answer { tokens: &tokens(), text: TEXT, outcome: failed, failed_at };
        token_rewards(&answer, &[item(4, 6, Sign::Negative, 1.0)], config).unwrap()
    };
    // ρ = 1.5 in three shares: bytes 1..2 touch token 0, bytes 10..13 tokens 5 and 6.
    let spans = [Span::new(1, 2), Span::new(10, 13)];
    let placed = pay(&spans, &config);
    assert_close(&placed.rewards, &[-0.5, 0.0, -1.0, 0.0, 0.0, -0.5, -0.5, 0.0, 0.0, 0.0]);
    assert!(
        placed.reasons[5][0].contains("a functional test fails, and no version"),
        "{:?}",
        placed.reasons[5]
    );
    let at_the_end = [0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.5];
    assert_close(&pay(&[], &config).rewards, &at_the_end);
    assert_close(&pay(&spans, &RewardConfig::default()).rewards, &at_the_end);
    let last = RewardConfig { placement: Placement::Last, ..config };
    assert_close(&pay(&spans, &last).rewards, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.5]);
    assert_eq!(
        [placed.total, pay(&spans, &last).total],
        [-2.5; 2],
        "the total is the same wherever it stands"
    );
}

#[test]
fn per_span_shares_a_weight_among_its_tokens() {
    // α = 2, w = 0.5, four tokens (bytes 4..12 are tokens 2 to 5): 2 · 0.5 / 4 = 0.25 each.
    let config = RewardConfig { positive: 2.0, ..RewardConfig::default() };
    let scored = reward(working(), &[item(4, 12, Sign::Positive, 0.5)], &config);
    assert_close(&scored.rewards, &[0.0, 0.0, 0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(scored.total, 1.0);
    assert_eq!(scored.reasons[2], ["+0.25 secure pattern: why"]);
    assert!(!scored.failed);
}

#[test]
fn per_token_pays_every_token_in_full() {
    // β = 0.3, w = 1, tokens 0 and 1, ρ = 1.5: −0.3 each, −0.6 together, below the cap of 1.35.
    let config =
        RewardConfig { negative: 0.3, normalisation: Normalisation::PerToken, ..RewardConfig::default() };
    let scored = reward(working(), &[item(0, 4, Sign::Negative, 1.0)], &config);
    assert_close(&scored.rewards, &[-0.3, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert!((scored.total + 0.6).abs() < 1e-6);
}

#[test]
fn a_token_that_is_cut_by_a_span_counts_as_in_it() {
    // Bytes 3..5 touch tokens 1 (bytes 2..4) and 2 (bytes 4..6).
    let scored = reward(working(), &[item(3, 5, Sign::Negative, 1.0)], &RewardConfig::default());
    assert_close(&scored.rewards[..4], &[0.0, -0.5, -0.5, 0.0]);
}

#[test]
fn the_last_token_carries_the_instance_and_the_failure() {
    // R = 0.25, ρ = 1.5, f = 1; the negative span is not gated: −1 / 2 on tokens 0 and 1.
    let outcome = Outcome { functional: Some(false), instance: 0.25, ..Outcome::unjudged() };
    let evidence = [item(0, 4, Sign::Negative, 1.0), item(8, 10, Sign::Positive, 1.0)];
    let scored = reward(outcome, &evidence, &RewardConfig::default());
    assert_close(&scored.rewards, &[-0.5, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.25]);
    assert_eq!(scored.total, -2.25);
    assert!(scored.failed);
    assert_eq!(scored.reasons[4], ["+0.00 secure pattern: why, not paid: the answer fails"]);
    assert_eq!(
        scored.reasons[9],
        ["+0.25 instance-level reward of the whole answer", "-1.50 failed answer: a functional test fails"]
    );
}

#[test]
fn every_failure_costs_in_every_placement() {
    let base = Outcome::unjudged();
    for outcome in [
        Outcome { empty: true, ..base },
        Outcome { truncated: true, ..base },
        Outcome { parses: false, ..base },
        Outcome { functional: Some(false), ..base },
        Outcome { intent_kept: Some(false), ..base },
    ] {
        for placement in [Placement::Token, Placement::Last] {
            let config = RewardConfig { placement, ..RewardConfig::default() };
            let scored = reward(outcome, &[item(0, 4, Sign::Positive, 1.0)], &config);
            assert_eq!((scored.total, scored.failed), (-1.5, true), "{outcome:?} {placement:?}");
        }
    }
    let unknown = reward(base, &[], &RewardConfig::default());
    assert_eq!((unknown.total, unknown.failed), (0.0, false), "what is not known is no failure");
}

#[test]
fn negative_spans_together_stay_below_a_failure() {
    // Three spans of weight 1 would cost 3; the cap is 0.9 · 1.5 = 1.35, so each span of one token costs 0.45.
    let evidence = [0, 6, 12].map(|start| item(start, start + 2, Sign::Negative, 1.0));
    let scored = reward(working(), &evidence, &RewardConfig::default());
    assert!((scored.total + 1.35).abs() < 1e-6);
    assert!((scored.rewards[0] + 0.45).abs() < 1e-6);
    assert_eq!(
        scored.reasons[0],
        ["-0.45 vulnerable pattern: why, capped below the cost of a failed answer"]
    );
    let uncapped = reward(working(), &evidence, &RewardConfig { failure: 0.0, ..RewardConfig::default() });
    assert_eq!(uncapped.total, -3.0);
}

#[test]
fn a_contested_token_is_paid_one_way() {
    // Token 2 (bytes 4..6) is in both: the positive span keeps token 1 alone.
    let evidence = [item(2, 5, Sign::Positive, 1.0), item(5, 8, Sign::Negative, 1.0)];
    let scored = reward(working(), &evidence, &RewardConfig::default());
    assert_close(&scored.rewards[..5], &[0.0, 1.0, -0.5, -0.5, 0.0]);
    let swallowed = [item(4, 6, Sign::Positive, 1.0), item(4, 6, Sign::Negative, 1.0)];
    let scored = reward(working(), &swallowed, &RewardConfig::default());
    assert_eq!(scored.total, -1.0);
    assert!(scored.reasons[9][0].ends_with("not paid: its tokens are part of vulnerable code"));
}

#[test]
fn origins_can_be_switched_off() {
    let finding = Evidence { origin: Origin::Finding, ..item(0, 2, Sign::Negative, 1.0) };
    let related = Evidence { origin: Origin::Related, ..item(4, 6, Sign::Positive, 1.0) };
    let config = RewardConfig { findings: false, related_patterns: false, ..RewardConfig::default() };
    let scored = reward(working(), &[finding, related], &config);
    assert_eq!((scored.total, scored.evidence.len()), (0.0, 0));
}

#[test]
fn impossible_input_is_an_error() {
    let config = RewardConfig::default();
    let tokens = tokens();
    let answer = Answer { tokens: &tokens, text: TEXT, outcome: working(), failed_at: &[] };
    for span in [Span::new(20, 22), Span::new(4, 4), Span::new(18, 21)] {
        let outside = Evidence { span, ..item(0, 1, Sign::Positive, 1.0) };
        let error = token_rewards(&answer, &[outside], &config).unwrap_err();
        assert!(matches!(error, RewardError::EvidenceWithoutToken { .. }), "{span:?}: {error}");
        assert!(error.hint().is_some());
    }
    // The text goes on, but no token covers it.
    let short = Answer { tokens: &tokens[..5], ..answer };
    assert!(token_rewards(&short, &[item(12, 14, Sign::Negative, 1.0)], &config).is_err());
    assert_eq!(token_rewards(&Answer { tokens: &[], ..answer }, &[], &config), Err(RewardError::NoTokens));
    let reversed = [(4, 2)];
    assert!(token_rewards(&Answer { tokens: &reversed, ..answer }, &[], &config).is_err());
    assert!(token_rewards(&answer, &[item(0, 2, Sign::Positive, f32::NAN)], &config).is_err());
    let outcome = Outcome { instance: f32::INFINITY, ..working() };
    assert!(token_rewards(&Answer { outcome, ..answer }, &[], &config).is_err());
    let setting = RewardConfig { negative: -1.0, ..config };
    assert!(matches!(
        token_rewards(&answer, &[], &setting),
        Err(RewardError::Setting { field: "negative", .. })
    ));
}

#[test]
fn share_counts_answers_with_any_evidence() {
    let with = reward(working(), &[item(0, 2, Sign::Negative, 1.0)], &RewardConfig::default());
    let without = reward(working(), &[], &RewardConfig::default());
    assert_eq!(share_with_evidence(&[]), 0.0);
    assert_eq!(share_with_evidence(&[with.clone(), without.clone(), without, with]), 0.5);
}

#[test]
fn a_setting_that_does_not_exist_is_refused() {
    let config: RewardConfig =
        serde_json::from_str(r#"{"placement": "last", "normalisation": "per_token"}"#).unwrap();
    assert_eq!((config.placement, config.normalisation), (Placement::Last, Normalisation::PerToken));
    assert_eq!(config.failure, RewardConfig::default().failure);
    let error = serde_json::from_str::<RewardConfig>(r#"{"postive": 1.0}"#).unwrap_err();
    assert!(error.to_string().contains("postive"));
}

/// Cuts a text of `length` bytes into tokens at random places.
fn any_tokens(length: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::btree_set(1..length, 0..length).prop_map(move |cuts| {
        let mut starts: Vec<usize> = vec![0];
        starts.extend(cuts);
        let ends = starts.iter().skip(1).copied().chain([length]);
        starts.iter().copied().zip(ends).collect()
    })
}

fn any_evidence(length: usize) -> impl Strategy<Value = Vec<Evidence>> {
    let one = (0..length, 1..=length, any::<bool>(), 0.0f32..2.0).prop_map(
        move |(start, size, positive, weight)| {
            let sign = if positive { Sign::Positive } else { Sign::Negative };
            item(start, (start + size).min(length), sign, weight)
        },
    );
    proptest::collection::vec(one, 0..8)
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    (any::<bool>(), any::<bool>(), any::<Option<bool>>(), -1.0f32..1.0).prop_map(
        |(parses, truncated, functional, instance)| Outcome {
            parses,
            truncated,
            functional,
            instance,
            ..Outcome::unjudged()
        },
    )
}

fn any_config() -> impl Strategy<Value = RewardConfig> {
    (0.0f32..3.0, 0.0f32..3.0, 0.1f32..3.0, any::<bool>(), any::<bool>()).prop_map(
        |(positive, negative, failure, per_token, gate)| RewardConfig {
            positive,
            negative,
            failure,
            normalisation: if per_token { Normalisation::PerToken } else { Normalisation::PerSpan },
            gate,
            ..RewardConfig::default()
        },
    )
}

proptest! {
    /// One secure span in a working answer pays exactly α w, however it is cut into tokens.
    #[test]
    fn a_span_pays_its_weight(tokens in any_tokens(40), start in 0usize..40, size in 1usize..40, weight in 0.0f32..2.0) {
        let text = "x".repeat(40);
        let answer = Answer { tokens: &tokens, text: &text, outcome: working(), failed_at: &[] };
        let evidence = [item(start, (start + size).min(40), Sign::Positive, weight)];
        let scored = token_rewards(&answer, &evidence, &RewardConfig::default()).unwrap();
        let sum: f64 = scored.rewards.iter().map(|&reward| f64::from(reward)).sum();
        prop_assert!((sum - f64::from(weight)).abs() < 1e-4);
    }

    /// Placement moves rewards and changes nothing else.
    #[test]
    fn both_placements_have_one_total(
        tokens in any_tokens(40), evidence in any_evidence(40), outcome in any_outcome(), config in any_config(),
    ) {
        let text = "x".repeat(40);
        let answer = Answer { tokens: &tokens, text: &text, outcome, failed_at: &[] };
        let there = token_rewards(&answer, &evidence, &RewardConfig { placement: Placement::Token, ..config }).unwrap();
        let last = token_rewards(&answer, &evidence, &RewardConfig { placement: Placement::Last, ..config }).unwrap();
        prop_assert_eq!(there.total, last.total);
        for scored in [&there, &last] {
            let sum: f64 = scored.rewards.iter().map(|&reward| f64::from(reward)).sum();
            prop_assert!((sum - f64::from(scored.total)).abs() < 1e-3, "{sum} {}", scored.total);
        }
        let before_last = &last.rewards[..tokens.len() - 1];
        prop_assert!(before_last.iter().all(|&reward| reward == 0.0));
    }

    /// Code that does not parse earns nothing, whatever is found in it and whatever the settings.
    #[test]
    fn unparsable_code_earns_nothing(tokens in any_tokens(40), evidence in any_evidence(40), config in any_config()) {
        let text = "x".repeat(40);
        let outcome = Outcome { parses: false, ..Outcome::unjudged() };
        let scored = token_rewards(&Answer { tokens: &tokens, text: &text, outcome, failed_at: &[] }, &evidence, &config).unwrap();
        prop_assert!(scored.rewards.iter().all(|&reward| reward <= 0.0));
        prop_assert!(scored.total <= -config.failure);
    }

    /// A failed answer is always worse than the worst working one.
    #[test]
    fn garbage_never_pays(tokens in any_tokens(40), evidence in any_evidence(40), config in any_config()) {
        let text = "x".repeat(40);
        let config = RewardConfig { gate: true, ..config };
        let broken = Outcome { parses: false, ..Outcome::unjudged() };
        let flawed = token_rewards(&Answer { tokens: &tokens, text: &text, outcome: working(), failed_at: &[] }, &evidence, &config).unwrap();
        let garbage = token_rewards(&Answer { tokens: &tokens, text: &text, outcome: broken, failed_at: &[] }, &[], &config).unwrap();
        prop_assert!(garbage.total < flawed.total);
    }
}

/// Without evidence there is nothing to place: every arm pays the same.
#[test]
fn without_evidence_all_arms_are_one() {
    for outcome in [working(), Outcome { functional: Some(false), ..working() }] {
        let plain = reward(outcome, &[], &RewardConfig::default());
        for config in [
            RewardConfig { placement: Placement::Last, ..RewardConfig::default() },
            RewardConfig { positive: 0.0, ..RewardConfig::default() },
            RewardConfig { negative: 0.0, ..RewardConfig::default() },
            RewardConfig { normalisation: Normalisation::PerToken, ..RewardConfig::default() },
            RewardConfig { gate: false, ..RewardConfig::default() },
        ] {
            assert_eq!(reward(outcome, &[], &config).rewards, plain.rewards);
        }
        let tokens = tokens();
        for control in [crate::Control::RandomSpans, crate::Control::ShuffledSigns] {
            let mut scores = [crate::Score::Scored(plain.clone())];
            let text = " ".repeat(tokens.last().expect("tokens").1);
            let answers = [(tokens.as_slice(), text.as_str())];
            crate::apply_control(control, &answers, &mut scores, &RewardConfig::default(), 1);
            assert_eq!(scores, [crate::Score::Scored(plain.clone())]);
        }
    }
}
