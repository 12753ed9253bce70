//! An answer becomes the program that is judged.

use vul2safe_code::{Language, Parsed, Span, parse};
use vul2safe_judge::extract_code;

use crate::item::{Completion, Form, Item};

/// A program, and which part of it the model wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The complete source.
    pub program: String,
    /// The bytes of it that come from the answer.
    pub answer: Span,
}

/// The program that `answer` makes of `item`.
///
/// * Where the answer is the whole program, it is what [`extract_code`] takes out of it.
/// * Where a piece of code is to be completed, the answer may be the continuation alone (a base model's), the whole
///   definition again or the whole text again (a chat model's), in fences and prose or without. A definition that is
///   repeated replaces the prompt's own, behind the prompt's imports and helpers. A continuation goes behind the prompt;
///   a body at the margin is indented, a line end that is missing is put in, and a text that runs on is cut at the
///   suite's stop sequences, each only where the program would not parse otherwise.
///
/// Never panics; an answer out of which no program can be made gives one that does not parse.
///
/// ```
/// use vul2safe_code::Language;
/// use vul2safe_evaluate::{Completion, Form, Item, assemble};
///
/// let prompt = "def one():\n".to_owned();
/// let form = Form::Completion(Completion { prompt, ..Completion::default() });
/// let item = Item { form, entry_point: Some("one".into()), ..Item::new("1", "doc", Language::Python) };
/// for answer in ["    return 1", "```python\nreturn 1\n```", "Sure:\n```python\ndef one():\n    return 1\n```"] {
///     assert_eq!(assemble(&item, answer).program.trim_end(), "def one():\n    return 1");
/// }
/// ```
pub fn assemble(item: &Item, answer: &str) -> Assembled {
    match &item.form {
        Form::Program => {
            let program = extract_code(answer, item.language);
            let span = Span::new(0, program.len());
            Assembled { program, answer: span }
        }
        Form::Completion(completion) => complete(item, completion, answer),
    }
}

/// The answer up to the first stop sequence, as a server that was given them would have ended it.
pub fn cut_at_stop<'a>(answer: &'a str, stop: &[String]) -> &'a str {
    let end = stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| answer.find(stop.as_str())).min();
    &answer[..end.unwrap_or(answer.len())]
}

fn complete(item: &Item, completion: &Completion, answer: &str) -> Assembled {
    let language = item.language;
    let fenced = answer.lines().any(|line| line.trim_start().starts_with("```"));
    let code =
        if fenced || !begins_indented(answer) { extract_code(answer, language) } else { answer.to_owned() };
    let name = item.entry_point.as_deref().or_else(|| definition_name(completion));
    if name.is_some_and(|name| defines(&code, language, name)) {
        return repeated(language, completion, &code);
    }
    // The prompt once more, word for word, and then its continuation.
    let prompt = completion.prompt.trim();
    let continuation = match code.trim_start().strip_prefix(prompt) {
        Some(rest) if !prompt.is_empty() => rest,
        _ => &code,
    };
    continued(language, completion, continuation)
}

/// The definition again: the prompt's context, where the answer does not have it, and the answer.
fn repeated(language: Language, completion: &Completion, code: &str) -> Assembled {
    let has_own_start = match language {
        // `from __future__` must stand first, and an answer that has it has the other imports as well.
        Language::Python => code.contains("from __future__"),
        // A second definition of a structure would not compile.
        Language::C | Language::Cpp => code.contains("#include"),
        Language::Java | Language::JavaScript | Language::Go => code.contains("import "),
        Language::Php => code.contains("<?php"),
    };
    let mut program = String::new();
    for context in [completion.before.as_str(), completion.prompt.get(..completion.head).unwrap_or_default()]
    {
        if !has_own_start && !code.contains(context.trim()) {
            push_line(&mut program, context);
        }
    }
    let start = program.len();
    program.push_str(code);
    let span = Span::new(start, program.len());
    push_line(&mut program, "");
    program.push_str(&completion.after);
    Assembled { program, answer: span }
}

