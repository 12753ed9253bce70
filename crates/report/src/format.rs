//! Figures and texts as a person reads them.

use std::borrow::Cow;

/// A share as a percentage with one decimal, without the sign; `–` for a value that could not be computed.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { unsigned_zero(format!("{:.1}", share * 100.0)) } else { "–".into() }
}

/// A difference of shares in percentage points, always with its sign.
pub(crate) fn points(difference: f64) -> String {
    if !difference.is_finite() {
        return "–".into();
    }
    let text = format!("{:+.1}", difference * 100.0);
    if text.trim_start_matches(['+', '-', '0', '.']).is_empty() { "0.0".into() } else { minus(&text) }
}

/// A p-value, as `0.034` or `< 0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if !p.is_finite() {
        "–".into()
    } else if p < 0.001 {
        "< 0.001".into()
    } else {
        format!("{p:.3}")
    }
}

/// A signed reward with three decimals, fewer digits for larger ones.
pub(crate) fn reward(value: f64) -> String {
    if !value.is_finite() {
        return "unscored".into();
    }
    let text = format!("{value:+.3}");
    if text.trim_start_matches(['+', '-', '0', '.']).is_empty() { "0".into() } else { minus(&text) }
}

/// Seconds as `0.4 s`, `2 min 05 s` or `1 h 02 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".into();
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// A count with a thin space between groups of three digits.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + 6);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The unrounded value as JSON has it, for the page's `data-` attributes.
pub(crate) fn exact(value: f64) -> String {
    serde_json::to_string(&value).unwrap_or_else(|_| "null".into())
}

/// Text in which nothing hides: control characters become their pictures, and characters that reorder or vanish
/// (bidirectional controls, zero-width characters) become `⟨U+202E⟩`, because code that looks other than it runs
/// is an attack of its own ("Trojan Source", CVE-2021-42574).
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !hidden(c) => shown.push(c),
            '\0'..='\u{1f}' => shown.push(char::from_u32(0x2400 + c as u32).unwrap_or('�')),
            '\u{7f}' => shown.push('␡'),
            c => shown.push_str(&format!("⟨U+{:04X}⟩", c as u32)),
        }
    }
    Cow::Owned(shown)
}

/// A typographic minus, as wide as the plus.
fn minus(text: &str) -> String {
    text.replacen('-', "−", 1)
}

fn unsigned_zero(text: String) -> String {
    if text == "-0.0" { "0.0".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_and_nothing_else() {
        assert_eq!(percent(0.4375), "43.8");
        assert_eq!(percent(-0.0), "0.0");
        assert_eq!(percent(f64::NAN), "–");
        assert_eq!(points(-0.1249), "−12.5");
        assert_eq!(points(0.2), "+20.0");
        assert_eq!(points(-0.0001), "0.0");
        assert_eq!(p_value(0.0342), "0.034");
        assert_eq!(p_value(1e-9), "< 0.001");
        assert_eq!(reward(-0.25), "−0.250");
        assert_eq!(reward(0.0), "0");
        assert_eq!(reward(f64::NAN), "unscored");
        assert_eq!(exact(0.1), "0.1");
        assert_eq!(exact(f64::NAN), "null");
        assert_eq!(count(1_234_567).replace('\u{202f}', " "), "1 234 567");
        assert_eq!(count(999), "999");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, expected) in [
            (0.0, "0.0 s"),
            (59.94, "59.9 s"),
            (59.96, "1 min 00 s"),
            (125.2, "2 min 05 s"),
            (3599.9, "1 h 00 min"),
            (3725.0, "1 h 02 min"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn hidden_characters_are_shown() {
        assert_eq!(visible("def f():\n\treturn 'é'"), "def f():\n\treturn 'é'");
        assert_eq!(visible("a\0b\rc\u{7f}"), "a␀b␍c␡");
        assert_eq!(visible("\u{202e}if\u{2066}"), "⟨U+202E⟩if⟨U+2066⟩");
        assert_eq!(visible("\u{85}"), "⟨U+0085⟩");
    }
}
