//! What a run can and cannot do, tried by programs that try it.
//!
//! The tests need `sh`, and where they say so `python3` in `/usr/bin`; on a machine without landlock or seccomp there
//! is nothing to try, which the tests say.

use std::path::Path;
use std::time::{Duration, Instant};

use vul2safe_sandbox::{Ended, Job, Limit, Outcome, Policy, Sandbox};

const PYTHON: &str = "/usr/bin/python3";

fn sandbox() -> Option<Sandbox> {
    match Sandbox::new(Policy::default()) {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn python_sandbox() -> Option<Sandbox> {
    if !Path::new(PYTHON).exists() {
        println!("skipped: {PYTHON} not found");
        return None;
    }
    sandbox()
}

fn python(source: &str) -> Job {
    let mut job = Job::new([PYTHON, "-S", "-s", "-B", "program.py"]);
    job.files.push(("program.py".into(), source.as_bytes().to_vec()));
    job
}

fn shell(script: &str) -> Job {
    Job::new(["sh", "-c", script])
}

fn output(outcome: &Outcome) -> String {
    format!(
        "{:?}\n{}\n{}",
        outcome.ended,
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    )
}

#[track_caller]
fn assert_refused(outcome: &Outcome) {
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{}", output(outcome));
    assert_eq!(String::from_utf8_lossy(&outcome.stdout).trim(), "PermissionError", "{}", output(outcome));
}

/// A program that prints the name of the error that `statements` raise.
fn attempt(statements: &str) -> Job {
    let body: String = statements.lines().map(|line| format!("    {line}\n")).collect();
    python(&format!(
        "try:\n{body}    print('done')\nexcept BaseException as error:\n    print(type(error).__name__)\n"
    ))
}

#[test]
fn standard_streams_and_the_report_descriptor() {
    let Some(sandbox) = sandbox() else { return };
    let mut job = shell("cat; echo oops >&2; echo '{\"ok\":true}' >&3; exit 7");
    job.stdin = vec![b'x'; 300_000];
    job.limits.processes = 2;
    let outcome = sandbox.run(&job);
    assert_eq!(outcome.ended, Ended::Exited { code: 7 }, "{}", output(&outcome));
    assert_eq!(outcome.stdout, vec![b'x'; 300_000]);
    assert_eq!(outcome.stderr, b"oops\n");
    assert_eq!(outcome.report, b"{\"ok\":true}\n");
}

#[test]
fn network_is_refused() {
    let Some(sandbox) = python_sandbox() else { return };
    for family in ["AF_INET", "AF_INET6", "AF_UNIX"] {
        let outcome = sandbox.run(&attempt(&format!("import socket\nsocket.socket(socket.{family})")));
        assert_refused(&outcome);
    }
}

#[test]
fn writing_outside_is_refused() {
    let Some(sandbox) = python_sandbox() else { return };
    // The folder is open to every user, so only the sandbox can be what refuses.
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let target = outside.path().join("target");
    for path in [target.to_str().unwrap(), "/usr/lib/vul2safe-test", "/etc/vul2safe-test", "../vul2safe-test"]
    {
        assert_refused(&sandbox.run(&attempt(&format!("open({path:?}, 'w').write('x')"))));
    }
    assert!(!target.exists());
    // A link does not help, and the private folder itself is writable.
    assert_refused(&sandbox.run(&attempt(&format!(
        "import os\nos.symlink({:?}, 'link')\nopen('link', 'w')",
        target.to_str().unwrap()
    ))));
    let outcome = sandbox.run(&attempt("open('inside', 'w').write('x')\nimport os\nos.remove('inside')"));
    assert_eq!(outcome.stdout, b"done\n", "{}", output(&outcome));
}

#[test]
fn reading_a_secret_outside_is_refused() {
    let Some(sandbox) = python_sandbox() else { return };
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "the secret").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let parent = format!("/proc/{}/environ", std::process::id());
    for path in [secret.to_str().unwrap(), repository, parent.as_str(), "/proc/self/environ", "/etc/shadow"] {
        assert_refused(&sandbox.run(&attempt(&format!("print(open({path:?}).read())"))));
    }
    for path in ["/", "/home", "/tmp", "/proc", "/dev/shm", ".."] {
        assert_refused(&sandbox.run(&attempt(&format!("import os\nprint(os.listdir({path:?}))"))));
    }
}

#[test]
fn no_process_can_be_started_unless_allowed() {
    let Some(sandbox) = python_sandbox() else { return };
    assert_refused(&sandbox.run(&attempt("import os\nif os.fork() == 0: os._exit(0)")));
    assert_refused(&sandbox.run(&attempt("import subprocess\nsubprocess.run(['/bin/true'])")));
    let threads = "import threading\nseen = []\nt = threading.Thread(target=lambda: seen.append(1))\nt.start(); t.join()\nassert seen == [1]";
    let outcome = sandbox.run(&attempt(threads));
    assert_eq!(outcome.stdout, b"done\n", "{}", output(&outcome));
    let mut allowed = attempt(
        "import subprocess\nassert subprocess.run('echo a | cat', shell=True, capture_output=True).stdout == b'a\\n'",
    );
    allowed.limits.processes = 4;
    let outcome = sandbox.run(&allowed);
    assert_eq!(outcome.stdout, b"done\n", "{}", output(&outcome));
}

#[test]
fn a_fork_bomb_ends() {
    let Some(sandbox) = python_sandbox() else { return };
    let mut counted = python(
        "import os, time\nstarted = 0\ntry:\n    while started < 100:\n        if os.fork() == 0:\n            time.sleep(30)\n            os._exit(0)\n        started += 1\nexcept BlockingIOError:\n    pass\nprint(started)\n",
    );
    counted.limits.processes = 4;
    let outcome = sandbox.run(&counted);
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{}", output(&outcome));
    let started: u32 = String::from_utf8_lossy(&outcome.stdout).trim().parse().unwrap();
    if Sandbox::capabilities().separate_user {
        assert_eq!(started, 4);
    } else {
        // The limit counts all tasks of the user, whose number changes meanwhile.
        assert!(started < 100);
    }
    assert!(outcome.wall < Duration::from_secs(5), "the sleeping children were not killed");

    let mut bomb =
        python("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n");
    bomb.limits.processes = 4;
    bomb.limits.wall = Duration::from_millis(500);
    let outcome = sandbox.run(&bomb);
    assert_eq!(outcome.ended, Ended::Killed { limit: Limit::WallClock });
    assert!(outcome.wall < Duration::from_secs(5));
}

#[test]
fn an_overlong_run_is_killed() {
    let Some(sandbox) = sandbox() else { return };
    let mut job = shell("exec sleep 60");
    job.limits.wall = Duration::from_millis(300);
    let started = Instant::now();
    let outcome = sandbox.run(&job);
    assert_eq!(outcome.ended, Ended::Killed { limit: Limit::WallClock }, "{}", output(&outcome));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn processor_time_is_limited() {
    let Some(sandbox) = python_sandbox() else { return };
    let mut job = python("while True: pass");
    job.limits.cpu = Duration::from_millis(500);
    job.limits.wall = Duration::from_secs(60);
    assert_eq!(sandbox.run(&job).ended, Ended::Killed { limit: Limit::Cpu });
    // Catching the warning delays the end by a second only.
    let mut stubborn =
        python("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass");
    stubborn.limits = job.limits;
    assert_eq!(sandbox.run(&stubborn).ended, Ended::Killed { limit: Limit::Cpu });
}

#[test]
fn memory_file_size_and_output_are_limited() {
    let Some(sandbox) = python_sandbox() else { return };
    let outcome = sandbox.run(&attempt("block = bytearray(2 << 30)"));
    assert_eq!(outcome.stdout, b"MemoryError\n", "{}", output(&outcome));

    let outcome = sandbox.run(&attempt("open('large', 'wb').write(bytes(20 << 20))"));
    assert_eq!(outcome.stdout, b"OSError\n", "{}", output(&outcome));
    let mut many = python(
        "number = 0\nwhile True:\n    number += 1\n    open('f%d' % number, 'wb').write(bytes(500_000))\n",
    );
    many.limits.file_bytes = 1 << 20;
    let outcome = sandbox.run(&many);
    if Sandbox::capabilities().private_file_system {
        assert_eq!(outcome.ended, Ended::Exited { code: 1 }, "{}", output(&outcome));
        assert!(outcome.folder_full && output(&outcome).contains("No space left"), "{}", output(&outcome));
    } else {
        assert_eq!(outcome.ended, Ended::Killed { limit: Limit::FileSize });
    }
    assert!(!sandbox.run(&attempt("open('small', 'w').write('x')")).folder_full);

    for flood in
        ["import sys\nwhile True: print('x' * 1000)", "import os\nwhile True: os.write(3, b'x' * 1000)"]
    {
        let mut job = python(flood);
        job.limits.output_bytes = 50_000;
        let outcome = sandbox.run(&job);
        assert_eq!(outcome.ended, Ended::Killed { limit: Limit::Output }, "{}", outcome.stdout.len());
        assert!(outcome.stdout.len() <= 50_000 && outcome.report.len() <= 50_000);
    }
}

#[test]
fn a_background_child_dies_with_the_run() {
    let Some(sandbox) = python_sandbox() else { return };
    // Two forks and a new session: the classic way to outlive one's parent. The child would report if it lived on.
    let mut job = python(
        "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.write(1, b'child\\n')\n        time.sleep(2)\n        os.write(3, b'alive')\n        open('alive', 'w')\n    os._exit(0)\ntime.sleep(0.3)\n",
    );
    job.arguments.push("program.py-background".into());
    job.limits.processes = 4;
    let started = Instant::now();
    let outcome = sandbox.run(&job);
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{}", output(&outcome));
    assert_eq!(outcome.stdout, b"child\n");
    assert!(started.elapsed() < Duration::from_millis(1800), "waited for the child");
    assert!(outcome.report.is_empty());
    assert!(!any_process_runs("program.py-background"), "the child lives on");
}

/// Whether some process of this machine has `text` in its command line.
fn any_process_runs(text: &str) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    })
}