/// The prompt and its continuation, in the first shape that parses; as it came if none does.
fn continued(language: Language, completion: &Completion, answer: &str) -> Assembled {
    let prompt = &completion.prompt;
    let line_end = if needs_line_end(prompt) && !answer.starts_with(['\n', '\r']) { "\n" } else { "" };
    let short = cut_at_stop(answer, &completion.stop);
    let mut shapes: Vec<String> = Vec::new();
    if language == Language::Python
        && !begins_indented(answer)
        && (prompt.ends_with('\n') || !line_end.is_empty())
    {
        let indent = inner_indent(prompt);
        shapes.push(format!("{line_end}{}", indented(answer, &indent)));
        shapes.push(format!("{line_end}{}", indented(short, &indent)));
    }
    for text in [answer, short] {
        shapes.push(format!("{line_end}{text}"));
        shapes.push(text.to_owned());
        shapes.push(format!("\n{text}"));
    }
    let assembled = |shape: &str, around: (&str, &str)| {
        let mut program = String::from(around.0);
        push_line(&mut program, &completion.before);
        program.push_str(prompt);
        let start = program.len();
        program.push_str(shape);
        let span = Span::new(start, program.len());
        if !around.1.is_empty() || !completion.after.is_empty() {
            push_line(&mut program, "");
        }
        program.push_str(around.1);
        program.push_str(&completion.after);
        Assembled { program, answer: span }
    };
    let parses = |assembled: &Assembled| clean(&assembled.program, language).is_some();
    let found = shapes.iter().map(|shape| assembled(shape, ("", ""))).find(parses);
    if let Some(found) = found {
        return found;
    }
    if completion.fragment {
        let whole = format!("{prompt}{answer}");
        for (before, after) in surroundings(language, &whole) {
            let found =
                shapes.iter().map(|shape| assembled(shape, (before.as_str(), after.as_str()))).find(parses);
            if let Some(found) = found {
                return found;
            }
        }
    }
    assembled(&format!("{line_end}{answer}"), ("", ""))
}

/// What may stand around a text that was cut out of the middle of a function.
fn surroundings(language: Language, text: &str) -> Vec<(String, String)> {
    match language {
        Language::Python => {
            vec![("if True:\n".to_owned(), String::new()), ("def f():\n".to_owned(), String::new())]
        }
        _ => {
            let open = text.matches('{').count();
            let closed = text.matches('}').count();
            let ends = "}".repeat(open.saturating_sub(closed));
            let begins = "{".repeat(closed.saturating_sub(open));
            let head = match language {
                Language::JavaScript | Language::Php => "function f() ",
                Language::Go => "func f() ",
                Language::Java => "void f() ",
                _ => "void f(void) ",
            };
            vec![
                (begins.clone(), ends.clone()),
                (format!("{head}{begins}"), ends.clone()),
                (format!("{head}{{{begins}"), format!("{ends}}}")),
            ]
        }
    }
}

fn clean(text: &str, language: Language) -> Option<Parsed> {
    parse(language, text).ok().filter(Parsed::is_clean)
}

/// Whether `code` defines a function or class of this name at its margin.
fn defines(code: &str, language: Language, name: &str) -> bool {
    let class = format!("class {name}");
    let at_margin = |line: &str| {
        line.strip_prefix(&class)
            .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
    };
    parse(language, code).is_ok_and(|parsed| {
        parsed.functions().iter().any(|function| function.name == name && !function.is_method)
    }) || code.lines().any(at_margin)
}

/// The name that the prompt's last definition gives: what stands before its first bracket.
fn definition_name(completion: &Completion) -> Option<&str> {
    let head = completion.prompt.get(completion.head..)?;
    let line = head.lines().find(|line| line.contains('(') || line.starts_with("class "))?;
    let before = line.split(['(', ':']).next()?.trim_end();
    let start = before.rfind(|character: char| !character.is_alphanumeric() && character != '_');
    let name =
        &before[start.map_or(0, |index| index + before[index..].chars().next().map_or(1, char::len_utf8))..];
    (!name.is_empty()).then_some(name)
}

fn begins_indented(text: &str) -> bool {
    text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with([' ', '\t']))
}

/// Whether code may not follow on the same line.
fn needs_line_end(prompt: &str) -> bool {
    let last = prompt.lines().next_back().unwrap_or_default().trim();
    !prompt.is_empty()
        && !prompt.ends_with('\n')
        && (last.starts_with('#')
            || last.contains("//")
            || [":", "\"\"\"", "'''", ";", "{", "}", "*/"].iter().any(|end| last.ends_with(end)))
}

/// The indentation of the first line inside the prompt's last definition; four blanks if there is none.
fn inner_indent(prompt: &str) -> String {
    let lines: Vec<&str> = prompt.lines().filter(|line| !line.trim().is_empty()).collect();
    let indent = |line: &str| line[..line.len() - line.trim_start().len()].to_owned();
    let last_definition = lines.iter().rposition(|line| {
        ["def ", "async def ", "class "].iter().any(|word| line.trim_start().starts_with(word))
    });
    let Some(definition) = last_definition else {
        return lines.last().map(|line| indent(line)).unwrap_or_default();
    };
    let own = indent(lines[definition]);
    lines[definition + 1..]
        .iter()
        .map(|line| indent(line))
        .find(|indent| indent.len() > own.len())
        .unwrap_or_else(|| format!("{own}    "))
}

fn indented(text: &str, indent: &str) -> String {
    let mut shifted = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        if !line.trim().is_empty() {
            shifted.push_str(indent);
        }
        shifted.push_str(line);
    }
    shifted
}

/// Appends `text` and makes `program` end with a line end, unless it is empty.
fn push_line(program: &mut String, text: &str) {
    program.push_str(text);
    if !program.is_empty() && !program.ends_with('\n') {
        program.push('\n');
    }
}

#[cfg(test)]
mod tests;
