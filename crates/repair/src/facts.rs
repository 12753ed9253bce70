//! What can be said of a function without a word on its flaw: its signature and its purpose.

use vul2safe_code::{Function, Language, LeafKind};

use crate::Draft;
use crate::leaks::asked_parameters;
use crate::vocabulary::{name_parts, security_word};

/// Everything the wordings are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `Python`, `C` or `C++`.
    pub(crate) language: &'static str,
    /// `function` or `method`.
    pub(crate) noun: &'static str,
    /// `find(db, name)`, without `self`; in C and C++ with the types, without which nobody can call it:
    /// `int copy(char *to, size_t size)`.
    pub(crate) signature: String,
    /// The head of the definition as it stands in the code, e.g. `def find(db, name):`.
    pub(crate) header: String,
    /// What it does, as a clause after "should": `return the row of a customer`.
    pub(crate) purpose: String,
    /// One more sentence for functions without a docstring, where there is something to say; every wording ends with
    /// it.
    pub(crate) detail: Option<String>,
    /// The start of the code up to the body, docstring included, where both sides share it.
    pub(crate) prefix: Option<String>,
    /// An assertion of the functional tests that stands on its own.
    pub(crate) example: Option<String>,
    /// Whether the code is Python (its docstring stands inside).
    pub(crate) python: bool,
}

impl Facts {
    /// The facts of a pair's function, or nothing where there is none.
    pub(crate) fn of(draft: &Draft) -> Option<Self> {
        let (before, after) = (draft.function_before.as_ref()?, draft.function_after.as_ref()?);
        if after.name.is_empty() {
            return None;
        }
        let (purpose, documented) = match documented_purpose(draft, before, after) {
            Some(purpose) => (purpose, true),
            None => (derived_purpose(draft, before, after), false),
        };
        Some(Self {
            language: match draft.record.language {
                Language::Python => "Python",
                Language::C => "C",
                Language::Cpp => "C++",
            },
            noun: if after.is_method { "method" } else { "function" },
            signature: signature(draft, before, after),
            header: after.signature.text(&draft.secure).unwrap_or_default().trim().to_owned(),
            purpose,
            detail: if documented { None } else { detail(draft, before, after) },
            prefix: common_prefix(draft, before),
            example: example(draft, &after.name),
            python: draft.record.language == Language::Python,
        })
    }
}

/// Longer heads do not fit into a sentence.
const LONGEST_SIGNATURE: usize = 160;

/// How a request names the function. Types are left out where the sides differ in them, as another type may be the whole
/// repair.
fn signature(draft: &Draft, before: &Function, after: &Function) -> String {
    let declared = |text: &str, function: &Function| -> Option<String> {
        let words = function.signature.text(text)?.split_whitespace();
        let asked = words.filter(|word| !matches!(*word, "static" | "inline" | "extern"));
        Some(asked.collect::<Vec<_>>().join(" "))
    };
    let typed = declared(&draft.secure, after).filter(|typed| {
        draft.record.language != Language::Python
            && !typed.is_empty()
            && typed.len() <= LONGEST_SIGNATURE
            && declared(&draft.record.vulnerable, before).as_ref() == Some(typed)
    });
    typed.unwrap_or_else(|| {
        format!("{}({})", after.name, asked_parameters(after).collect::<Vec<_>>().join(", "))
    })
}

/// Whether a prompt may say this.
fn speakable(draft: &Draft, text: &str) -> bool {
    security_word(text).is_none() && !crate::draft::split_words(text).any(|word| draft.is_one_sided(word))
}

/// At most this many characters of a docstring are quoted.
const LONGEST_PURPOSE: usize = 220;

/// The first sentence of the docstring that may be said.
fn documented_purpose(draft: &Draft, before: &Function, after: &Function) -> Option<String> {
    let docstring = before.docstring.as_deref().or(after.docstring.as_deref())?;
    summary(docstring)
        .split_inclusive(". ")
        .map(|sentence| sentence.trim_matches([' ', '.', '"', '\'']))
        .find(|sentence| {
            let words = sentence.split(' ').count();
            words >= 2 && sentence.chars().count() <= LONGEST_PURPOSE && speakable(draft, sentence)
        })
        .map(clause)
}

