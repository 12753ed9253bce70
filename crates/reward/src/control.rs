//! Null and control experiments: the same rewards in wrong places, or with the wrong signs.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use vul2safe_code::Span;

use crate::{Answer, Evidence, RewardConfig, Score, Scored, Sign, token_rewards};

/// What is done to the evidence of an update before it is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Nothing.
    #[default]
    None,
    /// Every piece moves to a random place of its answer and keeps its number of tokens, its sign and its weight: the total
    /// stays, its place says nothing. That is a noisy instance-level reward, not a null.
    RandomSpans,
    /// The signs of all pieces of an update are dealt out anew among them: the places stay, the labels say nothing.
    ShuffledSigns,
}

/// Applies a control to the scores of one update, in their order; `tokens` and `texts` are the answers'. Scores that are not
/// there stay so; one that can no longer be computed becomes unscored, with the reason.
pub fn apply_control(
    control: Control,
    answers: &[(&[(usize, usize)], &str)],
    scores: &mut [Score],
    config: &RewardConfig,
    seed: u64,
) {
    if control == Control::None {
        return;
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut signs: Vec<Sign> =
        scored(scores).flat_map(|one| one.evidence.iter().map(|item| item.sign)).collect();
    signs.shuffle(&mut generator);
    let mut signs = signs.into_iter();
    for (score, (tokens, text)) in scores.iter_mut().zip(answers) {
        let Score::Scored(known) = score else { continue };
        let mut evidence = known.evidence.clone();
        match control {
            Control::None => {}
            Control::RandomSpans => move_spans(&mut evidence, tokens, &mut generator),
            Control::ShuffledSigns => {
                evidence.iter_mut().zip(signs.by_ref()).for_each(|(item, sign)| item.sign = sign);
            }
        }
        let answer = Answer { tokens, text, outcome: known.outcome, failed_at: &known.failed_at };
        *score = match token_rewards(&answer, &evidence, config) {
            Ok(paid) => Score::Scored(Scored { cheats: known.cheats.clone(), ..paid }),
            Err(error) => Score::Unscored { why: error.to_string() },
        };
    }
}

fn scored(scores: &[Score]) -> impl Iterator<Item = &Scored> {
    scores.iter().filter_map(|score| match score {
        Score::Scored(scored) => Some(scored),
        Score::Unscored { .. } => None,
    })
}

/// Draws for each piece a run of as many tokens, apart from those drawn before where one is found in a few tries.
fn move_spans(evidence: &mut [Evidence], tokens: &[(usize, usize)], generator: &mut ChaCha8Rng) {
    const TRIES: usize = 32;
    let with_bytes: Vec<usize> =
        (0..tokens.len()).filter(|&token| tokens[token].0 < tokens[token].1).collect();
    let mut taken: Vec<Span> = Vec::new();
    for item in evidence {
        let overlaps =
            |&&token: &&usize| tokens[token].0 < item.span.end && tokens[token].1 > item.span.start;
        let count = with_bytes.iter().filter(overlaps).count().max(1);
        let Some(last_start) = with_bytes.len().checked_sub(count) else { continue };
        let mut draw = || {
            let start = generator.random_range(0..=last_start);
            let (first, last) = (with_bytes[start], with_bytes[start + count - 1]);
            Span::new(tokens[first].0, tokens[last].1)
        };
        let mut span = draw();
        for _ in 0..TRIES {
            if taken.iter().all(|other| !other.overlaps(span)) {
                break;
            }
            span = draw();
        }
        item.span = span;
        taken.push(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, Outcome};

    fn scores(tokens: &[(usize, usize)], text: &str) -> Vec<Score> {
        let item = |start, end, sign| Evidence {
            span: Span::new(start, end),
            sign,
            weight: 1.0,
            origin: Origin::Record,
            pattern: 0,
            reason: "it is so".to_owned(),
        };
        (0..20)
            .map(|_| {
                let evidence = [item(0, 4, Sign::Positive), item(8, 10, Sign::Negative)];
                let answer = Answer { tokens, text, outcome: Outcome::unjudged(), failed_at: &[] };
                Score::Scored(token_rewards(&answer, &evidence, &RewardConfig::default()).unwrap())
            })
            .collect()
    }

    #[test]
    fn random_spans_keep_totals_and_signs_and_lose_their_place() {
        let text = "x".repeat(40);
        let tokens: Vec<(usize, usize)> = (0..20).map(|i| (2 * i, 2 * i + 2)).chain([(40, 40)]).collect();
        let before = scores(&tokens, &text);
        let mut after = before.clone();
        let answers = vec![(tokens.as_slice(), text.as_str()); before.len()];
        apply_control(Control::RandomSpans, &answers, &mut after, &RewardConfig::default(), 7);
        let mut moved = 0;
        for (before, after) in scored(&before).zip(scored(&after)) {
            assert!((before.total - after.total).abs() < 1e-5);
            assert_eq!(after.rewards.iter().filter(|r| **r > 0.0).count(), 2);
            assert_eq!(after.rewards.iter().filter(|r| **r < 0.0).count(), 1);
            moved += usize::from(before.rewards != after.rewards);
        }
        assert!(moved >= 18, "{moved}");
    }

    #[test]
    fn shuffled_signs_keep_places_and_how_many_of_each_there_are() {
        let text = "x".repeat(40);
        let tokens: Vec<(usize, usize)> = (0..20).map(|i| (2 * i, 2 * i + 2)).chain([(40, 40)]).collect();
        let before = scores(&tokens, &text);
        let mut after = before.clone();
        let answers = vec![(tokens.as_slice(), text.as_str()); before.len()];
        apply_control(Control::ShuffledSigns, &answers, &mut after, &RewardConfig::default(), 7);
        let positives = |scores: &[Score]| {
            scored(scores).flat_map(|one| &one.evidence).filter(|item| item.sign == Sign::Positive).count()
        };
        assert_eq!(positives(&before), positives(&after));
        assert!(scored(&before).zip(scored(&after)).any(|(before, after)| before.total != after.total));
        for (before, after) in scored(&before).zip(scored(&after)) {
            let places = |scored: &Scored| scored.evidence.iter().map(|item| item.span).collect::<Vec<_>>();
            assert_eq!(places(before), places(after));
        }
        let mut same = before.clone();
        apply_control(Control::None, &answers, &mut same, &RewardConfig::default(), 7);
        assert_eq!(same, before);
    }
}
