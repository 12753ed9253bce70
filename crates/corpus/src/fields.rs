//! Fields of untrusted JSON objects.

use std::path::Path;

use serde_json::{Map, Value};
use vul2safe_code::{Cwe, Language, parse};

use crate::DropReason;
use crate::collect::Refusal;
use crate::lines::Line;

/// A line as a JSON object.
pub(crate) fn object(line: &Line) -> Result<Map<String, Value>, Refusal> {
    let text = match &line.content {
        Ok(text) => text,
        Err(refusal) => return Err(refusal.clone()),
    };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err((DropReason::NotJson, "the line is JSON but not an object".into())),
        Err(error) if error.is_eof() => {
            Err((DropReason::Truncated, format!("the line ends in the middle of its JSON: {error}")))
        }
        Err(error) => Err((DropReason::NotJson, error.to_string())),
    }
}

/// A string field that must be there.
pub(crate) fn required<'v>(object: &'v Map<String, Value>, field: &str) -> Result<&'v str, Refusal> {
    match object.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            Err((DropReason::WrongType, format!("field `{field}` is {}, not a string", kind(other))))
        }
        None => Err((DropReason::MissingField, format!("field `{field}` is absent"))),
    }
}

/// A text that may be absent; empty strings and the words `None`, `null` and `nan` count as absent.
pub(crate) fn optional(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let absent =
        text.is_empty() || ["none", "null", "nan"].iter().any(|word| text.eq_ignore_ascii_case(word));
    (!absent).then_some(text)
}

/// The CWEs of a string, a number or a list of them. What is no CWE (`NVD-CWE-noinfo`) is left out.
pub(crate) fn weaknesses(value: Option<&Value>) -> Vec<Cwe> {
    let mut found = Vec::new();
    let mut add = |text: &str| {
        for part in text.split([',', ';', '|', ' ', '[', ']', '\'', '"']).filter(|part| !part.is_empty()) {
            if let Some(cwe) = Cwe::parse(part)
                && !found.contains(&cwe)
            {
                found.push(cwe);
            }
        }
    };
    match value {
        Some(Value::String(text)) => add(text),
        Some(Value::Number(number)) => add(&number.to_string()),
        Some(Value::Array(items)) => {
            for item in items {
                match item {
                    Value::String(text) => add(text),
                    Value::Number(number) => add(&number.to_string()),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    found
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The day of a date: a text that starts with `YYYY-MM-DD`, or seconds (or, past the year 5000, milliseconds) since
/// 1970. What is no date is left out.
pub(crate) fn day(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => {
            let day = text.trim().get(..10)?;
            day.parse::<jiff::civil::Date>().ok().map(|date| date.to_string())
        }
        Value::Number(number) => {
            let count = number.as_i64().or_else(|| number.as_f64().map(|number| number as i64))?;
            let seconds = if count.unsigned_abs() > 100_000_000_000 { count / 1_000 } else { count };
            day_of_seconds(seconds)
        }
        _ => None,
    }
}

/// The day of a number of seconds since 1970, in UTC.
pub(crate) fn day_of_seconds(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
}

/// C or C++ for code whose file does not say: C where it parses as C, else C++ where it parses as that.
pub(crate) fn c_family(code: &str) -> Language {
    let clean = |language| parse(language, code).is_ok_and(|parsed| parsed.is_clean());
    if clean(Language::C) {
        Language::C
    } else if clean(Language::Cpp) || code.contains("::") {
        Language::Cpp
    } else {
        Language::C
    }
}

/// The language by the file's extension. A `.h` may be either of the C family, and so says its text.
pub(crate) fn language_of_file(file_name: &str, code: &str) -> Option<Language> {
    let extension = Path::new(file_name).extension()?.to_str()?;
    if extension.eq_ignore_ascii_case("h") {
        return Some(c_family(code));
    }
    Language::from_extension(extension)
}

/// The first CVE that a text names, in upper case.
pub(crate) fn first_cve(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    upper.match_indices("CVE-").find_map(|(start, _)| {
        let rest = &upper[start + 4..];
        let (year, number) = rest.split_once('-')?;
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let year_is_one = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
        (year_is_one && digits >= 4).then(|| format!("CVE-{year}-{}", &number[..digits]))
    })
}
