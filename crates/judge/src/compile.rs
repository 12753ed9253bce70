//! Compiling C and C++ answers inside the sandbox.

use std::ffi::OsString;
use std::time::Duration;

use vul2safe_code::Language;
use vul2safe_sandbox::{Ended, Job, Limit, Limits, Outcome, Sandbox};

/// The allocator that every answer is linked with.
const GUARD: &str = include_str!("c/guard.c");

/// What the prototypes of a test may use without including it.
const INCLUDES: &str = "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <sys/types.h>\n";

/// Options that every compiler in question knows.
const OPTIONS: &[&str] = &[
    "-O1",
    "-fPIC",
    "-w",
    "-U_FORTIFY_SOURCE",
    "-fno-builtin-malloc",
    "-fno-builtin-calloc",
    "-fno-builtin-realloc",
    "-fno-builtin-free",
    "-fno-builtin-strdup",
    "-fno-builtin-strndup",
];

/// Options that are used where the compiler knows them.
const PROTECTIONS: &[&str] = &[
    "-D_FORTIFY_SOURCE=3",
    "-fstack-protector-all",
    "-fsanitize=undefined,bounds-strict",
    // Blocks end where their pages end, so their beginnings are aligned to nothing.
    "-fno-sanitize=alignment,vptr",
    "-fsanitize-undefined-trap-on-error",
    "-ftrivial-auto-var-init=pattern",
    "-fno-delete-null-pointer-checks",
];

/// Functions of the C library whose calls go to the guard.
const WRAPPED: &[&str] = &[
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "strdup",
    "strndup",
    "aligned_alloc",
    "posix_memalign",
    "asprintf",
    "vasprintf",
    "__asprintf_chk",
    "__vasprintf_chk",
    "signal",
    "sigaction",
];

/// What the tests say about the answer's surroundings: texts of C at the top level of their source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Surroundings {
    /// `C = """…"""`: the prototypes, before the answer.
    pub(crate) prototypes: String,
    /// `HELPERS = """…"""`: a file of its own, compiled with the answer.
    pub(crate) helpers: String,
}

impl Surroundings {
    pub(crate) fn of(tests: &str) -> Surroundings {
        Surroundings {
            prototypes: text_of(tests, "C").unwrap_or_default(),
            helpers: text_of(tests, "HELPERS").unwrap_or_default(),
        }
    }
}

/// The value of a top-level `NAME = """…"""` (or `'''`, or raw) in a Python source.
fn text_of(source: &str, name: &str) -> Option<String> {
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let value = line.strip_prefix(name).map(str::trim_start).and_then(|rest| rest.strip_prefix('='));
        if let Some(value) = value.map(str::trim_start) {
            let raw = value.starts_with(['r', 'R']);
            let quoted = value.trim_start_matches(['r', 'R']);
            if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|quotes| quoted.starts_with(quotes)) {
                let text = &source[start + line.len() - quoted.len() + quotes.len()..];
                return closed(text, quotes, raw);
            }
        }
        start += line.len();
    }
    None
}

/// The text up to the closing quotes, with Python's common escapes replaced unless it is raw.
fn closed(text: &str, quotes: &str, raw: bool) -> Option<String> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        if rest.starts_with(quotes) {
            return Some(value);
        }
        let mut characters = rest.chars();
        let character = characters.next()?;
        if character != '\\' {
            value.push(character);
            rest = characters.as_str();
            continue;
        }
        let escaped = characters.next()?;
        match escaped {
            _ if raw => value.extend(['\\', escaped]),
            'n' => value.push('\n'),
            't' => value.push('\t'),
            'r' => value.push('\r'),
            '0' => value.push('\0'),
            '\\' | '\'' | '"' => value.push(escaped),
            '\n' => {}
            // Python keeps what it does not know.
            _ => value.extend(['\\', escaped]),
        }
        rest = characters.as_str();
    }
}

/// Why there is no compiled answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uncompiled {
    /// The compiler refuses the text.
    Refused(String),
    /// Nothing is known about the text.
    NotRun(String),
}

