//! Taking the code out of a model's answer.

use std::collections::HashSet;

use vul2safe_code::{Language, Parsed, parse};

/// The code of an answer, without the fences and the prose around it.
///
/// * A text that already is code comes back as it is.
/// * Of fenced blocks (``` or ~~~; the last one may be unclosed) those marked with the language count, or all if none
///   is marked so. Several blocks that define different functions belong together and are joined; otherwise the
///   longest one that parses is taken, or the longest if none does.
/// * Without fences, leading and trailing paragraphs are dropped if the rest then parses. Imports alone are no rest: with the
///   functions gone, broken code would look like code without them.
/// * Anything else comes back as it is.
///
/// Never panics, and taking the code out of code changes nothing.
///
/// ```
/// use vul2safe_code::Language;
/// let answer = "Sure! Here it is:\n```python\ndef f(x):\n    return x\n```\nHope this helps.";
/// assert_eq!(vul2safe_judge::extract_code(answer, Language::Python), "def f(x):\n    return x\n");
/// ```
pub fn extract_code(answer: &str, language: Language) -> String {
    let mut current = answer.to_string();
    // Every step that changes something shortens the text, so this ends. It is what makes the function idempotent.
    while let Some(shorter) = extract_once(&current, language) {
        if shorter.len() >= current.len() {
            break;
        }
        current = shorter;
    }
    current
}

/// One step; `None` if the text is to stay as it is.
fn extract_once(text: &str, language: Language) -> Option<String> {
    let blocks = fenced_blocks(text);
    let starts_with_fence =
        text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| fence(line).is_some());
    if !starts_with_fence
        && clean(text, language).is_some_and(|parsed| blocks.is_empty() || defines_anything(&parsed))
    {
        return None;
    }
    if blocks.is_empty() { without_prose(text, language) } else { Some(choose(blocks, language)) }
}

pub(crate) struct Block {
    /// First word after the opening fence, in lower case.
    mark: String,
    pub(crate) code: String,
}

/// The fence a line consists of: its character, how many, and what follows.
fn fence(line: &str) -> Option<(char, usize, &str)> {
    let line = line.trim();
    let character = line.chars().next().filter(|character| matches!(character, '`' | '~'))?;
    let rest = line.trim_start_matches(character);
    let count = line.len() - rest.len();
    // A line such as ```code``` is inline code, not a fence.
    (count >= 3 && !rest.contains(character)).then_some((character, count, rest.trim()))
}

pub(crate) fn fenced_blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(char, usize, Block)> = None;
    for line in text.split_inclusive('\n') {
        match (fence(line), &mut open) {
            (Some((character, count, mark)), None) => {
                let mark = mark.split_whitespace().next().unwrap_or_default().to_lowercase();
                open = Some((character, count, Block { mark, code: String::new() }));
            }
            (Some((character, count, "")), Some((opening, width, _)))
                if character == *opening && count >= *width =>
            {
                blocks.extend(open.take().map(|(_, _, block)| block));
            }
            (_, Some((_, _, block))) => block.code.push_str(line),
            (None, None) => {}
        }
    }
    blocks.extend(open.map(|(_, _, block)| block));
    blocks.retain(|block| !block.code.trim().is_empty());
    blocks
}

/// Whether a fence marked so holds this language.
fn marks(mark: &str, language: Language) -> bool {
    let mark = mark.trim_start_matches(['{', '.']).trim_end_matches('}');
    match language {
        Language::Python => matches!(mark, "python" | "python3" | "py" | "py3"),
        Language::C => matches!(mark, "c" | "h"),
        Language::Cpp => matches!(mark, "cpp" | "c++" | "cc" | "cxx" | "hpp"),
        Language::Java => mark == "java",
        Language::JavaScript => matches!(mark, "javascript" | "js" | "jsx" | "node" | "mjs"),
        Language::Go => matches!(mark, "go" | "golang"),
        Language::Php => mark == "php",
    }
}

fn choose(mut blocks: Vec<Block>, language: Language) -> String {
    if blocks.iter().any(|block| marks(&block.mark, language)) {
        blocks.retain(|block| marks(&block.mark, language));
    }
    let parsing: Vec<(&Block, Parsed)> =
        blocks.iter().filter_map(|block| Some((block, clean(&block.code, language)?))).collect();
    if parsing.len() > 1
        && let Some(joined) = joined(&parsing, language)
    {
        return joined;
    }
    let longest = |codes: &mut dyn Iterator<Item = &Block>| {
        codes.map(|block| &block.code).reduce(|a, b| if b.len() > a.len() { b } else { a }).cloned()
    };
    longest(&mut parsing.iter().map(|(block, _)| *block))
        .or_else(|| longest(&mut blocks.iter()))
        .unwrap_or_default()
}