/// The first paragraph of a docstring on one line, without field lists and examples. A line without a full stop
/// before a line that starts with a capital letter is a sentence of its own.
fn summary(docstring: &str) -> String {
    let mut summary = String::new();
    for line in docstring.trim().lines().map(str::trim) {
        let is_field = line.starts_with([':', '@', '>', '-', '*'])
            || ["Args:", "Arguments:", "Parameters", "Returns:", "Raises:"]
                .iter()
                .any(|head| line.starts_with(head));
        if line.is_empty() || is_field {
            break;
        }
        if !summary.is_empty() {
            let ended = summary.ends_with(['.', ',', ';', ':', '-']);
            let capital = line.starts_with(|first: char| first.is_uppercase());
            summary.push_str(if !ended && capital { ". " } else { " " });
        }
        summary.push_str(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    summary
}

/// A sentence as a clause that can follow "should".
fn clause(sentence: &str) -> String {
    let (first, rest) = sentence.split_once(' ').unwrap_or((sentence, ""));
    let lower = first.to_lowercase();
    let imperative =
        if VERBS.contains(&lower.as_str()) { Some(lower) } else { third_person(&lower).map(str::to_owned) };
    match imperative {
        Some(verb) => format!("{verb} {rest}").trim_end().to_owned(),
        None => format!("take care of this: {sentence}"),
    }
}

/// `returns` → `return`, `does` → `do`; nothing for words that are not verbs known here.
fn third_person(word: &str) -> Option<&'static str> {
    let stem = |ending: &str| word.strip_suffix(ending);
    VERBS
        .iter()
        .find(|verb| {
            stem("s") == Some(verb)
                || stem("es") == Some(verb)
                || (verb.ends_with('y') && stem("ies") == verb.strip_suffix('y'))
        })
        .copied()
}

/// Verbs that functions and docstrings begin with.
const VERBS: &[&str] = &[
    "accept",
    "add",
    "allocate",
    "append",
    "apply",
    "archive",
    "ask",
    "assign",
    "attach",
    "backup",
    "begin",
    "bind",
    "build",
    "bump",
    "cache",
    "calculate",
    "call",
    "cancel",
    "change",
    "check",
    "choose",
    "clean",
    "clear",
    "clone",
    "close",
    "collect",
    "combine",
    "compare",
    "compile",
    "compute",
    "configure",
    "connect",
    "construct",
    "convert",
    "copy",
    "count",
    "create",
    "cut",
    "deal",
    "decode",
    "decrypt",
    "delete",
    "describe",
    "detect",
    "determine",
    "display",
    "do",
    "download",
    "draw",
    "drop",
    "dump",
    "edit",
    "emit",
    "encode",
    "encrypt",
    "ensure",
    "evaluate",
    "execute",
    "expand",
    "export",
    "extract",
    "fetch",
    "fill",
    "filter",
    "find",
    "finish",
    "flush",
    "force",
    "format",
    "forward",
    "free",
    "generate",
    "get",
    "give",
    "go",
    "grow",
    "handle",
    "hash",
    "hide",
    "import",
    "increase",
    "init",
    "initialise",
    "initialize",
    "insert",
    "inspect",
    "install",
    "invoke",
    "join",
    "keep",
    "kill",
    "launch",
    "limit",
    "link",
    "list",
    "load",
    "lock",
    "log",
    "look",
    "make",
    "map",
    "match",
    "measure",
    "merge",
    "move",
    "normalise",
    "normalize",
    "note",
    "notify",
    "open",
    "order",
    "output",
    "pack",
    "parse",
    "perform",
    "pick",
    "plot",
    "poll",
    "pop",
    "populate",
    "prepare",
    "print",
    "process",
    "produce",
    "provide",
    "publish",
    "pull",
    "push",
    "put",
    "query",
    "raise",
    "read",
    "rebuild",
    "receive",
    "record",
    "redirect",
    "refresh",
    "register",
    "release",
    "reload",
    "remove",
    "rename",
    "render",
    "replace",
    "report",
    "request",
    "reset",
    "resolve",
    "restart",
    "restore",
    "retrieve",
    "return",
    "rewrite",
    "round",
    "run",
    "save",
    "scan",
    "schedule",
    "search",
    "select",
    "send",
    "serialize",
    "serve",
    "set",
    "setup",
    "show",
    "sign",
    "skip",
    "sort",
    "split",
    "start",
    "stop",
    "store",
    "submit",
    "sum",
    "switch",
    "sync",
    "take",
    "tell",
    "test",
    "toggle",
    "transform",
    "translate",
    "trigger",
    "trim",
    "truncate",
    "turn",
    "unpack",
    "update",
    "upload",
    "use",
    "validate",
    "verify",
    "visit",
    "wait",
    "walk",
    "wrap",
    "write",
    "yield",
];

/// What a well-known call does, by the last part of its name.
const EFFECTS: &[(&[&str], &str)] = &[
    (&["execute", "executemany", "executescript", "raw"], "send a statement to the database"),
    (&["fetchone"], "take one row"),
    (&["fetchall", "fetchmany"], "take the rows"),
    (&["commit"], "commit"),
    (&["open", "fopen"], "open a file"),
    (&["read", "readlines", "readline", "fread", "recv", "recvfrom"], "read data"),
    (&["write", "writelines", "fwrite"], "write data"),
    (
        &["render", "render_template", "render_to_response", "render_to_string", "render_template_string"],
        "render a page",
    ),
    (&["redirect", "HttpResponseRedirect"], "send the client on"),
    (
        &[
            "system",
            "popen",
            "Popen",
            "check_output",
            "check_call",
            "getoutput",
            "exec_command",
            "run_command",
        ],
        "start a program",
    ),
    (&["urlopen", "urlretrieve"], "fetch an address"),
    (&["loads", "load", "parse", "fromstring", "safe_load"], "parse the data"),
    (&["dumps", "dump"], "turn the data into text"),
    (&["join"], "put the parts together"),
    (&["memcpy", "memmove", "strcpy", "strncpy", "strlcpy", "memset"], "copy bytes"),
    (
        &["malloc", "calloc", "kmalloc", "kzalloc", "realloc", "xmalloc", "g_malloc", "AcquireMagickMemory"],
        "allocate memory",
    ),
    (&["free", "kfree", "g_free", "RelinquishMagickMemory"], "release memory"),
    (&["printf", "fprintf", "print", "snprintf", "sprintf", "printk", "puts"], "print a message"),
    (&["listdir", "glob", "walk", "scandir"], "list a folder"),
    (&["remove", "unlink", "rmtree"], "remove files"),
    (&["mutex_lock", "spin_lock", "lock", "pthread_mutex_lock"], "take a lock"),
];

/// The purpose of a function that no docstring describes: its name as words, and what its calls do.
fn derived_purpose(draft: &Draft, before: &Function, after: &Function) -> String {
    let plain_name = after.name.rsplit("::").next().unwrap_or(&after.name);
    let words: Vec<String> = name_parts(plain_name).filter(|word| !draft.is_one_sided(word)).collect();
    let mut purpose = match words.first() {
        Some(first) if VERBS.contains(&first.as_str()) => words.join(" "),
        Some(_) => format!("handle {}", words.join(" ")),
        None => "do its work".to_owned(),
    };
    let effects = effects(draft, before, after);
    if !effects.is_empty() {
        purpose.push_str(", that is, ");
        purpose.push_str(&effects.join(" and "));
    }
    let gives = ["get", "return", "find", "fetch", "load", "read", "is", "has"];
    if after.returns_value && !words.first().is_some_and(|first| gives.contains(&first.as_str())) {
        let result = " and return the result";
        if speakable(draft, result) {
            purpose.push_str(result);
        }
    }
    purpose
}

/// What the calls that both sides make do, at most two things.
fn effects(draft: &Draft, before: &Function, after: &Function) -> Vec<&'static str> {
    let mut effects = Vec::new();
    for call in after.calls.iter().filter(|call| before.calls.contains(call)) {
        let last = call.rsplit(['.', '>', ':']).next().unwrap_or(call);
        let effect = EFFECTS.iter().find(|(names, _)| names.contains(&last)).map(|(_, effect)| *effect);
        if let Some(effect) = effect
            && !effects.contains(&effect)
            && speakable(draft, effect)
        {
            effects.push(effect);
        }
        if effects.len() == 2 {
            break;
        }
    }
    effects
}

