//! Test sources in the judge's form out of those of public suites.

use std::collections::BTreeSet;

/// A Python literal of `text`: JSON's string form is one.
pub(super) fn literal(text: &str) -> String {
    // A text can always be written as a JSON string.
    serde_json::Value::from(text).to_string()
}

/// Byte at which the definition begins that a prompt asks to complete: that of `name`, or the last one, with its
/// decorators; 0 if there is none.
pub(super) fn head(prompt: &str, name: Option<&str>) -> usize {
    let mut start = 0;
    let (mut found, mut decorators) = (0, None);
    for line in prompt.split_inclusive('\n') {
        let definition = ["def ", "async def ", "class "].iter().find_map(|word| line.strip_prefix(word));
        match definition {
            Some(rest) if name.is_none_or(|name| defined_name(rest) == name) => {
                found = decorators.unwrap_or(start);
            }
            _ => {}
        }
        // Only decorators directly above belong to a definition.
        decorators = line.starts_with('@').then(|| decorators.unwrap_or(start));
        start += line.len();
    }
    found
}

/// Names of the functions that a text defines at its margin, in order.
pub(super) fn functions(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("def ").map(defined_name)).collect()
}

fn defined_name(rest: &str) -> &str {
    let rest = rest.trim_start();
    let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
    &rest[..end.unwrap_or(rest.len())]
}

/// The import statements at the margin of a text that stand on one line.
pub(super) fn imports(text: &str) -> String {
    text.lines()
        .filter(|line| line.starts_with("import ") || line.starts_with("from "))
        .filter(|line| !line.ends_with(['(', '\\']) && !line.contains("__future__"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Tests in HumanEval's form: `check(candidate)` is called with the function asked for. `context` is what the prompt
/// has in front of it; tests call its helpers.
pub(super) fn check(context: &str, tests: &str, entry_point: &str) -> String {
    // Some tests compare with calls of the function by its own name.
    format!(
        "{context}\n{tests}\n\ndef test_check(answer):\n    global {entry_point}\n    \
         {entry_point} = answer.{entry_point}\n    check({entry_point})\n"
    )
}

/// Tests in MBPP's form: statements that find the answer's names in their scope. They run as one test.
pub(super) fn script(imports: &str, tests: &str, entry_point: &str) -> String {
    let mut names: BTreeSet<&str> = identifiers(tests).collect();
    names.remove(entry_point);
    let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
    // The answer must have the function asked for. Of other names it may have some; those of Python itself stay
    // Python's, or an answer could bring an `all` of its own.
    format!(
        "import builtins as _builtins\n{imports}_TESTS = compile({}, \"<tests>\", \"exec\", 0, True)\n_NAMES = [{}]\n\n\n\
         def test_asserts(answer):\n    scope = {{\"__name__\": \"tests\", {}: answer.{entry_point}}}\n    \
         for name in _NAMES:\n        if hasattr(_builtins, name):\n            continue\n        \
         if name in globals():\n            scope[name] = globals()[name]\n            continue\n        \
         try:\n            scope[name] = getattr(answer, name)\n        except AttributeError:\n            pass\n    \
         exec(_TESTS, scope)\n",
        literal(tests),
        names.join(", "),
        literal(entry_point),
    )
}

/// Words of a text that could be names, of those that Python does not reserve.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    const RESERVED: [&str; 14] = [
        "assert", "and", "or", "not", "in", "is", "if", "else", "for", "lambda", "import", "from", "as",
        "def",
    ];
    text.split(|character: char| !character.is_alphanumeric() && character != '_')
        .filter(|word| word.starts_with(|first: char| first.is_alphabetic() || first == '_'))
        .filter(|word| !RESERVED.contains(word) && !word.starts_with("__"))
}

/// Whether a word is a name as Python takes it, so that it can be put into a source.
pub(super) fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_the_last_definition_with_its_decorators() {
        let prompt = "import a\n\n\ndef helper():\n    pass\n\n\n@one\n@two\ndef wanted(x):\n    '''d'''\n";
        assert_eq!(&prompt[head(prompt, None)..][..4], "@one");
        assert_eq!(&prompt[head(prompt, Some("helper"))..][..10], "def helper");
        assert_eq!(head("x = 1\n", None), 0);
        assert_eq!(functions(prompt), ["helper", "wanted"]);
    }

    #[test]
    fn only_whole_imports_are_taken() {
        let text =
            "import os\nfrom a import b\nfrom c import (\n    d\n)\nfrom __future__ import x\n  import no\n";
        assert_eq!(imports(text), "import os\nfrom a import b\n");
    }

    #[test]
    fn names_are_words_of_python() {
        assert!(is_name("_a1") && !is_name("1a") && !is_name("a.b") && !is_name("") && !is_name("a\nb"));
        let found: Vec<&str> = identifiers("assert f(1, x_1) == 2 and __import__").collect();
        assert_eq!(found, ["f", "x_1"]);
    }
}
