//! What needs a look inside.

use super::*;
use crate::job::{Ended, Job};
use crate::run::Policy;

#[test]
fn fields_say_their_length() {
    let mut message = Vec::new();
    field(&mut message, b"a,b:c");
    field(&mut message, b"");
    number(&mut message, 7);
    assert_eq!(message, b"5:a,b:c,0:,1:7,");
}

#[test]
fn answers_are_understood_or_refused() {
    assert_eq!(understood(b"process 12").unwrap(), 12);
    assert_eq!(understood(b"error 11").unwrap_err().source.raw_os_error(), Some(11));
    for nonsense in [&b""[..], b"process", b"process -1", b"process 0", b"process 1 2", b"\xff 3"] {
        assert_eq!(understood(nonsense).unwrap_err().step, Step::Ask);
    }
}

#[test]
fn a_lost_interpreter_is_started_again() {
    let Ok(sandbox) = Sandbox::new(Policy::default()) else {
        return println!("skipped: this machine has no landlock or no seccomp");
    };
    let interpreter = PathBuf::from("/usr/bin/python3");
    if !interpreter.exists() {
        return println!("skipped: {} not found", interpreter.display());
    }
    let programs = vec![("program.py".to_owned(), b"print('alive')".to_vec())];
    let python = sandbox.warm_python(PythonSetup { interpreter, modules: Vec::new(), programs }).unwrap();
    let job = Job::warm(&python, ["program.py"]);
    assert_eq!(sandbox.run(&job).stdout, b"alive\n");
    let process = |python: &WarmPython| python.inner.process.lock().unwrap().as_ref().unwrap().process();
    let first = process(&python);
    // SAFETY: a process that this test started and that has not been waited for.
    unsafe { libc::kill(first, libc::SIGKILL) };
    assert_eq!(sandbox.run(&job).stdout, b"alive\n");
    assert_ne!(process(&python), first);

    // A request larger than a message can be is no reason to give the interpreter up.
    let second = process(&python);
    let long = Job::warm(&python, ["program.py".to_owned(), "x".repeat(4 << 20)]);
    assert!(matches!(sandbox.run(&long).ended, Ended::NotRun { .. }));
    assert_eq!(process(&python), second);
}