/// A sentence on what both sides show: the tables their SQL names, a comment, a constant, or a call.
fn detail(draft: &Draft, before: &Function, after: &Function) -> Option<String> {
    let tables = common_tables(draft);
    let mut sentences = Vec::new();
    if let Some(table) = tables.first() {
        sentences.push(format!("The data stands in the table `{table}`."));
    }
    sentences.extend(
        after
            .comments
            .iter()
            .filter(|comment| before.comments.contains(comment))
            .filter_map(|comment| prose(comment))
            .map(|comment| format!("Keep in mind: {comment}.")),
    );
    if let Some(constant) = common_constant(draft) {
        sentences.push(format!("The text \"{constant}\" plays a part in it."));
    }
    let call = after.calls.iter().find(|call| {
        before.calls.contains(call)
            && call.len() <= 40
            && call.chars().all(|c| c.is_alphanumeric() || "._".contains(c))
    });
    if let Some(call) = call {
        sentences.push(format!("It works with `{call}`."));
    }
    sentences.into_iter().find(|sentence| speakable(draft, sentence))
}

/// A comment's words, when it is a line of prose and not code that was commented out.
fn prose(comment: &str) -> Option<String> {
    let text = comment
        .trim()
        .trim_start_matches(['#', '/', '*', '!'])
        .trim_end_matches(['/', '*', '.', '?', '!', ':'])
        .trim();
    let words = text.split_whitespace().count();
    let is_code = text.contains(['=', '(', ')', ';', '{', '}', '\\', '<', '`', '?']) || text.contains('\n');
    ((3..=16).contains(&words) && text.len() <= 100 && !is_code).then(|| text.to_owned())
}

