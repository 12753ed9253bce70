//! Answers with their token rewards, grouped by task.

use serde::Serialize;
use vul2safe_run::{Sample, SampleToken};

use crate::format::reward;

/// From which reward on a token has which strength of colour. Fixed, so that two reports can be compared by eye.
pub(crate) const STRENGTHS: [f32; 4] = [0.0, 0.05, 0.2, 0.5];

/// The colours' legend, from the strongest penalty to the strongest reward: class and label.
pub(crate) fn legend() -> Vec<(String, String)> {
    let label = |level: usize, sign: &str, bound: &str| match STRENGTHS[level] {
        0.0 => format!("{sign} 0"),
        least => format!("{bound}{least}"),
    };
    let levels = 0..STRENGTHS.len();
    let penalties = levels.clone().rev().map(|level| (format!("n{}", level + 1), label(level, "<", "≤ −")));
    let rewards = levels.map(|level| (format!("p{}", level + 1), label(level, ">", "≥ +")));
    penalties.chain([(String::new(), "0".to_owned())]).chain(rewards).collect()
}

/// One task and every answer to it.
#[derive(Debug, Serialize)]
pub(crate) struct Task {
    pub name: String,
    pub prompt: String,
    pub answers: Vec<Answer>,
}

/// One model's answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub arm: String,
    /// The samples file it comes from, without its extension.
    pub file: String,
    pub functional: Option<bool>,
    pub secure: Option<bool>,
    pub status: String,
    pub total: String,
    pub total_sign: &'static str,
    /// Words that the filter looks for.
    pub verdict: String,
    pub pieces: Vec<Piece>,
    pub has_tokens: bool,
}

/// A stretch of an answer that is shown in one way.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Piece {
    pub text: String,
    /// The style's class: `p1`–`p4` for a reward, `n1`–`n4` for a penalty, empty for neither.
    pub class: String,
    /// Reward and reasons, for the reader; empty for a token that has neither.
    pub reason: String,
    /// A token without text of its own, such as the one that ends an answer.
    pub empty: bool,
    /// Text that belongs to no token.
    pub loose: bool,
}

/// Groups samples by task, tasks and answers in the order in which they come; models in the order of `models`.
pub(crate) fn tasks(samples: Vec<(String, Sample)>, models: &[String]) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (file, sample) in samples {
        let place = *places.entry((sample.task.clone(), sample.prompt.clone())).or_insert_with(|| {
            tasks.push(Task {
                name: sample.task.clone(),
                prompt: sample.prompt.clone(),
                answers: Vec::new(),
            });
            tasks.len() - 1
        });
        tasks[place].answers.push(answer(file, &sample));
    }
    let rank = |arm: &str| models.iter().position(|model| model == arm).unwrap_or(models.len());
    for task in &mut tasks {
        // Stable: answers of one model stay in their order.
        task.answers.sort_by_key(|answer| rank(&answer.arm));
    }
    tasks
}

fn answer(file: String, sample: &Sample) -> Answer {
    let verdict = match (sample.functional, sample.secure) {
        (Some(true), Some(true)) => "both functional secure",
        (Some(true), Some(false)) => "functional insecure",
        (Some(true), None) => "functional",
        (Some(false), Some(true)) => "broken secure",
        (Some(false), Some(false)) => "broken insecure",
        (Some(false), None) => "broken",
        (None, Some(true)) => "secure untested",
        (None, Some(false)) => "insecure untested",
        (None, None) => "untested",
    };
    Answer {
        arm: sample.arm.clone(),
        file,
        functional: sample.functional,
        secure: sample.secure,
        status: sample.status.clone(),
        total: reward(sample.total_reward),
        total_sign: sign(sample.total_reward),
        verdict: verdict.to_owned(),
        pieces: pieces(&sample.answer, &sample.tokens),
        has_tokens: !sample.tokens.is_empty(),
    }
}

/// The answer's text in pieces that, put together, are the whole answer.
///
/// A byte-level token can begin or end inside a character. The character then belongs to the token with its first
/// byte, and a token that has only later bytes of one is shown as an empty one, so that no reward is lost.
pub(crate) fn pieces(answer: &str, tokens: &[SampleToken]) -> Vec<Piece> {
    let boundary = |byte: usize| (byte.min(answer.len())..).find(|byte| answer.is_char_boundary(*byte));
    let mut pieces = Vec::with_capacity(tokens.len() + 1);
    let mut reached = 0;
    for token in tokens {
        // `answer.len()` is a boundary, so there always is one; spans are in order, so `max` only guards.
        let start = boundary(token.start).unwrap_or(answer.len()).max(reached);
        let end = boundary(token.end).unwrap_or(answer.len()).max(start);
        if reached < start {
            pieces.push(loose(&answer[reached..start]));
        }
        pieces.push(Piece {
            text: answer[start..end].to_owned(),
            class: class(token.reward),
            reason: reason(token),
            empty: start == end,
            loose: false,
        });
        reached = end;
    }
    if reached < answer.len() {
        pieces.push(loose(&answer[reached..]));
    }
    pieces
}

