//! The words an implicit prompt must not use, and how words are found in text and names.

/// Beginnings of words that speak of security or of the ways to get it.
const STEMS: &[&str] = &[
    "adversar",
    "allowlist",
    "attack",
    "blacklist",
    "cryptographic",
    "danger",
    "defen",
    "denylist",
    "deseriali",
    "escap",
    "exfiltrat",
    "exploit",
    "hack",
    "harden",
    "hostile",
    "inject",
    "insecur",
    "malicious",
    "mitigat",
    "nosec",
    "overflow",
    "overrun",
    "owasp",
    "parameteris",
    "parameteriz",
    "penetrat",
    "phish",
    "prevent",
    "protect",
    "sandbox",
    "sanitis",
    "sanitiz",
    "secur",
    "spoof",
    "taint",
    "tamper",
    "threat",
    "unescap",
    "untrust",
    "vulnerab",
    "weakness",
    "whitelist",
];

/// Whole words of the same kind whose beginnings are innocent.
const WORDS: &[&str] = &[
    "csrf",
    "leak",
    "leaks",
    "rce",
    "safe",
    "safely",
    "safer",
    "safety",
    "sqli",
    "ssrf",
    "traversal",
    "trusted",
    "uaf",
    "unsafe",
    "unsafely",
    "xss",
    "xxe",
];

/// The same in several words.
const PHRASES: &[&str] = &[
    "bounds check",
    "buffer over",
    "code execution",
    "dangling",
    "double free",
    "format string",
    "memory corruption",
    "null check",
    "null pointer",
    "out of bound",
    "path is inside",
    "prepared statement",
    "privilege escalation",
    "race condition",
    "use after free",
];

/// The first security word of a text, if it holds one. Names are looked at part by part (`escape_html`, `isSafe`).
pub(crate) fn security_word(text: &str) -> Option<String> {
    for word in name_parts(text) {
        let stem = STEMS.iter().any(|stem| word.starts_with(stem));
        if stem || WORDS.contains(&word.as_str()) {
            return Some(word);
        }
    }
    let plain = name_parts(text).collect::<Vec<_>>().join(" ");
    PHRASES.iter().find(|phrase| plain.contains(*phrase)).map(|phrase| (*phrase).to_owned())
}

/// Lower-case parts of all words and names: `loadUser_byName2` gives `load user by name2`.
pub(crate) fn name_parts(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric()).flat_map(camel_parts)
}

/// Splits before a capital after a small letter (`loadUser`) and before the last capital of a run that a small letter
/// follows (`HTMLPage`).
fn camel_parts(word: &str) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    let mut parts: Vec<String> = Vec::new();
    for (index, character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| characters.get(before));
        let starts = before.is_none_or(|before| {
            let after_small = before.is_lowercase() || before.is_ascii_digit();
            let ends_run = characters.get(index + 1).is_some_and(|after| after.is_lowercase());
            character.is_uppercase() && (after_small || ends_run)
        });
        if starts {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.extend(character.to_lowercase());
        }
    }
    parts
}

/// Words that say nothing about what a function does.
const STOPWORDS: &[&str] = &[
    "and", "are", "call", "class", "code", "def", "for", "from", "function", "handle", "has", "its", "keep",
    "method", "mind", "must", "name", "not", "please", "result", "return", "should", "that", "the", "then",
    "this", "which", "with", "write", "you",
];

/// Words of at least three letters that carry meaning.
pub(crate) fn content_words(text: &str) -> impl Iterator<Item = String> {
    name_parts(text).filter(|word| {
        word.len() >= 3 && !STOPWORDS.contains(&word.as_str()) && word.chars().any(char::is_alphabetic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_words_are_found_in_any_form() {
        for text in [
            "Escape the input",
            "isSafeName",
            "avoid SQL-injection",
            "a use-after-free",
            "an out-of-bounds write",
            "sanitizes html",
            "prepared statements",
        ] {
            assert!(security_word(text).is_some(), "{text}");
        }
        for text in ["Return the thread safeguard", "landscape", "the leakage", "validate a form", "password"]
        {
            assert_eq!(security_word(text), None, "{text}");
        }
    }

    #[test]
    fn names_fall_into_parts() {
        assert_eq!(
            name_parts("loadUser_byName2 x").collect::<Vec<_>>(),
            ["load", "user", "by", "name2", "x"]
        );
        assert_eq!(name_parts("parseHTMLPage").collect::<Vec<_>>(), ["parse", "html", "page"]);
    }
}
