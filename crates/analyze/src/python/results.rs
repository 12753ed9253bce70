//! What known functions and methods make of what goes into them.

use super::calls::Call;
use super::value::{Level, Risk, Value};

/// Whether a statement asks for nothing but numbers.
pub(super) fn gives_numbers(call: &Call<'_>) -> bool {
    let statement = call.arguments.first().map_or("", |argument| argument.0.text.as_str());
    let lower = statement.trim_start().to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("select ") else { return false };
    let columns = rest.split_once(" from ").map_or(rest, |(columns, _)| columns);
    columns.split(',').all(|column| {
        ["count(", "sum(", "avg(", "total(", "length("].iter().any(|start| column.trim().starts_with(start))
    })
}

/// Whether a path leads to files that are written as markup.
pub(super) fn holds_markup(path: &Value) -> bool {
    let name = path.text.to_ascii_lowercase();
    [".html", ".htm", ".xhtml", ".svg", ".tmpl", ".tpl", ".j2", ".jinja", ".jinja2", ".mustache"]
        .iter()
        .any(|extension| name.ends_with(extension))
}

/// Whether no part of a split text has a line break: a text split at white space, all of it, or at line breaks.
pub(super) fn splits_lines(call: &Call<'_>) -> bool {
    let bounded = call.arguments.len() > 1 || !call.keywords.is_empty();
    let separator = call.arguments.first().map(|argument| argument.0.text.as_str());
    match (call.method, separator) {
        ("split" | "rsplit" | "splitlines", None) => !bounded,
        // The rest behind the last split has the other line breaks.
        ("split" | "rsplit", Some(separator)) => !bounded && matches!(separator, "\\n" | "\n"),
        _ => false,
    }
}

/// Functions whose result is as dangerous as their arguments.
pub(super) fn passes_on(dotted: &str, method: &str) -> bool {
    dotted.starts_with("os.path.")
        || dotted.starts_with("zipfile.")
        || dotted.starts_with("tarfile.")
        || dotted.starts_with("base64.")
        || dotted.starts_with("urllib.parse.")
        || matches!(
            method,
            "str"
                | "bytes"
                | "bytearray"
                | "list"
                | "tuple"
                | "set"
                | "sorted"
                | "reversed"
                | "enumerate"
                | "zip"
                | "map"
                | "filter"
                | "dict"
                | "next"
                | "iter"
                | "max"
                | "min"
                | "unquote"
                | "unquote_plus"
                | "urlparse"
                | "urlsplit"
                | "urljoin"
                | "dedent"
                | "BytesIO"
                | "StringIO"
                | "_"
                | "gettext"
                | "ugettext"
                | "unicode"
                | "basestring"
                | "force_text"
                | "smart_text"
                | "fspath"
                | "ZipFile"
                | "TarFile"
                | "deepcopy"
                | "copy"
                | "Popen"
                | "format"
                | "text"
                | "Markup"
                | "mark_safe"
                | "SafeText"
                | "SafeString"
                | "loads"
        )
}

/// The value after a known sanitiser, or `None` if the call is none.
pub(super) fn sanitised(call: &Call<'_>, first: &Value) -> Option<Value> {
    let kept = || Value { text: String::new(), ..first.clone() };
    match call.method {
        "int" | "float" | "bool" | "len" | "ord" | "hash" | "id" | "round" | "abs" | "Decimal" | "UUID"
        | "isinstance" | "callable" | "sum" => {
            let mut value = Value::at(Level::Clean);
            value.random = first.random;
            return Some(value);
        }
        "basename" | "secure_filename" | "get_valid_filename" => {
            return Some(Value { joined: false, ..kept() }.cleaned(&[Risk::Path]));
        }
        "literal_eval" => return Some(kept().cleaned(&[Risk::Code])),
        "repr" | "ascii" => return Some(kept().cleaned(&[Risk::Log])),
        "dumps" => return Some(kept().cleaned(&[Risk::Log, Risk::Code])),
        "urlencode" | "quote_plus" => return Some(kept().cleaned(&[Risk::Html, Risk::Url, Risk::Log])),
        "quote" if call.dotted.starts_with("urllib") || call.dotted.starts_with("parse.") => {
            return Some(kept().cleaned(&[Risk::Html, Risk::Url, Risk::Log]));
        }
        "quote" | "list2cmdline" => return Some(kept().cleaned(&[Risk::Shell])),
        "sub" if call.dotted.starts_with("re.") || call.receiver.is_some() => {
            return Some(substituted(call, first));
        }
        _ => {}
    }
    let name = call.method.to_ascii_lowercase();
    if name.contains("escape") && !name.contains("unescape") {
        let risks: &[Risk] = match call.dotted.as_str() {
            "re.escape" => &[],
            _ if name.contains("sql") || name.contains("string") => &[Risk::Sql, Risk::Html],
            _ if name.contains("shell") => &[Risk::Shell],
            _ => &[Risk::Html],
        };
        return Some(kept().cleaned(risks));
    }
    if matches!(name.as_str(), "bleach.clean" | "clean_html" | "quoteattr" | "format_html" | "strip_tags")
        || call.dotted == "bleach.clean"
    {
        return Some(kept().cleaned(&[Risk::Html]));
    }
    if name.contains("sanitize")
        || name.contains("sanitise")
        || name.starts_with("safe_")
        || name.starts_with("secure_")
    {
        let mut value = kept();
        value.clean_all();
        return Some(value);
    }
    None
}

/// `re.sub(pattern, replacement, text)`: a pattern of what is *not* allowed leaves only what is.
fn substituted(call: &Call<'_>, first: &Value) -> Value {
    let (pattern, text) = match call.arguments.get(2) {
        Some((text, _)) => (first.text.as_str(), text),
        None => ("", call.arguments.get(1).map_or(first, |argument| &argument.0)),
    };
    let mut value = Value { text: String::new(), ..text.clone() };
    let keeps_listed = pattern.starts_with("[^") && pattern.trim_end_matches(['+', '*']).ends_with(']');
    if keeps_listed {
        let keeps_quotes = pattern.contains(['\'', '"', '<', ';', '`', '$']) || pattern.contains("\\s\\S");
        if !keeps_quotes {
            value = value.cleaned(&[Risk::Sql, Risk::Shell, Risk::Html, Risk::Log, Risk::Code]);
            if !pattern.contains('/') {
                value.clean(Risk::Path);
            }
        }
    } else if pattern == "\\W" || pattern == "\\W+" {
        value.clean_all();
    } else if pattern.contains("\\n") || pattern.contains("\\s") || pattern.contains("\\x00") {
        value.clean(Risk::Log);
    }
    value
}

/// `text.replace(old, new)`.
pub(super) fn replaced(receiver: &Value, call: &Call<'_>) -> Value {
    let mut value = receiver.clone();
    let old = call.arguments.first().map_or("", |argument| argument.0.text.as_str());
    match old {
        "\\n" | "\\r\\n" | "\n" => value.clean(Risk::Log),
        "<" => value.clean(Risk::Html),
        "/" | "\\\\" | "\\" if old == "/" => value.clean(Risk::Path),
        _ => {}
    }
    value
}
