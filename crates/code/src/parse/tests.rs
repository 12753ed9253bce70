//! Texts that must parse cleanly, texts that must not, and spans into the text as it was given.

use proptest::prelude::*;

use super::*;

fn clean(language: Language, text: &str) {
    let parsed = parse(language, text).unwrap();
    assert!(
        parsed.is_clean(),
        "not clean at {:?}: {text:?}\n{}",
        parsed.first_error().and_then(|span| span.text(text)),
        parsed.root().to_sexp()
    );
    assert_eq!(parsed.first_error(), None);
}

#[test]
fn indented_python_methods_are_clean() {
    for text in [
        "    def a(self):\n        return 1\n",
        "    def a(self):\n        return 1",
        "\tdef a(self):\n\t\tif self.x:\n\t\t\treturn 1\n\t\treturn 2\n",
        "        async def a(self):\n            async with x as y:\n                await y\n",
        "    @property\n    def a(self):\n        return 1\n",
        "    @app.route('/x',\n               methods=['GET'])\n    @login_required\n    def a(self):\n        return 1\n",
        "    def a(self):\n        \"\"\"Doc\nnot indented\n    less\n        \"\"\"\n        return 1\n",
        "    def a(self):\n        def inner(x):\n            return x\n        return inner(1)\n",
        "    def a(self):\n        return 1\n\n    def b(self):\n        return 2\n",
        "    # a comment first\n    def a(self):\n        return 1\n",
        "    def a(self):\n# comment at the margin\n        return 1\n",
        "\n\n    def a(self):\n        x = [\n  1,\n  2]\n        return x\n",
        "    @staticmethod\n\n    def a(x):\n        for i in x:\n            yield i\n        else:\n            pass\n",
        "def a(self):\n        return 1\n",
        "    def a(self):\r\n        if self.x:\r\n            return 1\r\n        return 2\r\n",
        "    def a(self): return 1\n",
        "    def a(self):\n        try:\n            x()\n        except (A, B) as e:\n            raise\n        finally:\n            y()\n",
        "    class Inner:\n        def a(self):\n            pass\n",
        "    def a(self):\n        s = '''\nx\n'''\n        return s % (1,)\n",
    ] {
        clean(Language::Python, text);
        let parsed = parse(Language::Python, text).unwrap();
        for function in parsed.functions() {
            assert!(!function.name.is_empty());
            let code = function.span.text(text).unwrap();
            assert!(code.contains("def "), "{code:?}");
            assert!(
                function.signature.text(text).unwrap().ends_with(':'),
                "{:?}",
                function.signature.text(text)
            );
        }
    }
}

#[test]
fn indented_siblings_stay_siblings() {
    let text = "    def a(self):\n        return 1\n\n    def b(self):\n        return 2\n";
    let parsed = parse(Language::Python, text).unwrap();
    let functions = parsed.functions();
    assert_eq!(functions.len(), 2);
    assert!(!functions[0].span.overlaps(functions[1].span));
    assert_eq!(functions[1].span.text(text), Some("def b(self):\n        return 2"));
}

#[test]
fn c_fragments_are_clean() {
    for text in [
        "int f(void) { return 0; }",
        "static int f(const char *s, size_t n)\n{\n\treturn s[n];\n}\n",
        "static inline unsigned long long f(struct a *b) { return b->c; }",
        "int f(a, b)\nint a;\nchar *b;\n{\n  return a;\n}\n",
        "void f(char *p) { char b[10]; strcpy(b, p); goto out; out: free(p); }",
        "int f(int x) { switch (x) { case 1: return 2; default: break; } do { x--; } while (x); return x; }",
        "#define N 3\nint f(void)\n{\n#ifdef A\n  g();\n#else\n  h();\n#endif\n  return N;\n}\n",
        "struct a { int b : 3; };\nstatic const struct a c[] = { [0] = { .b = 1 }, };\n",
    ] {
        clean(Language::C, text);
    }
}

#[test]
fn cpp_fragments_are_clean() {
    for text in [
        "void A::f(const std::string& s) const { for (auto& x : s) g(x); }",
        "A::A(int x) : b(x), c{1} {}",
        "template <typename T> static T f(T a) { auto g = [&](int x) { return x; }; return g(a); }",
        "Status Op::Run(Context* ctx) { OP_REQUIRES(ctx, a > 0, errors::Invalid(\"x\")); return Status::OK(); }",
        "int f() { try { throw 1; } catch (const E& e) { return 1; } return R\"(raw)\"[0]; }",
    ] {
        clean(Language::Cpp, text);
    }
}

