//! Snippets by rule, for C.

use vul2safe_code::{Language, MAXIMUM_DEPTH, parse};

use crate::analyze;

fn check(rule: &str, vulnerable: &[&str], secure: &[&str]) {
    for (expected, snippets) in [(true, vulnerable), (false, secure)] {
        for snippet in snippets {
            for language in [Language::C, Language::Cpp] {
                let text = format!(
                    "static int f(char *s, int n, struct item *p)\n{{\n    char buffer[10];\n    {snippet}\n    return 0;\n}}\n"
                );
                let parsed = parse(language, &text).unwrap();
                assert!(parsed.is_clean(), "{text}");
                let found = analyze(&parsed);
                assert_eq!(
                    found.iter().any(|finding| finding.rule == rule),
                    expected,
                    "{rule} in\n{text}\n{found:#?}"
                );
            }
        }
    }
}

#[test]
fn copies() {
    check(
        "unbounded-copy",
        &[
            "strcpy(buffer, s);",
            "strcat(buffer, s); /* NOLINT */",
            "sprintf(buffer, \"%s\", s);",
            "gets(buffer);",
            "scanf(\"%s\", buffer);",
            "if (n > 3) { strcpy(buffer, p->name); }",
        ],
        &[
            "strcpy(buffer, \"abc\");",
            "snprintf(buffer, sizeof buffer, \"%s\", s);",
            "sprintf(buffer, \"%d\", n);",
            "if (strlen(s) >= sizeof buffer) return 1; strcpy(buffer, s);",
            "char *copy = malloc(strlen(s) + 1); if (copy) strcpy(copy, s);",
            "scanf(\"%9s\", buffer);",
        ],
    );
    check("stack-write", &["buffer[10] = 0;"], &["buffer[9] = 0;", "n = buffer[3];"]);
}

#[test]
fn formats_and_shells() {
    check(
        "format-string",
        &["printf(s);", "fprintf(stderr, s);", "syslog(1, p->name);"],
        &[
            "printf(\"%s\", s);",
            "printf(\"hello\");",
            "const char *t = \"x\"; printf(t);",
            "printf(_(\"x\"));",
        ],
    );
    check(
        "shell-command",
        &["system(s);", "popen(buffer, \"r\");"],
        &["system(\"ls\");", "const char *c = \"ls\"; system(c);"],
    );
}

#[test]
fn memory() {
    check(
        "use-after-free",
        &[
            "free(p); n = p->size;",
            "free(p); use(p);",
            "free(s); return s[0];",
            "free(p); if (n) { log_it(p); }",
        ],
        &[
            "n = p->size; free(p);",
            "free(p); p = NULL; use(p);",
            "free(p->next); use(p);",
            "if (n) { free(p); return 1; } use(p);",
            "free(s); s = strdup(\"x\"); use(s);",
        ],
    );
    check("double-free", &["free(p); free(p);"], &["free(p); p = 0; free(p);", "free(p); free(s);"]);
    check(
        "unchecked-allocation",
        &[
            "p = malloc(n); p->size = n;",
            "char *t = malloc(n); memset(t, 0, n);",
            "char *t = (char *) calloc(n, 1); t[0] = 1;",
        ],
        &[
            "p = malloc(n); if (!p) return 1; p->size = n;",
            "char *t = malloc(n); if (t == NULL) { return 1; } memset(t, 0, n);",
            "char *t = malloc(n); assert(t); t[0] = 1;",
            "char *t = malloc(n); return t != 0;",
        ],
    );
}

#[test]
fn many_deep_blocks_are_not_walked_again_for_each_block_around_them() {
    let levels = MAXIMUM_DEPTH - 100;
    let function = format!("int f(char *s){}strcpy(b, s);{}\n", "{".repeat(levels), "}".repeat(levels));
    let text = function.repeat(100);
    let parsed = parse(Language::C, &text).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(analyze(&parsed).len(), 100);
    // Well under a second where each block is walked a bounded number of times, over half a minute where not.
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds < 10.0, "{seconds} s");
    let deep = format!("int f(){}{}\n", "{".repeat(60_000), "}".repeat(60_000));
    assert!(parse(Language::C, &deep).is_err());
}