#[test]
fn the_environment_and_descriptors_of_the_caller_are_not_inherited() {
    let Some(sandbox) = python_sandbox() else { return };
    let open = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let inheritable = inheritable_duplicate(&open);
    let outcome = sandbox.run(&python(
        "import os\nprint(sorted(os.environ))\nfor number in range(256):\n    try:\n        os.fstat(number)\n        print(number)\n    except OSError:\n        pass\n",
    ));
    let text = String::from_utf8_lossy(&outcome.stdout).to_string();
    assert_eq!(
        text,
        "['HOME', 'LANG', 'PATH', 'PYTHONDONTWRITEBYTECODE', 'PYTHONHASHSEED', 'PYTHONNOUSERSITE', 'TMPDIR', 'TZ']\n0\n1\n2\n3\n"
    );
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the caller has variables to hide");
    drop(inheritable);
}

/// A descriptor that a careless program would pass on: without the close-on-exec mark.
fn inheritable_duplicate(file: &std::fs::File) -> std::os::fd::OwnedFd {
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: duplicates a live descriptor; the new one is owned by the result only.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 20)) }
}

#[test]
fn privileges_are_gone() {
    let Some(sandbox) = python_sandbox() else { return };
    let outcome =
        sandbox.run(&python("import os\nprint(os.getuid(), os.geteuid(), os.getgid(), os.getgroups())"));
    let text = String::from_utf8_lossy(&outcome.stdout).to_string();
    if Sandbox::capabilities().separate_user {
        let user: u64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!(user > 10_000, "{text}");
        assert_eq!(text, format!("{user} {user} {user} []\n"));
    }
    for call in [
        "ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0)",
        "ctypes.CDLL(None, use_errno=True).unshare(0x10000000)",
        "ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0)",
        "ctypes.CDLL(None, use_errno=True).mount(b'a', b'/', b'tmpfs', 0, None)",
        "ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0)",
    ] {
        let outcome = sandbox.run(&attempt(&format!(
            "import ctypes, os\nif {call} < 0: raise OSError(ctypes.get_errno(), 'refused')"
        )));
        assert_refused(&outcome);
    }
    // No process outside can be signalled.
    assert_refused(&sandbox.run(&attempt(&format!("import os\nos.kill({}, 0)", std::process::id()))));
}