/// The string contents of one side.
fn strings(parsed: &vul2safe_code::Parsed) -> impl Iterator<Item = &str> {
    parsed
        .leaves()
        .iter()
        .enumerate()
        .filter(|(_, leaf)| leaf.kind == LeafKind::StringContent)
        .map(|(index, _)| parsed.leaf_text(index))
}

/// Tables that the SQL of both sides names, in order.
fn common_tables(draft: &Draft) -> Vec<String> {
    let tables = |parsed| -> Vec<String> {
        let mut found = Vec::new();
        for content in strings(parsed) {
            let words: Vec<&str> = content.split_whitespace().collect();
            for pair in words.windows(2) {
                let is_keyword = ["FROM", "INTO", "UPDATE", "JOIN", "TABLE"].contains(&pair[0]);
                let table = pair[1].trim_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
                let is_name = table.chars().all(|c| c.is_alphanumeric() || c == '_') && table.len() >= 2;
                if is_keyword && is_name && !found.iter().any(|known| known == table) {
                    found.push(table.to_owned());
                }
            }
        }
        found
    };
    let after = tables(&draft.after);
    tables(&draft.before).into_iter().filter(|table| after.contains(table)).collect()
}

/// A short string that both sides hold as it is.
fn common_constant(draft: &Draft) -> Option<String> {
    let after: Vec<&str> = strings(&draft.after).collect();
    strings(&draft.before)
        .find(|content| {
            let plain = content.chars().all(|c| c.is_alphanumeric() || " _-./".contains(c));
            (4..=30).contains(&content.len()) && plain && after.contains(content)
        })
        .map(|content| content.trim().to_owned())
}

/// Longer prefixes would be the code rather than a start.
const LONGEST_PREFIX: usize = 600;

/// The code of both sides up to the function's body, its docstring included, when both share it.
fn common_prefix(draft: &Draft, function: &Function) -> Option<String> {
    let text = draft.before.text();
    let mut end = function.signature.end;
    if draft.record.language == Language::Python {
        let docstring = function.statements.first().filter(|first| {
            let starts = first
                .text(text)
                .is_some_and(|text| text.trim_start_matches(['r', 'u']).starts_with(['"', '\'']));
            function.docstring.is_some() && starts
        });
        if let Some(docstring) = docstring {
            end = docstring.end;
        }
    } else {
        end = function.body.start + 1;
    }
    let line_end = text.get(end..)?.find('\n').map(|newline| end + newline + 1)?;
    if !text[end..line_end].trim_matches([':', ' ', '\t', '\r', '\n']).is_empty() {
        return None;
    }
    let prefix = &text[..line_end];
    (prefix.len() <= LONGEST_PREFIX && draft.secure.starts_with(prefix)).then(|| prefix.to_owned())
}

/// Words that an assertion may use and still stand on its own.
const SELF_CONTAINED: &[&str] = &[
    "assert",
    "answer",
    "True",
    "False",
    "None",
    "in",
    "is",
    "not",
    "and",
    "or",
    "len",
    "str",
    "int",
    "list",
    "dict",
    "set",
    "sorted",
    "isinstance",
    "startswith",
    "endswith",
    "strip",
];

/// An assertion of the functional tests with nothing but literals in it.
fn example(draft: &Draft, name: &str) -> Option<String> {
    let tests = &draft.record.tests.as_ref()?.functional;
    let call = format!("answer.{name}(");
    tests
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("assert ") && line.contains(&call) && line.len() <= 100)
        .find(|line| {
            let mut quote = None;
            let bare: String = line
                .chars()
                .map(|character| match quote {
                    Some(open) if character == open => {
                        quote = None;
                        ' '
                    }
                    Some(_) => ' ',
                    None if character == '"' || character == '\'' => {
                        quote = Some(character);
                        ' '
                    }
                    None => character,
                })
                .collect();
            crate::draft::split_words(&bare).all(|word| {
                word == name
                    || SELF_CONTAINED.contains(&word)
                    || word.chars().all(|character| character.is_ascii_digit() || character == '_')
            })
        })
        .map(|line| line.replace("answer.", ""))
        .filter(|line| speakable(draft, line))
}
