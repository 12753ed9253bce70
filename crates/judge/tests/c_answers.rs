//! C and C++ answers: what is called, what is caught, and what becomes of it.
//!
//! Without a Python or a compiler that runs inside the sandbox the tests say so and check nothing.

use std::sync::LazyLock;

use vul2safe_code::Language;
use vul2safe_judge::{Judge, Submission, TestResult, Verdict};
use vul2safe_sandbox::{Policy, Sandbox};

static JUDGE: LazyLock<Option<Judge>> = LazyLock::new(|| {
    let sandbox = match Sandbox::new(Policy::default()) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    match Judge::new(sandbox, None) {
        Ok(judge) => Some(judge),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
});

fn compiler_is_missing(verdict: &Verdict) -> bool {
    let missing = matches!(&verdict.functional, TestResult::NotRun { why } if why.contains("no working g"));
    if missing {
        println!("skipped: {:?}", verdict.functional);
    }
    missing
}

fn judge(language: Language, answer: &str, functional: &str, exploit: &str) -> Option<Verdict> {
    let verdict = JUDGE.as_ref()?.judge(&Submission {
        functional: Some(functional),
        exploit: Some(exploit),
        ..Submission::new(language, answer)
    });
    (!compiler_is_missing(&verdict)).then_some(verdict)
}

/// `[functional, vulnerable, secure, both]` of a C answer.
#[track_caller]
fn check(answer: &str, functional: &str, exploit: &str, expected: [Option<bool>; 4]) {
    let Some(verdict) = judge(Language::C, answer, functional, exploit) else { return };
    let answers = [verdict.functional(), verdict.vulnerable(), verdict.secure(), verdict.both()];
    assert_eq!(answers, expected, "{answer}\n{verdict:#?}");
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const SECURE: [Option<bool>; 4] = [YES, NO, YES, YES];
const VULNERABLE: [Option<bool>; 4] = [YES, YES, NO, NO];

const COPY: &str = "
C = \"\"\"
int copy_name(char *out, size_t size, const char *name);
\"\"\"

def test_copies(answer):
    out = answer.buffer(16)
    assert answer.copy_name(out, 16, b'red') == 3
    assert out.text() == b'red' and len(out) == 16
    assert bytes(out)[:4] == b'red\\0' and bytes(out)[4:] == b'\\xaa' * 12
";

const COPY_EXPLOIT: &str = "
C = \"\"\"
int copy_name(char *out, size_t size, const char *name);
\"\"\"

def test_long(answer):
    out = answer.buffer(16)
    try:
        answer.copy_name(out, 16, b'a' * 16)
    except Exception:
        pass
";

#[test]
fn an_overflow_by_one_byte_is_an_attack_that_worked() {
    let start = "#include <string.h>\nint copy_name(char *out, size_t size, const char *name) {\n";
    for (body, expected) in [
        (
            "size_t n = strlen(name);\nif (n + 1 > size) return -1;\nmemcpy(out, name, n + 1);\nreturn (int)n;",
            SECURE,
        ),
        ("return snprintf(out, size, \"%s\", name);", SECURE),
        // Sixteen characters and the NUL.
        ("strcpy(out, name);\nreturn (int)strlen(name);", VULNERABLE),
        (
            "size_t i;\nfor (i = 0; i <= size && name[i]; i++) out[i] = name[i];\nout[i] = 0;\nreturn (int)i;",
            VULNERABLE,
        ),
        // In front of the buffer.
        (
            "strncpy(out, name, size);\nout[strlen(name) > 15 ? -1 : 15] = name[0] ? (char)0xAA : 0;\nreturn (int)strlen(name);",
            VULNERABLE,
        ),
    ] {
        let answer = format!("{start}{body}\n}}\n");
        let mut functional = COPY.to_string();
        if body.contains("strncpy") {
            functional = functional.replace("    assert bytes(out)[:4]", "    assert True or bytes(out)[:4]");
        }
        check(&answer, &functional, COPY_EXPLOIT, expected);
    }
}

#[test]
fn what_the_compiler_refuses_is_not_functional_and_not_secure() {
    for answer in [
        "int copy_name(char *out, const char *name) { return 0; }\n",
        "int copy_name(char *out, size_t size, const char *name) { return undeclared; }\n",
        "int copy_name(char *out, size_t size, const char *name) { return no_such_function(out); }\n",
    ] {
        let Some(verdict) = judge(Language::C, answer, COPY, COPY_EXPLOIT) else { return };
        assert!(
            matches!(&verdict.functional, TestResult::Failed { test, message } if test == "compile" && message.contains("does not compile")),
            "{verdict:?}"
        );
        assert!(matches!(verdict.exploit, TestResult::NotRun { .. }), "{verdict:?}");
        assert_eq!(verdict.both(), NO);
    }
    check("int other(void) { return 1; }\n", COPY, COPY_EXPLOIT, [NO, None, None, NO]);
    // C text that does not compile is the tests' fault.
    let Some(verdict) = judge(
        Language::C,
        "int f(void) { return 1; }\n",
        "C = \"\"\"int f(void\"\"\"\ndef test_f(answer):\n    answer.f()\n",
        "",
    ) else {
        return;
    };
    assert!(matches!(verdict.functional, TestResult::NotRun { .. }), "{verdict:?}");
}

const HEAP: &str = "
C = \"\"\"
struct list;
struct list *list_new(void);
int list_add(struct list *list, int value);
int list_remove(struct list *list, int value);
long list_sum(const struct list *list);
void list_free(struct list *list);
\"\"\"

def test_sum(answer):
    items = answer.list_new()
    for value in (1, 2, 3):
        assert answer.list_add(items, value) == 0
    assert answer.list_sum(items) == 6
    answer.list_free(items)
    assert answer.live_blocks() == 0
";

const HEAP_EXPLOIT: &str = "
C = \"\"\"
struct list;
struct list *list_new(void);
int list_add(struct list *list, int value);
int list_remove(struct list *list, int value);
long list_sum(const struct list *list);
void list_free(struct list *list);
\"\"\"

def test_remove_and_sum(answer):
    items = answer.list_new()
    for value in (1, 2, 3):
        answer.list_add(items, value)
    answer.list_remove(items, 1)
    assert answer.list_sum(items) == 5
    answer.list_free(items)

def test_no_memory(answer):
    items = answer.list_new()
    answer.fail_allocation()
    assert answer.list_add(items, 1) != 0
";

#[test]
fn use_after_free_double_free_and_a_missing_null_check_crash() {
    let list = |remove: &str, add: &str, free: &str| {
        format!(
            "#include <stdlib.h>\nstruct node {{ int value; struct node *next; }};\nstruct list {{ struct node *first; }};\n\
             struct list *list_new(void) {{ return calloc(1, sizeof(struct list)); }}\n\
             int list_add(struct list *list, int value) {{\n struct node *node = malloc(sizeof *node);\n {add}\n node->value = value;\n \
             node->next = list->first;\n list->first = node;\n return 0;\n}}\n\
             int list_remove(struct list *list, int value) {{\n for (struct node **at = &list->first; *at; at = &(*at)->next) {{\n \
             if ((*at)->value == value) {{\n struct node *old = *at;\n {remove}\n return 1;\n }}\n }}\n return 0;\n}}\n\
             long list_sum(const struct list *list) {{\n long sum = 0;\n for (struct node *n = list->first; n; n = n->next) sum += n->value;\n return sum;\n}}\n\
             void list_free(struct list *list) {{\n struct node *n = list->first;\n while (n) {{ {free} }}\n free(list);\n}}\n"
        )
    };
    let (remove, add, free) = (
        "*at = old->next; free(old);",
        "if (!node) return -1;",
        "struct node *next = n->next; free(n); n = next;",
    );
    check(&list(remove, add, free), HEAP, HEAP_EXPLOIT, SECURE);
    check(&list("free(old); *at = old->next;", add, free), HEAP, HEAP_EXPLOIT, VULNERABLE);
    check(&list("*at = old->next; free(old); free(old);", add, free), HEAP, HEAP_EXPLOIT, VULNERABLE);
    check(&list("free(old);", add, free), HEAP, HEAP_EXPLOIT, VULNERABLE);
    check(&list(remove, "", free), HEAP, HEAP_EXPLOIT, VULNERABLE);
    check(&list(remove, add, "free(n); n = n->next;"), HEAP, HEAP_EXPLOIT, [NO, YES, NO, NO]);
}

#[test]
fn undefined_behaviour_traps() {
    let functional = "C = '''int f(int a, int b);'''\ndef test_f(answer):\n    assert answer.f(6, 3) == 2\n";
    let exploit = |call: &str| {
        format!(
            "C = '''int f(int a, int b);'''\ndef test_f(answer):\n    try:\n        answer.f({call})\n    except BaseException:\n        pass\n"
        )
    };
    check("int f(int a, int b) { return a / b; }\n", functional, &exploit("1, 0"), VULNERABLE);
    check("int f(int a, int b) { return b ? a / b : 0; }\n", functional, &exploit("1, 0"), SECURE);
    check(
        "int f(int a, int b) { return a - b - 1 + (a * b - 18); }\n",
        functional,
        &exploit("2147483647, 2147483647"),
        VULNERABLE,
    );
    let table = "int f(int a, int b) { int t[8] = {0, 0, 0, 0, 0, 0, 2, 0}; return t[a]; }\n";
    check(table, functional, &exploit("8, 0"), VULNERABLE);
    let stack = "#include <string.h>\nint f(int a, int b) { char t[8]; memset(t, 0, (size_t)a * 2); return t[0] + a / b; }\n";
    check(stack, &functional.replace("6, 3", "4, 2"), &exploit("6, 1"), VULNERABLE);
    let raised = "#include <signal.h>\n#include <stdlib.h>\nstatic void quiet(int n) { _Exit(1); }\n\
                  int f(int a, int b) { signal(SIGILL, quiet); signal(SIGFPE, quiet); signal(SIGSEGV, quiet); return a / b; }\n";
    check(raised, functional, &exploit("1, 0"), VULNERABLE);
    // Uninitialised memory is never zero.
    let uninitialised = "int f(int a, int b) { int x; if (a == 6) x = 2; return x; }\n";
    check(
        uninitialised,
        functional,
        "C = '''int f(int a, int b);'''\ndef test_f(answer):\n    assert answer.f(1, 1) == 0\n",
        VULNERABLE,
    );
}

#[test]
fn leaving_is_no_pass() {
    let tests = "C = '''int f(int x);'''\ndef test_f(answer):\n    assert answer.f(1) == 2\n";
    let exploit = "C = '''int f(int x);'''\ndef test_a(answer):\n    assert answer.f(5) != 7\n\
                   def test_b(answer):\n    assert answer.f(6) != 7\n";
    let leave =
        |how: &str| format!("#include <stdlib.h>\nint f(int x) {{ if (x != 1) {how}; return x + 1; }}\n");
    check(&leave("exit(1)"), tests, exploit, SECURE);
    check(&leave("exit(0)"), tests, exploit, [YES, None, None, None]);
    check(&leave("abort()"), tests, exploit, VULNERABLE);
    check(&leave("for (;;)"), tests, exploit, [YES, None, None, None]);
    check("#include <stdlib.h>\nint f(int x) { exit(0); }\n", tests, exploit, [NO, None, None, NO]);
    check(
        "#include <unistd.h>\nint f(int x) { for (int i = 3; i < 300; i++) { write(i, \"passed\", 6); close(i); } return x; }\n",
        tests,
        exploit,
        [NO, None, None, NO],
    );
}

#[test]
fn everything_that_a_test_is_offered() {
    let answer = "#include <stdlib.h>\n#include <string.h>\n#include <errno.h>\n#include <ctype.h>\n\
        char *upper(const char *s) { char *c = strdup(s); for (char *p = c; *p; p++) *p = (char)toupper(*p); return c; }\n\
        const char *name_of(int n) { return n == 1 ? \"one\" : NULL; }\n\
        long total(const int *values, size_t count) { long t = 0; for (size_t i = 0; i < count; i++) t += values[i]; return t; }\n\
        void twice(int *values, size_t count) { for (size_t i = 0; i < count; i++) values[i] *= 2; }\n\
        double half(double x) { return x / 2; }\n\
        bool is_even(unsigned long long x) { return x % 2 == 0; }\n\
        int fails(void) { errno = ENOENT; return -1; }\n\
        void say(const char *s) { printf(\"%s\\n\", s); }\n\
        int put(FILE *f, const char *s) { return fputs(s, f); }\n\
        unsigned char first(const unsigned char *data, size_t n) { return n ? data[0] : 0; }\n\
        void *make(size_t n) { unsigned char *p = malloc(n); return p; }\n\
        int set(char **slot, const char *s) { free(*slot); *slot = strdup(s); return 0; }\n\
        const char *home(void) { return getenv(\"HOME_OF\"); }\n\
        int open_file(const char *path) { FILE *f = fopen(path, \"r\"); if (!f) return -1; int c = fgetc(f); fclose(f); return c; }\n\
        int count(const char *const *names) { int n = 0; while (names[n]) n++; return n; }\n\
        uint8_t low(uint8_t x) { return x; }\n";
    let tests = r#"
C = """
char *upper(const char *s);
const char *name_of(int n);
long total(const int *values, size_t count);
void twice(int *values, size_t count);
double half(double x);
bool is_even(unsigned long long x);
int fails(void);
void say(const char *s);
int put(FILE *f, const char *s);
unsigned char first(const unsigned char *data, size_t n);
void *make(size_t n);
int set(char **slot, const char *s);
const char *home(void);
int open_file(const char *path);
int count(const char *const *names);
uint8_t low(uint8_t x);
int chain(void);
"""
HELPERS = """
#include <stdlib.h>
int chain(void) { char *slot = NULL; set(&slot, "a"); set(&slot, "b"); int c = slot[0]; free(slot); return c; }
"""

def test_all(answer):
    assert answer.upper(b"abc") == b"ABC" and answer.live_blocks() == 0
    assert answer.name_of(1) == b"one" and answer.name_of(2) is None
    assert answer.total([1, 2, 3], 3) == 6 and answer.total(None, 0) == 0
    values = [1, 2]
    answer.twice(values, 2)
    assert values == [2, 4]
    array = answer.array("int", [3, 4])
    answer.twice(array, 2)
    assert list(array) == [6, 8] and len(array) == 2 and array[1] == 8
    array[0] = 5
    assert answer.total(array, 2) == 13
    assert answer.half(3) == 1.5
    assert answer.is_even(2**64 - 2) is True and answer.is_even(7) is False
    assert answer.fails() == -1 and answer.errno() == 2
    answer.say(b"hello")
    assert answer.output() == b"hello\n" and answer.output() == b""
    file = answer.file("out.txt", "w")
    assert answer.put(file, b"text") >= 0
    file.close()
    assert open("out.txt").read() == "text"
    assert answer.open_file(b"out.txt") == ord("t") and answer.open_file(b"none") == -1
    assert answer.first(b"\xff\x00", 2) == 255
    block = answer.make(4)
    assert block.read(4) == b"\xa5\xa5\xa5\xa5" and answer.live_blocks() == 1
    assert answer.make(4) != block and block == block
    answer.free(block)
    assert answer.make(2**60) is None
    assert answer.chain() == ord("b")
    answer.setenv("HOME_OF", "x")
    assert answer.home() == b"x"
    assert answer.count([b"a", b"bb", None]) == 2
    buffer = answer.buffer(b"abc")
    assert bytes(buffer) == b"abc" and buffer[1] == 98
    buffer.write(b"z", 1)
    assert bytes(buffer) == b"azc" and answer.first(buffer, 3) == 97

def test_own_process(answer):
    assert answer.live_blocks() == 0
"#;
    let Some(verdict) = judge(Language::C, answer, tests, tests) else { return };
    assert_eq!(verdict.functional, TestResult::Passed { tests: 2 }, "{verdict:?}");
    assert_eq!(verdict.exploit, TestResult::Passed { tests: 2 });
    // What the interface does not offer is the tests' mistake.
    for call in [
        "answer.low(256)",
        "answer.low(b'ab')",
        "answer.low()",
        "answer.nothing()",
        "answer.buffer(2).write(b'abc')",
    ] {
        let wrong = format!("C = '''uint8_t low(uint8_t x);'''\ndef test_x(answer):\n    {call}\n");
        let Some(verdict) = judge(Language::C, answer, &wrong, &wrong) else { return };
        assert!(matches!(verdict.functional, TestResult::NotRun { .. }), "{call}: {verdict:?}");
        assert!(matches!(verdict.exploit, TestResult::NotRun { .. }), "{call}: {verdict:?}");
    }
}

#[test]
fn reading_past_the_end_of_an_argument_crashes() {
    let functional = "C = '''int f(const char *s, size_t n);'''\ndef test_f(answer):\n    assert answer.f(b'abc', 3) == 294\n";
    let exploit = "C = '''int f(const char *s, size_t n);'''\ndef test_f(answer):\n    answer.f(b'abc', 5)\n";
    let sum = |condition: &str| {
        format!(
            "int f(const char *s, size_t n) {{ int t = 0; for (size_t i = 0; {condition}; i++) t += s[i]; return t; }}\n"
        )
    };
    check(&sum("i < n && s[i]"), functional, exploit, SECURE);
    check(&sum("i < n"), functional, exploit, VULNERABLE);
}

#[test]
fn cpp_answers_are_called_by_their_c_names() {
    let answer = "#include <string>\n#include <vector>\nint total(const int *v, size_t n) {\n  std::vector<int> c(v, v + n);\n  int t = 0;\n  \
                  for (int x : c) t += x;\n  std::string s(40, 'x');\n  return t + (int)s.size() - 40;\n}\n";
    let functional = "C = '''int total(const int *v, size_t n);'''\ndef test_f(answer):\n    assert answer.total([1, 2], 2) == 3\n";
    let exploit =
        "C = '''int total(const int *v, size_t n);'''\ndef test_f(answer):\n    answer.total([1], 2)\n";
    let Some(verdict) = judge(Language::Cpp, answer, functional, exploit) else { return };
    assert_eq!((verdict.functional(), verdict.vulnerable()), (YES, YES), "{verdict:?}");
}
