//! The prompts of all of SVEN's records, looked at by means of their own: no name of one side alone, no word of security, enough of them,
//! and of enough styles.

#[path = "support/sven.rs"]
mod sven;

use std::collections::{BTreeMap, HashSet};

use vul2safe_code::{Language, blank_comments, parse};
use vul2safe_repair::{Draft, OfflineTeacher, Proposal, RepairConfig, implicit_prompts};

/// Runs of letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Words of the languages, which are English as well (`if`, `for`, `return`).
const KEYWORDS: &[&str] = &[
    "and",
    "as",
    "assert",
    "async",
    "auto",
    "await",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "continue",
    "def",
    "default",
    "del",
    "delete",
    "do",
    "double",
    "elif",
    "else",
    "enum",
    "except",
    "extern",
    "false",
    "finally",
    "float",
    "for",
    "from",
    "global",
    "goto",
    "if",
    "import",
    "in",
    "inline",
    "int",
    "is",
    "lambda",
    "long",
    "new",
    "none",
    "nonlocal",
    "not",
    "null",
    "nullptr",
    "operator",
    "or",
    "pass",
    "print",
    "private",
    "protected",
    "public",
    "raise",
    "register",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "throw",
    "true",
    "try",
    "typedef",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
    "with",
    "yield",
];

/// The names in the code of a side (comments and strings aside), and all words of its text, in lower case.
fn side(language: Language, text: &str) -> (HashSet<String>, HashSet<String>) {
    let code = blank_comments(&parse(language, text).unwrap());
    let mut names = HashSet::new();
    let mut quote = None;
    let mut bare = String::new();
    let mut escaped = false;
    for character in code.chars() {
        match quote {
            Some(open) if character == open && !escaped => quote = None,
            Some(_) => {}
            None if character == '"' || character == '\'' => quote = Some(character),
            None => bare.push(character),
        }
        escaped = character == '\\' && !escaped;
        if quote.is_some() || character == '\'' || character == '"' {
            bare.push(' ');
        }
    }
    for word in words(&bare) {
        let lower = word.to_lowercase();
        let is_name = !word.starts_with(|c: char| c.is_ascii_digit()) && word.len() >= 3;
        if is_name && !KEYWORDS.contains(&lower.as_str()) {
            names.insert(lower);
        }
    }
    (names, words(text).map(str::to_lowercase).collect())
}

/// Words that speak of security, written down here without a look at the program's own list.
const LEXICON: &[&str] = &[
    "attack",
    "escape",
    "exploit",
    "hacker",
    "harden",
    "injection",
    "insecure",
    "malicious",
    "overflow",
    "safe",
    "safely",
    "sanitize",
    "sanitise",
    "secure",
    "securely",
    "security",
    "taint",
    "traversal",
    "unsafe",
    "untrusted",
    "vulnerability",
    "vulnerable",
    "xss",
    "csrf",
    "cwe",
    "cve",
    "ssrf",
    "sqli",
];

fn similarity(one: &HashSet<String>, other: &HashSet<String>) -> f64 {
    let both = one.intersection(other).count();
    both as f64 / (one.len() + other.len() - both).max(1) as f64
}

#[test]
fn prompts_of_every_record_of_sven() {
    let Some(records) = sven::sven() else { return };
    let config = RepairConfig { prompts_per_pair: 12, ..RepairConfig::default() };
    let (mut enough, mut all, mut leaks) = (0, 0, Vec::new());
    let mut short: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut alike, mut pairs) = (0.0, 0);
    let mut texts = HashSet::new();
    for record in &records {
        let secure = record.secure.clone().unwrap();
        let draft =
            Draft::new(record, &Proposal { secure: secure.clone(), by: "upstream".into() }, 1).unwrap();
        let (before_names, before_words) = side(record.language, &record.vulnerable);
        let (after_names, after_words) = side(record.language, &secure);
        let own: HashSet<String> = draft.described_names().map(str::to_lowercase).collect();
        let prompts = match implicit_prompts(&draft, &OfflineTeacher, &config).unwrap() {
            Ok(prompts) => prompts,
            Err(why) => {
                let why = why.split(':').take(2).collect::<Vec<_>>().join(":");
                let why: String = why.split('`').step_by(2).collect();
                short.entry(why).or_default().push(record.id.clone());
                continue;
            }
        };
        all += prompts.len();
        let styles: HashSet<&str> = prompts.iter().map(|prompt| prompt.style.as_str()).collect();
        if prompts.len() >= 6 && styles.len() >= 5 {
            enough += 1;
        } else {
            let why = format!("{} prompts, {} styles", prompts.len(), styles.len());
            short.entry(why).or_default().push(record.id.clone());
        }
        let mut bags: Vec<HashSet<String>> = Vec::new();
        for prompt in &prompts {
            let shown = format!("{}\n{}", prompt.text, prompt.prefix.as_deref().unwrap_or(""));
            for word in words(&shown).map(str::to_lowercase).filter(|word| !own.contains(word)) {
                let one_sided = (before_names.contains(&word) && !after_words.contains(&word))
                    || (after_names.contains(&word) && !before_words.contains(&word));
                if one_sided || LEXICON.contains(&word.as_str()) {
                    leaks.push(format!("{}: `{word}` in {shown}", record.id));
                }
            }
            bags.push(words(&prompt.text).map(str::to_lowercase).collect());
            texts.insert(shown);
        }
        for (index, one) in bags.iter().enumerate() {
            for other in &bags[..index] {
                alike += similarity(one, other);
                pairs += 1;
            }
        }
    }
    println!("{} records, {all} prompts, {} different ones", records.len(), texts.len());
    println!("{enough} records with at least 6 prompts of at least 5 styles");
    println!("mean similarity (Jaccard, words) of two prompts of a record: {:.2}", alike / f64::from(pairs));
    for (why, ids) in &short {
        println!(
            "{:>5} {why}, for instance {}",
            ids.len(),
            ids.iter().take(4).cloned().collect::<Vec<_>>().join(" ")
        );
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks[..leaks.len().min(10)].join("\n"));
    assert!(enough * 100 >= records.len() * 95, "{enough} of {}", records.len());
}
