//! Snippets by rule, for C.

use proptest::prelude::*;
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

/// Whole functions, in C and in C++.
fn check_functions(rule: &str, vulnerable: &[&str], secure: &[&str]) {
    for (expected, functions) in [(true, vulnerable), (false, secure)] {
        for text in functions {
            for language in [Language::C, Language::Cpp] {
                let parsed = parse(language, text).unwrap();
                assert!(parsed.is_clean(), "{text}");
                let found = analyze(&parsed);
                let hit = found.iter().any(|finding| finding.rule == rule);
                assert_eq!(hit, expected, "{rule} in\n{text}\n{found:#?}");
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
fn indices() {
    check_functions(
        "index-write",
        &[
            "void f(int *a, int count, int i, int v) { a[i] = v; }",
            "void f(int *a, int count, int i, int v) { if (i < count) a[i] += v; }",
            "void f(int *a, int count, int i, int v) { if (i < 0) return; a[i] = v; }",
            "void f(int *a, int count, int i, int v) { if (i < 0 || i > count) return; a[i] = v; }",
            "void f(int *a, size_t count, unsigned i) { if (i > count) return; a[i]++; }",
            "void f(char *out, size_t size, const char *s) { size_t i; for (i = 0; s[i]; i++) out[i] = s[i]; out[i] = 0; }",
            "void f(char *out, size_t size, const char *s) { size_t i; for (i = 0; i < size && s[i]; i++) out[i] = s[i]; out[i] = 0; }",
            "void f(char *out, size_t size, const char *s) { while (*s) *out++ = *s++; *out = 0; }",
            "void f(char *out, size_t size, const char *s) { memcpy(out, s, strlen(s)); }",
            "void f(void) { char a[8]; for (int i = 0; i <= 8; i++) a[i] = 0; }",
            "void f(char *out, size_t size, const char *s) { size_t n = strlen(s); if (n > size) return; for (size_t i = 0; i <= n; i++) out[i] = s[i]; }",
            "void f(char *out, size_t size, const char *s) { memcpy(out, s, strlen(s)); if (strlen(s) >= size) return; }",
            "void f(char *out, size_t size, const char *s) { for (int i = 0; s[i]; i++) out[i] = s[i]; if (strlen(s) > size) return; }",
        ],
        &[
            "void f(int *a, int count, int i, int v) { if (i < 0 || i >= count) return; a[i] = v; }",
            "void f(int *a, int count, int i, int v) { if ((unsigned) i < (unsigned) count) a[i] = v; }",
            "void f(int *a, size_t count, size_t i) { if (i >= count) return; a[i]++; }",
            "void f(int *a, int count, int i) { if (is_in(i, count)) a[i] = 0; }",
            "void f(int *a, int count, int i) { a[i & 7] = count; }",
            "void f(char *s, int i) { s[i] = 0; }",
            "void f(char *out, size_t size, const char *s) { size_t i; for (i = 0; i + 1 < size && s[i]; i++) out[i] = s[i]; out[i] = 0; }",
            "void f(char *out, size_t size, const char *s) { size_t i; for (i = 0; i < size && s[i]; i++) out[i] = s[i]; if (i < size) out[i] = 0; }",
            "void f(char *out, size_t size, const char *s) { char *end = out + size; while (out < end && *s) *out++ = *s++; }",
            "void f(char *out, size_t size, const char *s) { size_t n = strlen(s); if (n >= size) return; for (size_t i = 0; i <= n; i++) out[i] = s[i]; }",
            "void f(char *out, size_t size) { memset(out, 0, size); }",
            "void f(char *out, size_t size) { out[0] = 0; }",
            "void f(void) { char a[8]; for (int i = 0; i < 8; i++) a[i] = 0; }",
        ],
    );
    check_functions(
        "index-read",
        &[
            "int f(int i) { static const int t[] = {1, 2, 3}; return t[i]; }",
            "int f(int i) { static const int t[3] = {1, 2, 3}; int at = i - 1; return at < 3 ? t[at] : 0; }",
            "int f(int i) { static const int t[] = {1, 2, 3}; if (i < 0 || i > 3) return 0; return t[i]; }",
        ],
        &[
            "int f(int i) { static const int t[] = {1, 2, 3}; return i < 0 || i >= 3 ? 0 : t[i]; }",
            "int f(int i) { static const int t[] = {1, 2, 3}; size_t at = i; if (at >= sizeof t / sizeof t[0]) return 0; return t[at]; }",
            "int f(int i) { static const int t[] = {1, 2, 3}; return t[i % 3]; }",
            "int f(const char *s, int count) { int n = 0; for (int i = 0; i < count; i++) n += s[i]; return n; }",
        ],
    );
}

#[test]
fn lengths() {
    check_functions(
        "told-length",
        &[
            "int f(char *o, const unsigned char *d, size_t length) { size_t n = d[0]; memcpy(o, d + 1, n); return n; }",
            "int f(char *o, const unsigned char *d, size_t length) { size_t n = d[0]; if (n > length) return 0; memcpy(o, d + 1, n); return n; }",
            "int f(char *o, const unsigned char *d, size_t length) { const unsigned char *p = d; size_t n = *p; for (size_t i = 0; i < n; i++) o[i] = d[1 + i]; return n; }",
        ],
        &[
            "int f(char *o, const unsigned char *d, size_t length) { size_t n = d[0]; if (n + 1 > length) return 0; memcpy(o, d + 1, n); return n; }",
            "int f(char *o, const unsigned char *d, size_t length) { size_t left = length - 1; size_t n = d[0] < left ? d[0] : left; memcpy(o, d + 1, n); return n; }",
            "int f(const unsigned char *d, size_t length) { size_t n = d[0]; return n + length; }",
        ],
    );
    check_functions(
        "signed-length",
        &[
            "int f(char *o, int size, const char *d, int n) { if (n > size) return -1; memcpy(o, d, n); return n; }",
            "int f(char *o, int size, const char *d, int n) { int left = size - n; if (left < 0) return -1; memmove(o, d, n); return n; }",
        ],
        &[
            "int f(char *o, int size, const char *d, int n) { if (n < 0 || n > size) return -1; memcpy(o, d, n); return n; }",
            "int f(char *o, int size, const char *d, int n) { if ((unsigned) n > (unsigned) size) return -1; memcpy(o, d, n); return n; }",
            "int f(char *o, size_t size, const char *d, int n) { if (n > size) return -1; memcpy(o, d, n); return n; }",
            "int f(char *o, size_t size, const char *d, size_t n) { if (n > size) return -1; memcpy(o, d, n); return n; }",
            "void f(char *o, const char *d, int n) { memcpy(o, d, n); }",
        ],
    );
    check_functions(
        "size-product",
        &[
            "char *f(unsigned a, unsigned b) { return malloc(a * b); }",
            "char *f(int a, int b) { size_t n = a * b; char *p = malloc(n); return p; }",
        ],
        &[
            "char *f(unsigned a, unsigned b) { return malloc((size_t) a * b); }",
            "char *f(size_t a, size_t b) { return malloc(a * b); }",
            "char *f(unsigned a, unsigned b) { if (b != 0 && a > UINT_MAX / b) return NULL; return malloc(a * b); }",
            "char *f(unsigned a, unsigned b) { if (a > 100 || b > 100) return NULL; return malloc(a * b); }",
            "char *f(unsigned a) { return malloc(a * sizeof(int)); }",
        ],
    );
    check_functions(
        "division-by-count",
        &[
            "int f(const int *a, int count) { int s = 0; for (int i = 0; i < count; i++) s += a[i]; return s / count; }",
            "int f(const int *a, int n) { int i = 0, s = 0; while (i < n) s += a[i++]; s /= i; return s; }",
            "int f(const int *a, int n) { int i = 0, s = 0; while (i < n) s += a[i++]; if (i != 1) s /= i; return s; }",
            "int f(const int *a, int n) { int i = 0, s = 0; while (i < n) s += a[i++]; s /= i; if (!i) return 0; return s; }",
        ],
        &[
            "int f(const int *a, int count) { int s = 0; for (int i = 0; i < count; i++) s += a[i]; return count ? s / count : 0; }",
            "int f(const int *a, int count) { int s = 0; if (!count) return 0; for (int i = 0; i < count; i++) s += a[i]; return s / count; }",
            "int f(int a, int b) { return a / b; }",
            "int f(const int *a, int n) { int i = 0, s = 0; while (i < n) s += a[i++]; if (i > 1) s /= i; return s; }",
        ],
    );
    check_functions(
        "wrapping-bound",
        &[
            "int f(char *o, size_t size, const char *d, size_t n) { if (n > size - 16) return -1; memcpy(o, d, n); return 0; }",
            "void f(char *o, size_t size, const char *s) { strncat(o, s, size - strlen(o) - 8); }",
        ],
        &[
            "int f(char *o, size_t size, const char *d, size_t n) { if (size < 16 || n > size - 16) return -1; memcpy(o, d, n); return 0; }",
            "int f(char *o, size_t size, const char *d, size_t n) { if (n > size - 1) return -1; memcpy(o, d, n); return 0; }",
            "int f(char *o, int size, const char *d, int n) { if (n > size - 16) return -1; memcpy(o, d, n); return 0; }",
            "size_t f(char *o, size_t size) { return size - 16; }",
        ],
    );
}

#[test]
fn pointers() {
    check_functions(
        "unchecked-lookup",
        &[
            "int f(const char *s) { return atoi(strchr(s, '=') + 1); }",
            "int f(const char *s) { const char *p = strstr(s, \"a\"); return atoi(p + 1); }",
            "int f(void) { return strlen(getenv(\"HOME\")); }",
            "int f(const char *s) { const char *p = strchr(s, '=') + 1; if (p == NULL) return 0; return *p; }",
            "int f(const char *s) { const char *p = strchr(s, '='); int n = atoi(p + 1); if (p == NULL) return 0; return n; }",
        ],
        &[
            "int f(const char *s) { const char *p = strchr(s, '='); if (p == NULL) return -1; return atoi(p + 1); }",
            "int f(const char *s) { const char *p = strchr(s, '='); return p ? atoi(p + 1) : 0; }",
            "long f(const char *s) { return strchr(s, '\\0') - s; }",
            "int f(const char *s) { return strchr(s, '=') != NULL; }",
            "int f(const char *s) { int n = 0; while ((s = strchr(s, ','))) { s++; n++; } return n; }",
        ],
    );
    check_functions(
        "unchecked-allocation",
        &[
            "char *f(int n) { char *p = malloc(n); for (int i = 0; i < n; i++) p[i] = 0; return p; }",
            "char *f(int n) { char *p = malloc(n); char *q = p; while (n-- > 0) *q++ = 0; return p; }",
            "char *f(int n) { char *p = malloc(n); char *q = p; while (n-- > 0) *q++ = 0; if (!p) return 0; return p; }",
        ],
        &[
            "char *f(int n) { char *p = malloc(n); for (int i = 0; p && i < n; i++) p[i] = 0; return p; }",
            "char *f(int n) { char *p = malloc(n); char *q = p; if (!p) return p; while (n-- > 0) *q++ = 0; return p; }",
        ],
    );
    check_functions(
        "double-free",
        &[
            "int f(char *p, int n) { while (n--) { if (n == 3) { free(p); break; } } free(p); return n; }",
            "int f(char *p, int n) { for (; n; n--) { if (n == 3) { free(p); continue; } } free(p); return n; }",
            "int f(char *p) { for (char *q = strtok(p, \",\"); q; q = strtok(NULL, \",\")) { free(q); } free(p); return 1; }",
        ],
        &[
            "int f(char *p, int n) { while (n--) { if (n == 3) { free(p); return 0; } } free(p); return n; }",
            "int f(char *p, int n) { while (n--) { if (n == 3) { free(p); p = NULL; break; } } free(p); return n; }",
            "int f(char *p, int n) { while (n--) { if (n == 3) { free(p); break; } } p = NULL; free(p); return n; }",
            "int f(char *p, int n) { while (n--) { char *q = strdup(p); free(q); } free(p); return n; }",
            "int f(char *p) { char *q = strchr(p, ','); if (q) use(q); free(p); return 1; }",
        ],
    );
    check_functions(
        "use-after-free",
        &[
            "void f(char **slot, const char *text) { free(*slot); *slot = strdup(text); }",
            "void f(char **slot, const char *text) { char *old = *slot; free(old); *slot = strndup(text, 8); }",
        ],
        &[
            "void f(char **slot, const char *text) { char *old = *slot; *slot = strdup(text); free(old); }",
            "void f(char **slot, const char *text) { if (text == *slot) return; free(*slot); *slot = strdup(text); }",
            "void f(char **slot) { free(*slot); *slot = strdup(\"x\"); }",
        ],
    );
}

#[test]
fn bounds_that_are_none() {
    check_functions(
        "unbounded-copy",
        &[
            "void f(char *out, size_t size, const char *s) { strncat(out, s, size); }",
            "void f(const char *s) { char line[64]; strcpy(line, \"a\"); strncat(line, s, sizeof line); }",
            "void f(const char *s) { char line[64]; if (strlen(s) > 64) return; sprintf(line, \"%s\", s); }",
            "void f(const char *s) { char line[64]; if (strlen(s) > sizeof line) return; strcpy(line, s); }",
            "void f(char *out, size_t size, const char *s) { snprintf(out, out, \"%s\", s); }",
        ],
        &[
            "void f(char *out, size_t size, const char *s) { strncat(out, s, size - strlen(out) - 1); }",
            "void f(const char *s) { char line[64]; strcpy(line, \"a\"); strncat(line, s, 40); }",
            "void f(const char *s) { char line[64]; if (strlen(s) > 40) return; sprintf(line, \"%s\", s); }",
            "void f(const char *s) { char line[64]; if (strlen(s) >= sizeof line) return; strcpy(line, s); }",
        ],
    );
}

#[test]
fn what_leaves_the_function() {
    check_functions(
        "unwritten-bytes",
        &[
            "void f(FILE *o, const char *s) { char r[16]; snprintf(r, sizeof r, \"%s\", s); fwrite(r, 1, sizeof r, o); }",
            "void f(int o, const char *s) { char r[16]; strcpy(r, \"a\"); write(o, r, sizeof(r)); }",
            "void f(FILE *o, const char *s) { char *r = malloc(16); if (!r) return; snprintf(r, 16, \"%s\", s); fwrite(r, 1, 16, o); free(r); }",
        ],
        &[
            "void f(FILE *o, const char *s) { char r[16] = {0}; snprintf(r, sizeof r, \"%s\", s); fwrite(r, 1, sizeof r, o); }",
            "void f(FILE *o, const char *s) { char r[16]; memset(r, 0, sizeof r); strncat(r, s, 15); fwrite(r, 1, sizeof r, o); }",
            "void f(FILE *o, const char *s) { char r[16]; snprintf(r, sizeof r, \"%s\", s); fwrite(r, 1, strlen(r), o); }",
            "void f(FILE *o) { char r[16]; for (int i = 0; i < 16; i++) r[i] = 1; strcpy(r, \"a\"); fwrite(r, 1, sizeof r, o); }",
        ],
    );
    check_functions(
        "joined-path",
        &[
            "int f(const char *s) { char p[99]; snprintf(p, sizeof p, \"notes/%s\", s); FILE *o = fopen(p, \"r\"); return o != NULL; }",
            "int f(const char *s) { char p[99]; if (s[0] == '/') return 0; sprintf(p, \"%s/%s\", \"a\", s); return open(p, 0); }",
        ],
        &[
            "int f(const char *s) { char p[99]; if (strchr(s, '/')) return 0; snprintf(p, sizeof p, \"notes/%s\", s); return open(p, 0); }",
            "int f(const char *s) { char p[99]; snprintf(p, sizeof p, \"/proc/%s\", s); return open(p, 0); }",
            "void f(const char *s) { char p[99]; snprintf(p, sizeof p, \"and/%s\", s); puts(p); }",
        ],
    );
    check_functions(
        "shell-command",
        &[
            "int f(const char *s) { char c[99]; snprintf(c, sizeof c, \"ls %s\", s); return system(c); }",
            "int f(const char *s) { char c[99]; if (strchr(s, ';')) return -1; snprintf(c, sizeof c, \"ls %s\", s); return system(c); }",
            "int f(const char *s, const char *t) { char c[99]; if (!isalnum(*t)) return -1; snprintf(c, sizeof c, \"ls %s\", s); return system(c); }",
        ],
        &[
            "int f(const char *s) { char c[99]; for (const char *p = s; *p; p++) if (!isalnum(*p)) return -1; snprintf(c, sizeof c, \"ls %s\", s); return system(c); }",
            "int f(const char *s) { char c[99]; if (s[strspn(s, \"abc\")]) return -1; snprintf(c, sizeof c, \"ls %s\", s); return system(c); }",
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

#[test]
fn long_conditions_and_sums_are_survived() {
    let many = MAXIMUM_DEPTH / 2;
    for body in [
        format!("const char *p = strchr(s, '='); if ({}s) return 0; return atoi(p);", "s && ".repeat(many)),
        format!("int at = {}i; return t[at];", "i + ".repeat(many)),
        format!("int k = i; {} return t[k];", "if (k < 3) i++; t[k] = 1; ".repeat(many / 10)),
    ] {
        let text = format!("int f(const char *s, int i) {{ int t[3]; {body} }}");
        let parsed = parse(Language::C, &text).unwrap();
        assert!(parsed.is_clean());
        analyze(&parsed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_gives_findings_inside_it(parts in prop::collection::vec(prop::sample::select(PARTS), 0..40)) {
        for text in [parts.concat(), format!("void f(char *out, int size, const char *d, int n) {{ {} }}", parts.concat())] {
            if let Ok(parsed) = parse(Language::C, &text) {
                for finding in analyze(&parsed) {
                    prop_assert!(finding.span.text(&text).is_some_and(|found| !found.is_empty()));
                }
            }
        }
    }
}

const PARTS: &[&str] = &[
    "int f(char *out, size_t size, const unsigned char *data, int length) {\n",
    "char line[8];\n",
    "char *p = malloc(n * size);\n",
    "size_t n = d[0];\n",
    "memcpy(out, d + 1, n);\n",
    "strncat(",
    "sprintf(line, \"%.*s\", ",
    "snprintf(line, 8, \"a/%s\", d);\n",
    "fopen(line, \"r\");\n",
    "fwrite(line, 1, sizeof line, out);\n",
    "if (",
    "for (int i = 0; i <= size; i++) ",
    "while (",
    "out[i] = ",
    "out[",
    "]",
    "*out++ = ",
    "free(p);\n",
    "break;\n",
    "return ",
    "strchr(d, ",
    "'='",
    "system(line)",
    "isalnum(*d)",
    "strlen(d) > 8",
    "size",
    "n",
    "(unsigned) n < ",
    "sum / n",
    " + ",
    " && ",
    " ? ",
    " : ",
    ", ",
    ")",
    "(",
    ";\n",
    "{",
    "}",
    "= ",
    "-",
    "0",
    "é",
    "\"",
    "/* ",
    " */",
];