#[test]
fn what_cannot_be_run_says_so() {
    let Some(sandbox) = sandbox() else { return };
    let not_run = |job: &Job| match sandbox.run(job).ended {
        Ended::NotRun { why } => why,
        other => panic!("{other:?}"),
    };
    assert!(not_run(&Job::default()).contains("no program"));
    assert!(not_run(&Job::new(["no-such-program"])).contains("no-such-program"));
    assert!(not_run(&Job::new(["sh", "a\0b"])).contains("NUL"));
    assert!(not_run(&Job::new(["./absent"])).contains("cannot execute"));
    let mut outside = shell("true");
    outside.files.push(("../x".into(), Vec::new()));
    assert!(not_run(&outside).contains("private folder"));
}

#[test]
fn programs_of_the_private_folder_run() {
    let Some(sandbox) = sandbox() else { return };
    let mut job = Job::new(["./program"]);
    job.files.push(("program".into(), b"#!/bin/sh\npwd; echo $HOME".to_vec()));
    let outcome = sandbox.run(&job);
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{}", output(&outcome));
    let text = String::from_utf8_lossy(&outcome.stdout).to_string();
    let (here, home) = text.trim().split_once('\n').unwrap();
    assert_eq!(here, home);
    // What is left is at most the empty place at which runs attach their file systems.
    let left = std::fs::read_dir(Path::new(here)).map(|listing| listing.count());
    assert!(!matches!(left, Ok(1..)), "the private folder was not removed");
}

