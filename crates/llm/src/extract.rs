//! Finds JSON in what a model wrote around it.

use serde_json::Value;

/// Beginnings of objects that are tried at most; an answer full of braces that are no JSON costs no more than that.
const TRIES: usize = 64;

/// The JSON objects in an answer, the likeliest first: the whole text, then those in fenced blocks, then those
/// anywhere else, longest first. What stands between `<think>` and `</think>` is no part of the answer.
///
/// Each is returned as it is spelled in the text. An object inside another one is not returned by itself.
pub fn json_candidates(text: &str) -> Vec<&str> {
    let text = match text.rfind("</think>") {
        Some(end) => &text[end + "</think>".len()..],
        None => text,
    };
    let whole = text.trim();
    if is_object(whole) {
        return vec![whole];
    }
    let mut found: Vec<&str> = Vec::new();
    let blocks = whole.split("```").skip(1).step_by(2);
    for block in blocks {
        // The first line of a block may name its language.
        let code = block.strip_prefix("json").unwrap_or(block).trim();
        if is_object(code) && !found.contains(&code) {
            found.push(code);
        }
    }
    let mut elsewhere: Vec<&str> = Vec::new();
    let mut from = 0;
    for _ in 0..TRIES {
        let Some(start) = whole[from..].find('{').map(|offset| from + offset) else { break };
        let mut values = serde_json::Deserializer::from_str(&whole[start..]).into_iter::<Value>();
        from = match values.next() {
            Some(Ok(_)) => {
                let end = start + values.byte_offset();
                elsewhere.push(&whole[start..end]);
                end
            }
            _ => start + 1,
        };
    }
    elsewhere.sort_by_key(|candidate| std::cmp::Reverse(candidate.len()));
    for candidate in elsewhere {
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    found
}

fn is_object(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}') && serde_json::from_str::<Value>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_object_in_chatty_answers() {
        let object = r#"{"verdict":"sound","quotes":["a } b"]}"#;
        for text in [
            object.to_owned(),
            format!("\n {object}\n"),
            format!("Sure! Here it is:\n```json\n{object}\n```\nHope it helps {{ : }}"),
            format!("```\n{object}\n```"),
            format!("The set {{x}} is meant. {object} That is all."),
            format!("<think>maybe {{\"verdict\":\"broken\"}}</think>{object}"),
            format!("First {{}} I thought, then {object}"),
        ] {
            assert_eq!(json_candidates(&text).first().copied(), Some(object), "{text}");
        }
        for text in ["", "no JSON here", "{\"half\": \"a", "[1, 2]", "```json\n```", "{", "}{"] {
            assert!(json_candidates(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn an_answer_of_nothing_but_braces_is_given_up() {
        let braces = "{".repeat(200_000);
        assert!(json_candidates(&braces).is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            json_candidates(&text);
        }

        #[test]
        fn finds_what_was_put_in(before in "[^{}`<]{0,40}", after in "[^{}`<]{0,40}", value in ".{0,40}") {
            let object = serde_json::json!({ "value": value }).to_string();
            let text = format!("{before}{object}{after}");
            prop_assert_eq!(json_candidates(&text), vec![object.as_str()]);
        }
    }
}