#[test]
fn fragments_of_the_other_languages_are_clean() {
    for (language, text) in [
        (Language::Java, "public int f(int a) { return a; }"),
        (Language::Java, "package a;\nimport b.C;\nclass D extends C<E> { @F int g = 1; }\n"),
        (Language::Java, "int a = b.c(d);\nreturn a;\n"),
        (
            Language::JavaScript,
            "#!/usr/bin/env node\nconst a = require('b');\na.c(function () { return 1; });\n",
        ),
        (Language::JavaScript, "const A = () => <p className=\"b\">{c}</p>;\n"),
        (Language::Go, "package a\n\nimport \"fmt\"\n\nfunc B() { fmt.Println(1) }\n"),
        (Language::Go, "a, err := b(c)\nif err != nil {\n\treturn\n}\n"),
        (
            Language::Php,
            "<?php\nnamespace A;\nclass B { private $c = 1; function d() { return $this->c; } }\n",
        ),
        (Language::Php, "$a = $_GET['b'];\necho \"<p>$a</p>\";\n"),
        (Language::Php, "<h1><?= $title ?></h1>\n"),
    ] {
        clean(language, text);
    }
}

#[test]
fn an_excerpt_keeps_its_places() {
    for (language, text) in [
        (Language::C, "f(char *a)\n{\n    return a;\n}\n"),
        (Language::Cpp, "  public:\n    int f(char *a) const override { return 1; }\n"),
        (Language::Java, "  A(int a) {\n    this.a = a;\n  }\n\n"),
        (Language::JavaScript, "  f(a) {\n    return a;\n  }\n"),
        (Language::Php, "    protected function f($a)\n    {\n        return $a;\n    }\n"),
    ] {
        assert!(!parse(language, text).unwrap().is_clean(), "{text:?}");
        let parsed = parse_excerpt(language, text).unwrap();
        assert!(parsed.is_clean() && parsed.is_excerpt(), "{text:?}");
        let function = parsed.functions()[0].span.text(text).unwrap();
        assert!(text.trim().ends_with(function) && function.starts_with(|first: char| first.is_alphabetic()));
        let leaves: String = parsed.leaves().iter().map(|leaf| leaf.span.text(text).unwrap()).collect();
        assert_eq!(leaves, text.split_whitespace().collect::<String>());
        check(&parsed, text);
        // What is well-formed by itself is never taken for one.
        assert!(!parse_excerpt(language, "").unwrap().is_excerpt());
    }
}

#[test]
fn errors_are_found_where_they_are() {
    for (language, text) in [
        (Language::Python, "def f(:\n    return 1\n"),
        (Language::Python, "def f(x):\n    return (x\n"),
        (Language::Python, "def f(x)\n    return x\n"),
        (Language::Python, "def f(x):\n    x = 'abc\n    return x\n"),
        (Language::Python, "Here is the code you asked for:\n"),
        (Language::Python, "```python\nx = 1\n```\n"),
        (Language::C, "int f( { return 0; }"),
        (Language::C, "int f(void) { return 0;"),
    ] {
        let parsed = parse(language, text).unwrap();
        assert!(!parsed.is_clean(), "{text:?} {}", parsed.root().to_sexp());
        let error = parsed.first_error().unwrap();
        assert!(error.end <= text.len(), "{text:?}");
    }
}

#[test]
fn nothing_is_not_clean() {
    for text in ["", "\n\n", "# only a comment\n"] {
        let parsed = parse(Language::Python, text).unwrap();
        assert!(!parsed.is_clean(), "{text:?}");
        assert!(parsed.leaves().is_empty());
        assert!(parsed.functions().is_empty());
    }
}

#[test]
fn long_and_deep_texts_come_back() {
    let long = "x".repeat(MAXIMUM_TEXT_BYTES + 1);
    assert_eq!(parse(Language::C, &long).unwrap_err(), ParseError::TooLong { bytes: long.len() });
    assert!(parse(Language::C, &long).unwrap_err().hint().is_some());
    for language in Language::ALL {
        for text in ["(".repeat(60_000), "[{(".repeat(20_000), "f(".repeat(30_000) + &")".repeat(30_000)] {
            // Either outcome is right, as long as there is one.
            if let Ok(parsed) = parse(language, &text) {
                let _ =
                    (parsed.functions(), parsed.first_error(), parsed.statement_around(Span::new(100, 101)));
            }
        }
    }
}

/// `levels` of nesting that no error breaks, in each way a language nests most cheaply.
fn nested(levels: usize) -> Vec<(Language, String)> {
    let between = |head: &str, open: &str, middle: &str, close: &str, tail: &str| {
        format!("{head}{}{middle}{}{tail}", open.repeat(levels), close.repeat(levels))
    };
    vec![
        (Language::C, between("int f()", "{", "", "}", "\n")),
        (Language::Cpp, between("int f()", "{", "", "}", "\n")),
        (Language::C, between("int f() { return ", "(", "1", ")", "; }\n")),
        (Language::Cpp, between("int f() { return ", "(", "1", ")", "; }\n")),
        (Language::C, between("int f(int x) { return ", "f(", "x", ")", "; }\n")),
        (Language::C, between("int f(int x) { ", "if (x) ", "x = 1;", "", " }\n")),
        (Language::C, between("int f(int x) { return x", " + x", "", "", "; }\n")),
        (Language::Python, between("def f(x):\n    return ", "(", "x", ")", "\n")),
        (Language::Python, between("def f(x):\n    return ", "[", "x", "]", "\n")),
        (Language::Python, between("def f(x):\n    return ", "f(", "x", ")", "\n")),
        (Language::Python, between("def f(x):\n    return ", "not ", "x", "", "\n")),
        (Language::Python, between("def f(x):\n    return x", ".x", "", "", "\n")),
    ]
}

