//! The reader of C prototypes: what it makes of them, and that it survives everything else.
//!
//! Needs a `python3` on the path; without one the tests say so and check nothing.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs the reader's source and then `checks`.
fn run(checks: &str) {
    let child = Command::new("python3").arg("-").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return println!("skipped: no python3: {error}"),
    };
    let script = format!("{}\n\n{checks}", include_str!("../src/python/prototypes.py"));
    child.stdin.take().expect("it is piped").write_all(script.as_bytes()).expect("the script is read");
    let output = child.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn prototypes_are_read_as_a_compiler_reads_them() {
    run(r##"
def shown(type_):
    const = "const " if type_.constant else ""
    return shown(type_.target) + "*" + const.strip() if type_.kind == "pointer" else const + type_.name

def check(text, expected):
    found = Prototypes(text)
    lines = ["%s %s(%s)" % (shown(f.result), f.name, ", ".join([shown(p) for p in f.parameters] + ["..."] * f.variadic))
             for f in found.functions.values()]
    assert lines == expected, (text, lines)

check("int f(void);", ["int f()"])
check("int f();", ["int f()"])
check("extern unsigned long int f(unsigned, long long int x, char);", ["unsigned long f(unsigned int, long long, char)"])
check("size_t f(const char *s, char const *t, char *const u, const char *const *v);",
      ["size_t f(const char*, const char*, char*const, const char*const*)"])
check("void f(int a[], const int b[4], char c[][8], struct point *p);", ["void f(int*, const int*, char*, struct point*)"])
check("typedef struct { int x; int y[2]; } point; point *f(point *p, point q);", ["struct anonymous* f(struct anonymous*, struct anonymous)"])
check("typedef struct node node_t;\nstruct node { int v; struct node *next; };\nnode_t *f(node_t *n);", ["struct node* f(struct node*)"])
check("enum color { RED, GREEN = 5 };\nenum color f(enum color c);", ["int f(int)"])
check("typedef unsigned char byte; typedef byte *bytes; byte f(bytes b);", ["unsigned char f(unsigned char*)"])
check("/* int no(void); */ // int no(void);\n#define X(a) int no(a);\n#include <a.h>\nint f(int x);", ["int f(int)"])
check("static inline int f(int x) { if (x) { return 1; } return 2; }\nint g(void);", ["int f(int)", "int g()"])
check("int f(const char *format, ...) __attribute__((format(printf, 1, 2)));", ["int f(const char*, ...)"])
check("void f(int (*visit)(void *, int), void *data);", ["void f(function*, void*)"])
check("typedef int (*visit)(int); int f(visit v);", ["int f(function*)"])
check("bool f(_Bool a, double d, uint8_t u, FILE *file, long double l);", ["bool f(bool, double, uint8_t, FILE*, long double)"])
check("int x; extern const char *names[3]; int f(int y);", ["int f(int)"])
check('const char *f(char c); static const char *s = "int no(void);";', ["const char* f(char)"])
"##);
}

#[test]
fn any_text_is_survived() {
    run(r##"
import random
PIECES = ["int ", "char ", "*", "const ", "(", ")", "{", "}", "[", "]", ",", ";", "struct ", "typedef ", "...", "f", "=", "\"", "'", "/*",
          "*/", "//", "\n", "#", "\\", "unsigned ", "enum ", "__attribute__", "void", "3", "\0", "é", "double ", "long "]
for seed in range(20000):
    source = random.Random(seed)
    text = "".join(source.choice(PIECES) for _ in range(source.randint(0, 40)))
    for function in Prototypes(text).functions.values():
        assert function.name and function.result
Prototypes("(" * 100000)
Prototypes("int f(" + "int a, " * 5000 + "int b);")
"##);
}