#[test]
fn many_runs_at_once_keep_apart() {
    let Some(sandbox) = python_sandbox() else { return };
    let mut users = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..16)
            .map(|number| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    let mut job = python(
                        "import os, sys, time\nopen('mine', 'x').write(sys.stdin.read())\ntime.sleep(0.2)\nprint(os.getuid(), open('mine').read(), len(os.listdir('.')))\n",
                    );
                    job.stdin = number.to_string().into_bytes();
                    job.limits.wall = Duration::from_secs(30);
                    let outcome = sandbox.run(&job);
                    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{}", output(&outcome));
                    let text = String::from_utf8_lossy(&outcome.stdout).trim().to_string();
                    let words: Vec<&str> = text.split(' ').collect();
                    assert_eq!(words[1..], [number.to_string().as_str(), "2"]);
                    words[0].to_string()
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    users.sort();
    users.dedup();
    if Sandbox::capabilities().separate_user {
        assert_eq!(users.len(), 16);
    }
}

#[test]
fn capabilities_are_named() {
    let capabilities = Sandbox::capabilities();
    println!("enforced: {:#?}\nmissing: {:#?}", capabilities.enforced(), capabilities.missing());
    assert_eq!(capabilities.protects(), Sandbox::new(Policy { allow_unprotected: false }).is_ok());
    if !capabilities.protects() {
        let error = Sandbox::new(Policy::default()).err().unwrap();
        assert!(error.hint().is_some());
    }
}

/// Set for the copy of this test program that is killed.
const VICTIM: &str = "VUL2SAFE_SANDBOX_TEST_VICTIM";

#[test]
fn a_run_dies_with_its_caller() {
    let Some(sandbox) = sandbox() else { return };
    if let Ok(marker) = std::env::var(VICTIM) {
        let mut job = shell(&format!("sleep {marker}"));
        job.limits.processes = if Sandbox::capabilities().process_namespace { 2 } else { 0 };
        job.limits.wall = Duration::from_secs(60);
        if job.limits.processes == 0 {
            // Without a namespace only the first process is certain to die, so it is the one that sleeps.
            job = Job { arguments: shell(&format!("exec sleep {marker}")).arguments, ..job };
        }
        sandbox.run(&job);
        return;
    }
    let marker = format!("61.{}", std::process::id());
    let mut caller = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_run_dies_with_its_caller"])
        .env(VICTIM, &marker)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait_until = |wanted: bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while any_process_runs(&format!("sleep\0{marker}")) != wanted {
            assert!(Instant::now() < deadline, "waited in vain for running = {wanted}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait_until(true);
    caller.kill().unwrap();
    caller.wait().unwrap();
    wait_until(false);
}