#[test]
fn nesting_is_bounded() {
    for (language, text) in nested(60_000) {
        let error = parse(language, &text).unwrap_err();
        assert!(
            matches!(error, ParseError::TooComplex { bytes, offset, .. } if bytes == text.len() && offset < bytes),
            "{error}"
        );
    }
    for (language, text) in nested(400) {
        let parsed =
            parse(language, &text).unwrap_or_else(|error| panic!("{language} {}: {error}", &text[..40]));
        // C++ may take so many braces for an initialiser.
        if language != Language::Cpp {
            assert!(parsed.is_clean(), "{language} {}", &text[..40]);
            assert_eq!(parsed.functions().len(), 1);
        }
    }
}

#[test]
fn the_deepest_accepted_tree_has_the_documented_depth() {
    let depth = |parsed: &Parsed| {
        let mut deepest = 0;
        Parsed::walk(parsed.root(), |node| {
            deepest = deepest.max(std::iter::successors(Some(node), |node| node.parent()).count());
            true
        });
        deepest
    };
    let text = |levels: usize| format!("int f(){}{}\n", "{".repeat(levels), "}".repeat(levels));
    let base = depth(&parse(Language::C, &text(100)).unwrap());
    // Each further pair of braces is one node deeper.
    let levels = 100 + MAXIMUM_DEPTH - base;
    assert_eq!(depth(&parse(Language::C, &text(levels)).unwrap()), MAXIMUM_DEPTH);
    assert!(parse(Language::C, &text(levels + 1)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), language in 0..Language::ALL.len()) {
        check_invariants(Language::ALL[language], &text);
    }

    #[test]
    fn code_like_text_never_panics(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..60),
        language in 0..Language::ALL.len(),
    ) {
        check_invariants(Language::ALL[language], &parts.concat());
    }
}

/// Pieces that meet each other in odd ways.
const PARTS: &[&str] = &[
    "def ",
    "f",
    "(",
    ")",
    ":",
    "\n",
    "    ",
    "\t",
    "return ",
    "'",
    "\"",
    "\"\"\"",
    "f'",
    "{",
    "}",
    "{x!r:>{w}}",
    "#",
    "//",
    "/*",
    "*/",
    "\\",
    "\\\n",
    "é",
    "漢",
    "\0",
    "\r\n",
    "if ",
    "else",
    "class A",
    "@",
    "x = ",
    "1",
    "0x",
    ".",
    "->",
    "::",
    ";",
    "int ",
    "char *",
    "#define A(x) x\n",
    "#if 1\n",
    "#endif\n",
    "struct ",
    "[",
    "]",
    ",",
    "lambda",
    "%",
    "rb'",
    "\u{feff}",
    "$x",
    "<?php ",
    "?>",
    "`",
    "${",
    "=>",
    "func ",
    "function ",
    "public ",
    "void f(",
    ":= ",
    "<<<EOT\n",
    "EOT",
];

fn check_invariants(language: Language, text: &str) {
    let Ok(parsed) = parse(language, text) else { return };
    check(&parsed, text);
    let Ok(excerpt) = parse_excerpt(language, text) else { return };
    assert!(excerpt.is_clean() || !excerpt.is_excerpt());
    check(&excerpt, text);
}

fn check(parsed: &Parsed, text: &str) {
    let mut covered = 0;
    for leaf in parsed.leaves() {
        assert!(leaf.span.start >= covered, "ordered and disjoint: {leaf:?} in {text:?}");
        assert!(!leaf.span.is_empty());
        assert!(leaf.span.text(text).is_some(), "inside, at character boundaries: {leaf:?} in {text:?}");
        covered = leaf.span.end;
    }
    let blanked = crate::blank_comments(parsed);
    assert_eq!(blanked.len(), text.len());
    if let (Ok(kept), Ok(anew)) = (parsed.without_comments(), parse(parsed.language(), &blanked))
        && parsed.is_clean()
        && !parsed.is_excerpt()
    {
        assert_eq!(kept.root().to_sexp(), anew.root().to_sexp(), "{text:?}");
        assert_eq!(kept.leaves(), anew.leaves());
    }
    let outline = parsed.outline();
    assert!(outline.reads.iter().all(|name| !outline.binds.contains(name)));
    for function in parsed.functions() {
        for span in [function.span, function.signature, function.body].iter().chain(&function.statements) {
            assert!(span.text(text).is_some());
        }
    }
    for leaf in parsed.leaves().iter().take(50) {
        if let Some(statement) = parsed.statement_around(leaf.span) {
            assert!(statement.contains(leaf.span));
            assert!(statement.text(text).is_some());
        }
    }
    assert_eq!(parsed.first_error().is_some(), parsed.root().has_error());
}