/// A compiler that works inside the sandbox, with what it knows and the compiled allocator.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    name: &'static str,
    kind: &'static str,
    protections: Vec<String>,
    guard: Vec<u8>,
}

impl Compiler {
    /// `Err` says why there is none.
    pub(crate) fn find(sandbox: &Sandbox, language: Language) -> Result<Compiler, String> {
        if language == Language::Cpp {
            Compiler::named(sandbox, "g++", "c++")
        } else {
            Compiler::named(sandbox, "gcc", "c")
        }
    }

    fn named(sandbox: &Sandbox, name: &'static str, kind: &'static str) -> Result<Compiler, String> {
        const PROBE: &str = "echo 'int x;' > probe\ncompiler=$1\nkind=$2\nshift 2\nfor flag in \"$@\"; do\n\
                             \"$compiler\" -O1 \"$flag\" -x \"$kind\" -c probe -o probe.o 2>/dev/null && echo \"$flag\"\ndone\n\
                             \"$compiler\" -O1 -fPIC -w -x c -c guard.c -o guard.o && cat guard.o >&3\n";
        let mut job =
            job(vec!["sh".into(), "-c".into(), PROBE.into(), "sh".into(), name.into(), kind.into()]);
        job.arguments.extend(PROTECTIONS.iter().map(Into::into));
        job.files.push(("guard.c".into(), GUARD.as_bytes().to_vec()));
        let outcome = sandbox.run(&job);
        if outcome.report.is_empty() || outcome.ended != (Ended::Exited { code: 0 }) {
            let why = String::from_utf8_lossy(&outcome.stderr).lines().last().unwrap_or_default().to_owned();
            return Err(format!("no working {name}: {} {why}", ended(&outcome)));
        }
        let known = String::from_utf8_lossy(&outcome.stdout);
        Ok(Compiler {
            name,
            kind,
            protections: known.lines().map(str::to_owned).collect(),
            guard: outcome.report,
        })
    }

    /// The answer as a shared object.
    pub(crate) fn compile(
        &self,
        sandbox: &Sandbox,
        answer: &str,
        surroundings: &Surroundings,
    ) -> Result<Vec<u8>, Uncompiled> {
        let (open, close) = if self.kind == "c++" { ("extern \"C\" {\n", "\n}\n") } else { ("", "\n") };
        let head = format!(
            "#define _GNU_SOURCE\n{INCLUDES}{open}#line 1 \"tests\"\n{}{close}",
            surroundings.prototypes
        );
        let mut arguments: Vec<OsString> = vec![
            "sh".into(),
            "-c".into(),
            "\"$@\" && cat answer.so >&3".into(),
            "sh".into(),
            self.name.into(),
        ];
        arguments.extend(OPTIONS.iter().map(Into::into));
        arguments.extend(self.protections.iter().map(Into::into));
        arguments.extend(["-shared", "-Wl,-Bsymbolic,-z,defs,-z,now", "-o", "answer.so"].map(Into::into));
        arguments.extend(WRAPPED.iter().map(|name| format!("-Wl,--wrap={name}").into()));
        arguments.extend(["-x", self.kind, "answer.source"].map(Into::into));
        let mut files = vec![
            ("answer.source".to_string(), format!("{head}#line 1 \"answer\"\n{answer}\n").into_bytes()),
            ("guard.o".to_string(), self.guard.clone()),
        ];
        if !surroundings.helpers.is_empty() {
            let text = format!("{head}{open}#line 1 \"helpers\"\n{}{close}", surroundings.helpers);
            files.push(("helpers.source".to_string(), text.into_bytes()));
            arguments.push("helpers.source".into());
        }
        arguments.extend(["-x", "none", "guard.o", "-lm", "-lpthread"].map(Into::into));
        let outcome = sandbox.run(&Job { files, ..job(arguments) });
        match &outcome.ended {
            Ended::Exited { code: 0 } if !outcome.report.is_empty() => Ok(outcome.report),
            Ended::Exited { .. } => {
                let errors = String::from_utf8_lossy(&outcome.stderr);
                let first = errors
                    .lines()
                    .find(|line| line.contains("error:") || line.contains("undefined reference"))
                    .or(errors.lines().next())
                    .unwrap_or("no message")
                    .trim()
                    .to_string();
                // Only an answer can be wrong; a compiler or a file system that fails says something else.
                if first.starts_with("tests:") || first.starts_with("helpers:") {
                    return Err(Uncompiled::NotRun(format!("the tests' C text does not compile: {first}")));
                }
                if errors.contains("No space left on device") || errors.contains("Cannot allocate memory") {
                    return Err(Uncompiled::NotRun(format!("the compiler failed: {first}")));
                }
                // A prototype that does not end is seen where the answer begins, so the tests' text is tried alone.
                let alone =
                    vec![("tests.source".to_string(), format!("{head}int vul2safe_end;\n").into_bytes())];
                let arguments = [self.name, "-fsyntax-only", "-w", "-x", self.kind, "tests.source"];
                let outcome = sandbox.run(&Job { files: alone, ..job(arguments.map(Into::into).to_vec()) });
                if outcome.ended != (Ended::Exited { code: 0 }) {
                    return Err(Uncompiled::NotRun(format!("the tests' C text does not compile: {first}")));
                }
                Err(Uncompiled::Refused(first))
            }
            // The machine may be busy; processor time and memory are the text's own doing.
            Ended::Killed { limit: Limit::WallClock } => {
                Err(Uncompiled::NotRun("the compiler did not end in its time".into()))
            }
            Ended::Killed { limit } => {
                Err(Uncompiled::Refused(format!("the compiler reached the limit on {limit}")))
            }
            _ => Err(Uncompiled::NotRun(format!("the compiler failed: {}", ended(&outcome)))),
        }
    }
}