/// The blocks that define functions, one after the other, if no name is defined twice (two versions of one function are
/// alternatives, not parts). Blocks that define nothing are examples of use.
fn joined(parsing: &[(&Block, Parsed)], language: Language) -> Option<String> {
    let mut names = HashSet::new();
    let mut text = String::new();
    let mut parts = 0;
    for (block, parsed) in parsing {
        if !defines_anything(parsed) {
            continue;
        }
        for function in parsed.functions().iter().filter(|function| !function.is_method) {
            if !names.insert(function.name.clone()) {
                return None;
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&block.code);
        parts += 1;
    }
    (parts > 1 && clean(&text, language).is_some()).then_some(text)
}

fn clean(text: &str, language: Language) -> Option<Parsed> {
    parse(language, text).ok().filter(Parsed::is_clean)
}

/// Whether there is code of this language in the text, alone or among prose.
pub(crate) fn holds_code(text: &str, language: Language) -> bool {
    clean(&extract_code(text, language), language).is_some_and(|parsed| defines_anything(&parsed))
}

/// Whether the text defines functions or brings in others; a sentence of prose can parse, but does neither.
fn defines_anything(parsed: &Parsed) -> bool {
    let root = parsed.root();
    !parsed.functions().is_empty()
        || (0..root.named_child_count()).any(|index| {
            root.named_child(index as _).is_some_and(|node| {
                matches!(
                    node.kind(),
                    "import_statement"
                        | "import_from_statement"
                        | "class_definition"
                        | "decorated_definition"
                        | "preproc_include"
                        | "struct_specifier"
                        | "import_declaration"
                        | "class_declaration"
                )
            })
        })
}

/// Drops whole leading lines and trailing paragraphs until the rest parses and defines something.
fn without_prose(text: &str, language: Language) -> Option<String> {
    /// Beginnings and ends to try; an answer with more false starts than these is not worth the time.
    const TRIES: usize = 12;
    let mut lines = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        lines.push((start, line));
        start += line.len();
    }
    let starts =
        lines.iter().filter(|(_, line)| begins_code(line, language)).map(|&(start, _)| start).take(TRIES);
    // Prose follows the code after an empty line, as a rule, or begins at the margin.
    let mut ends = vec![text.len()];
    for pair in lines.windows(2).rev() {
        let (start, line) = pair[1];
        let after_blank = pair[0].1.trim().is_empty();
        if (after_blank || line.starts_with(char::is_alphabetic)) && ends.len() < TRIES {
            ends.push(start);
        }
    }
    for start in starts {
        for &end in ends.iter().filter(|&&end| end > start) {
            let part = &text[start..end];
            let Some(parsed) = clean(part, language) else { continue };
            let is_rest = !parsed.functions().is_empty()
                || !text[end..].lines().any(|line| begins_definition(line, language));
            if defines_anything(&parsed) && is_rest {
                return Some(part.to_string());
            }
        }
    }
    None
}

/// Whether a line begins something that the answer is asked for, and no import, directive or comment (a heading, in prose).
fn begins_definition(line: &str, language: Language) -> bool {
    let others = ["#", "//", "/*", "import ", "from ", "using ", "package "];
    begins_code(line, language) && !others.iter().any(|other| line.starts_with(other))
}

fn begins_code(line: &str, language: Language) -> bool {
    let words: &[&str] = match language {
        Language::Python => &["def ", "async def ", "import ", "from ", "class ", "@", "#"],
        Language::C | Language::Cpp => &[
            "#",
            "static ",
            "void ",
            "int ",
            "char ",
            "unsigned ",
            "long ",
            "const ",
            "struct ",
            "size_t ",
            "bool ",
            "typedef ",
            "using ",
            "namespace ",
            "template",
            "class ",
            "std::",
            "extern ",
            "//",
            "/*",
        ],
        Language::Java => &[
            "import ",
            "package ",
            "public ",
            "private ",
            "protected ",
            "static ",
            "final ",
            "abstract ",
            "class ",
            "interface ",
            "enum ",
            "record ",
            "@",
            "//",
            "/*",
            "void ",
            "int ",
            "boolean ",
            "String ",
        ],
        Language::JavaScript => &[
            "import ",
            "export ",
            "const ",
            "let ",
            "var ",
            "function ",
            "async ",
            "class ",
            "module.",
            "exports.",
            "'use strict'",
            "\"use strict\"",
            "//",
            "/*",
        ],
        Language::Go => &["package ", "import ", "func ", "type ", "var ", "const ", "//", "/*"],
        Language::Php => &[
            "<?",
            "function ",
            "class ",
            "abstract ",
            "final ",
            "namespace ",
            "use ",
            "public ",
            "private ",
            "protected ",
            "static ",
            "$",
            "//",
            "/*",
            "#",
        ],
    };
    words.iter().any(|word| line.trim_start().starts_with(word))
}

#[cfg(test)]
mod tests;
