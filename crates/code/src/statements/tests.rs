//! The smallest statement around a marked place.

use crate::{Language, Span, parse};

/// The statement around the text between `«` and `»`.
fn around(language: Language, marked: &str) -> Option<String> {
    let start = marked.find('«').unwrap();
    let end = marked.find('»').unwrap() - '«'.len_utf8();
    let text = marked.replace(['«', '»'], "");
    let parsed = parse(language, &text).unwrap();
    parsed.statement_around(Span::new(start, end)).map(|span| span.text(&text).unwrap().to_string())
}

#[test]
fn python_statements() {
    for (marked, expected) in [
        ("def f(x):\n    y = «g»(x)\n    return y\n", "y = g(x)"),
        ("def f(x):\n    y = 1; z = «2»\n", "z = 2"),
        ("def «f»(x):\n    return x\n", "def f(x):"),
        ("def f(x):\n    if «x»:\n        y = 1\n", "if x:"),
        ("def f(x):\n    if x:\n        y = «1»\n", "y = 1"),
        ("def f(x):\n    if «x:\n        y» = 1\n    z = 2\n", "if x:\n        y = 1"),
        ("def f(x):\n    if x:\n        pass\n    elif «x» > 2:\n        y = 1\n", "elif x > 2:"),
        ("def f(x):\n    try:\n        g()\n    except «E»:\n        y = 1\n", "except E:"),
        ("    @«app.x»\n    def f(x):\n        return x\n", "@app.x"),
        ("def f(x):\n    with «open»(x) as y:\n        return y\n", "with open(x) as y:"),
        ("def f(x):\n    return [«i» for i in x]\n", "return [i for i in x]"),
    ] {
        assert_eq!(around(Language::Python, marked).as_deref(), Some(expected), "{marked}");
    }
}

#[test]
fn c_statements() {
    for (marked, expected) in [
        ("int f(int x) { int y = «x»; return y; }", "int y = x;"),
        ("int f(int x) { for (int i = «0»; i < x; i++) g(i); }", "int i = 0;"),
        ("int f(int x) { if («x») return 1; return 0; }", "if (x)"),
        ("int f(int x) { if (x) return «1»; return 0; }", "return 1;"),
        ("int f(int x) { if (x) { return 1; } else { g(«x»); } }", "g(x);"),
        ("int f(int «x») { return 1; }", "int f(int x)"),
        ("int f(int x) { switch (x) { case «1»: return 2; } }", "case 1:"),
    ] {
        assert_eq!(around(Language::C, marked).as_deref(), Some(expected), "{marked}");
    }
}

#[test]
fn outside_every_statement() {
    let parsed = parse(Language::Python, "a = 1\nb = 2\n").unwrap();
    assert_eq!(parsed.statement_around(Span::new(0, 11)), None, "two statements");
    assert_eq!(parsed.statement_around(Span::new(900, 901)), None, "outside the text");
}