/// A job for a compiler: it starts processes of its own and writes large files.
fn job(arguments: Vec<OsString>) -> Job {
    Job {
        arguments,
        limits: Limits {
            wall: Duration::from_secs(60),
            cpu: Duration::from_secs(20),
            memory_bytes: 4 << 30,
            file_bytes: 16 << 20,
            output_bytes: 16 << 20,
            processes: 16,
        },
        ..Job::default()
    }
}

fn ended(outcome: &Outcome) -> String {
    match &outcome.ended {
        Ended::NotRun { why } => why.clone(),
        Ended::Exited { code } => format!("exit status {code}"),
        Ended::Signalled { signal } => format!("signal {signal}"),
        Ended::Killed { limit } => format!("reached the limit on {limit}"),
        Ended::WithLeader => "was ended with another process".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_c_are_found_in_the_tests() {
        let tests = "import os\nC = \"\"\"\nint f(int x);  /* \\\"quoted\\\" */\n\"\"\"\nHELPERS = r'''char *s = \"a\\n\";'''\n\
                     def test_x(answer):\n    C = \"\"\"inner\"\"\"\n";
        let found = Surroundings::of(tests);
        assert_eq!(found.prototypes, "\nint f(int x);  /* \"quoted\" */\n");
        assert_eq!(found.helpers, "char *s = \"a\\n\";");
        assert_eq!(Surroundings::of("CC = \"\"\"x\"\"\"\nC = 1\n"), Surroundings::default());
        assert_eq!(text_of("C = \"\"\"never closed", "C"), None);
        assert_eq!(text_of("C = \"\"\"a\\\\n\\n\"\"\"", "C").as_deref(), Some("a\\n\n"));
    }

    #[test]
    fn a_missing_compiler_is_named() {
        let Ok(sandbox) = Sandbox::new(vul2safe_sandbox::Policy::default()) else {
            return println!("skipped: no sandbox");
        };
        let why = Compiler::named(&sandbox, "no-such-compiler", "c").expect_err("there is none");
        assert!(why.contains("no working no-such-compiler"), "{why}");
    }

    proptest::proptest! {
        #[test]
        fn any_source_is_survived(source in "(C = )?(\"\"\"|''')?[a\\\\n\"'\u{e9}\n]{0,40}") {
            Surroundings::of(&source);
        }
    }
}