fn loose(text: &str) -> Piece {
    Piece { text: text.to_owned(), class: String::new(), reason: String::new(), empty: false, loose: true }
}

fn class(reward: f32) -> String {
    let strength = STRENGTHS.iter().filter(|least| reward.abs() >= **least).count();
    match sign(f64::from(reward)) {
        "positive" => format!("p{strength}"),
        "negative" => format!("n{strength}"),
        _ => String::new(),
    }
}

fn sign(value: f64) -> &'static str {
    if value > 0.0 {
        "positive"
    } else if value < 0.0 {
        "negative"
    } else {
        "zero"
    }
}

fn reason(token: &SampleToken) -> String {
    if token.reasons.is_empty() && token.reward == 0.0 {
        return String::new();
    }
    let mut text = format!("reward {}", reward(f64::from(token.reward)));
    for reason in &token.reasons {
        text.push('\n');
        text.push_str(reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(start: usize, end: usize, reward: f32, reasons: &[&str]) -> SampleToken {
        SampleToken { id: 0, start, end, reward, reasons: reasons.iter().map(|&r| r.to_owned()).collect() }
    }

    fn texts(pieces: &[Piece]) -> Vec<&str> {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn every_token_has_its_piece_and_the_pieces_are_the_answer() {
        let answer = "\n  x = 1\n";
        let tokens = [
            token(0, 3, 0.0, &[]),
            token(3, 4, 0.6, &["bound parameter"]),
            token(4, 9, -0.1, &[]),
            token(9, 9, -1.0, &["fails a test"]),
        ];
        let pieces = pieces(answer, &tokens);
        assert_eq!(texts(&pieces).concat(), answer);
        assert_eq!(pieces.iter().map(|p| p.class.as_str()).collect::<Vec<_>>(), ["", "p4", "n2", "n4"]);
        assert_eq!(pieces[0].reason, "");
        assert_eq!(pieces[1].reason, "reward +0.600\nbound parameter");
        assert!(pieces[3].empty, "the reward of the token that ends the answer is shown");
    }

    #[test]
    fn a_token_inside_a_character_keeps_its_reward() {
        // `é` is the bytes 1 and 2; the second token begins inside it.
        let pieces =
            pieces("aé=", &[token(0, 2, 0.1, &[]), token(2, 3, -0.1, &["half"]), token(3, 4, 0.0, &[])]);
        assert_eq!(texts(&pieces), ["aé", "", "="]);
        assert!(pieces[1].empty && pieces[1].reason.contains("half"));
    }

    #[test]
    fn text_without_tokens_is_shown() {
        let pieces = pieces("abcd", &[token(1, 2, 0.0, &[])]);
        assert_eq!(texts(&pieces), ["a", "b", "cd"]);
        assert_eq!(pieces.iter().map(|p| p.loose).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(texts(&super::pieces("abc", &[])), ["abc"]);
        assert!(super::pieces("", &[]).is_empty());
    }

    #[test]
    fn an_unscored_answer_is_not_shown_as_zero() {
        let piece = &pieces("a", &[token(0, 1, f32::NAN, &[])])[0];
        assert_eq!((piece.class.as_str(), piece.reason.as_str()), ("", "reward unscored"));
    }

    #[test]
    fn the_legend_names_the_thresholds() {
        let labels: Vec<String> =
            legend().into_iter().map(|entry| format!("{} {}", entry.0, entry.1)).collect();
        assert_eq!(
            labels.join(", "),
            "n4 ≤ −0.5, n3 ≤ −0.2, n2 ≤ −0.05, n1 < 0,  0, p1 > 0, p2 ≥ +0.05, p3 ≥ +0.2, p4 ≥ +0.5"
        );
    }

    #[test]
    fn strengths_follow_the_thresholds() {
        for (reward, expected) in
            [(0.01, "p1"), (0.05, "p2"), (0.2, "p3"), (0.5, "p4"), (-3.0, "n4"), (0.0, "")]
        {
            assert_eq!(class(reward), expected, "{reward}");
        }
    }
}
