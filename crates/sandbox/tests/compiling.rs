//! C programs: the compiler runs inside the sandbox, and so does what it makes.
//!
//! Where no C compiler is found there is nothing to try, which the test says.

use std::path::Path;
use std::time::Duration;

use vul2safe_sandbox::{Ended, Job, Policy, Sandbox};

const COMPILERS: [(&str, &str); 2] = [("/usr/bin/gcc", "program.c"), ("/usr/bin/g++", "program.cc")];

/// Compiles inside the sandbox and returns the program.
fn compile(sandbox: &Sandbox, compiler: &str, file: &str, options: &[&str], source: &str) -> Vec<u8> {
    let mut job = Job::new(["sh", "-c", "\"$0\" \"$@\" && cat program >&3", compiler, file, "-o", "program"]);
    job.arguments.extend(options.iter().map(Into::into));
    job.files.push((file.into(), source.as_bytes().to_vec()));
    job.limits.processes = 16;
    job.limits.wall = Duration::from_secs(60);
    job.limits.cpu = Duration::from_secs(60);
    let outcome = sandbox.run(&job);
    let error = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{error}");
    assert!(outcome.report.starts_with(b"\x7fELF"), "{error}");
    outcome.report
}

fn run(sandbox: &Sandbox, program: &[u8], arguments: &[&str]) -> (Ended, String) {
    let mut job = Job::new(["./program"]);
    job.arguments.extend(arguments.iter().map(Into::into));
    job.files.push(("program".into(), program.to_vec()));
    let outcome = sandbox.run(&job);
    (outcome.ended, String::from_utf8_lossy(&outcome.stdout).into_owned())
}

#[test]
fn a_compiler_and_its_program_run() {
    let sandbox = match Sandbox::new(Policy::default()) {
        Ok(sandbox) => sandbox,
        Err(error) => return println!("skipped: {error}"),
    };
    for (compiler, file) in COMPILERS {
        if !Path::new(compiler).exists() {
            println!("skipped: {compiler} not found");
            continue;
        }
        let source = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
                      int main(int count, char **words) {\n    char room[8];\n    volatile int largest = 2147483647;\n\
                      if (!strcmp(words[1], \"copy\")) strcpy(room, words[2]);\n\
                      else if (!strcmp(words[1], \"add\")) largest += count;\n    else abort();\n\
                      printf(\"fine %d\\n\", room[0] != 0);\n    return 0;\n}\n";
        let options =
            ["-O1", "-D_FORTIFY_SOURCE=3", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"];
        let program = compile(&sandbox, compiler, file, &options, source);
        assert_eq!(
            run(&sandbox, &program, &["copy", "short"]),
            (Ended::Exited { code: 0 }, "fine 1\n".into())
        );
        // The C library's check of the copy ends the program with SIGABRT, the sanitizer's trap with SIGILL; both are
        // what the program itself does, and no limit.
        let (ended, text) = run(&sandbox, &program, &["copy", "far too long for this"]);
        assert_eq!((ended, text.as_str()), (Ended::Signalled { signal: libc::SIGABRT }, ""));
        let (ended, _) = run(&sandbox, &program, &["add", "x"]);
        assert!(
            matches!(ended, Ended::Signalled { signal } if signal == libc::SIGILL || signal == libc::SIGTRAP),
            "{ended:?}"
        );
        assert_eq!(run(&sandbox, &program, &["abort"]).0, Ended::Signalled { signal: libc::SIGABRT });
    }
}
