//! What is read from functions of each language.

use super::*;
use crate::parse;

#[test]
fn python_function() {
    let text = r#"
    @app.route("/x")
    def find(self, name: str, *rest, limit=10, flag: bool = False, **options) -> list:
        """Find a thing.

        By its name."""
        # first
        import os.path, sys as system
        from a import b as c, d
        total, (left, right) = 0, pair
        for row in self.db.execute("q", (name,)):
            total += row[0]
        with open(name) as handle, lock:
            self.count = [item for item in handle]
        try:
            os.path.join(name)
        except ValueError as error:
            pass
        if (size := len(name)) > 1:
            def inner(z):
                return z
        os . path . join("again")
        key = lambda q: q
        return total
"#;
    let parsed = parse(Language::Python, text).unwrap();
    assert!(parsed.is_clean());
    let functions = parsed.functions();
    assert_eq!(functions.len(), 2);
    let function = &functions[0];
    assert_eq!(function.name, "find");
    assert!(function.span.text(text).unwrap().starts_with("@app.route"));
    assert_eq!(
        function.signature.text(text),
        Some("def find(self, name: str, *rest, limit=10, flag: bool = False, **options) -> list:")
    );
    assert!(function.body.text(text).unwrap().starts_with("\"\"\"Find"));
    assert_eq!(function.parameters, ["self", "name", "rest", "limit", "flag", "options"]);
    assert_eq!(function.docstring.as_deref(), Some("Find a thing.\n\n        By its name."));
    assert_eq!(function.comments, ["# first"]);
    assert_eq!(function.calls, ["self.db.execute", "open", "os.path.join", "len"]);
    assert_eq!(
        function.locals,
        [
            "self", "name", "rest", "limit", "flag", "options", "os", "system", "c", "d", "total", "left",
            "right", "row", "handle", "item", "error", "size", "inner", "key", "q"
        ]
    );
    assert!(function.returns_value && function.is_method);
    assert!(functions[1].span.start > function.span.start && functions[1].returns_value);
    let statements: Vec<&str> = function.statements.iter().map(|span| span.text(text).unwrap()).collect();
    assert!(statements.contains(&"for row in self.db.execute(\"q\", (name,)):"), "{statements:?}");
    assert!(statements.contains(&"total += row[0]"));
    assert!(statements.contains(&"def inner(z):"));
}

#[test]
fn nested_returns_do_not_count() {
    let text = "def f():\n    def g():\n        return 1\n    g()\n    return\n";
    let functions = parse(Language::Python, text).unwrap().functions().to_vec();
    assert!(!functions[0].returns_value && functions[1].returns_value);
    assert!(!functions[0].is_method);
    let text = "class A:\n    def f(x):\n        yield x\n";
    let functions = parse(Language::Python, text).unwrap().functions().to_vec();
    assert!(functions[0].returns_value && functions[0].is_method);
}

#[test]
fn docstrings() {
    let docstring = |body: &str| {
        parse(Language::Python, &format!("def f():\n    {body}\n    pass\n")).unwrap().functions()[0]
            .docstring
            .clone()
    };
    assert_eq!(docstring("'one'"), Some("one".to_string()));
    assert_eq!(docstring("# note\n    r'''a\\b'''"), Some("a\\b".to_string()));
    assert_eq!(docstring("x = 'one'"), None);
    assert_eq!(docstring("''"), Some(String::new()));
}

#[test]
fn c_functions() {
    let text = "static char *copy_name(const char *from, size_t n, int (*cb)(int), char out[])\n{\n  char *to = malloc(n), x;\n\
                  for (int i = 0; i < n; i++) { to[i] = from[i]; }\n  ctx->ops.run(to);\n  return to; /* c */\n}\n\
                  void g(void) { return; }\n";
    let functions = parse(Language::C, text).unwrap().functions().to_vec();
    assert_eq!(functions.len(), 2);
    let function = &functions[0];
    assert_eq!(function.name, "copy_name");
    assert_eq!(function.parameters, ["from", "n", "cb", "out"]);
    assert_eq!(function.calls, ["malloc", "ctx->ops.run"]);
    assert_eq!(function.locals, ["from", "n", "cb", "out", "to", "x", "i"]);
    assert_eq!(function.comments, ["/* c */"]);
    assert!(function.returns_value && !function.is_method);
    assert_eq!(
        function.signature.text(text),
        Some("static char *copy_name(const char *from, size_t n, int (*cb)(int), char out[])")
    );
    assert_eq!(functions[1].parameters, [] as [&str; 0]);
    assert!(!functions[1].returns_value);
}

#[test]
fn the_comment_above_a_c_function_is_its_docstring() {
    let docstring = |text: &str| parse(Language::Cpp, text).unwrap().functions()[0].docstring.clone();
    let function = "int f(void)\n{\n    /* Not this. */\n    return 1;\n}\n";
    for (above, expected) in [
        ("/* Return 1. */\n", Some("Return 1.")),
        ("#include <stdio.h>\n\n/**\n * Return 1.\n *\n * Always.\n */\n", Some("Return 1.\n\nAlways.")),
        ("// Return\n// one.\n", Some("Return\none.")),
        ("/* The file. */\n// Return one.\n", Some("Return one.")),
        ("// Elsewhere.\n\n// Return one.\n", Some("Return one.")),
        ("/* Elsewhere. */\n\n", None),
        ("int x; // a number\n\n", None),
        ("/* Return 1. */\ntemplate <class T>\n", Some("Return 1.")),
        ("/**/\n", None),
        ("", None),
    ] {
        assert_eq!(docstring(&format!("{above}{function}")).as_deref(), expected, "{above}");
    }
}

#[test]
fn old_style_c() {
    let text = "int f(a, b)\nint a;\nchar *b;\n{\n  return a;\n}\n";
    let functions = parse(Language::C, text).unwrap().functions().to_vec();
    assert_eq!(functions[0].name, "f");
    assert_eq!(functions[0].parameters, ["a", "b"]);
}

#[test]
fn cpp_functions() {
    let text = "std::string Store::find(const std::string& key, int& count) const {\n  for (const auto& row : rows_) { use(row); }\n\
                  return key;\n}\n";
    let functions = parse(Language::Cpp, text).unwrap().functions().to_vec();
    assert_eq!(functions[0].name, "Store::find");
    assert_eq!(functions[0].parameters, ["key", "count"]);
    assert!(functions[0].is_method);
    assert!(functions[0].locals.contains(&"row".to_string()));
}
