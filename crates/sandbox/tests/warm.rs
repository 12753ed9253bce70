//! Runs of a warm interpreter: the same as cold ones, but for the time they take.

use std::path::Path;
use std::time::Duration;

use vul2safe_sandbox::{Ended, Job, Limit, Outcome, Policy, PythonSetup, Sandbox, SandboxError, WarmPython};

const PYTHON: &str = "/usr/bin/python3";

fn sandbox() -> Option<Sandbox> {
    if !Path::new(PYTHON).exists() {
        println!("skipped: {PYTHON} not found");
        return None;
    }
    match Sandbox::new(Policy::default()) {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn setup(programs: &[(&str, &str)]) -> PythonSetup {
    PythonSetup {
        interpreter: PYTHON.into(),
        modules: vec!["json".into(), "re".into()],
        programs: programs
            .iter()
            .map(|(name, source)| (name.to_string(), source.as_bytes().to_vec()))
            .collect(),
    }
}

fn warm(sandbox: &Sandbox, source: &str) -> WarmPython {
    sandbox.warm_python(setup(&[("program.py", source)])).unwrap_or_else(|error| panic!("{error}"))
}

fn text(outcome: &Outcome) -> String {
    format!(
        "{:?}\n{}\n{}",
        outcome.ended,
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    )
}

/// Tells everything about itself that a program can see without trying.
const SELF_PORTRAIT: &str = "import os, sys, json, resource, threading\n\
print(__name__, __file__, sys.argv, sorted(os.environ))\n\
print([k for k in sorted(os.environ) if os.environ[k] != os.popen], os.getcwd() == os.environ['HOME'], sys.path[0] == os.getcwd())\n\
print(os.getgroups(), oct(os.umask(0o77)), sorted(os.listdir('.')))\n\
print([resource.getrlimit(getattr(resource, n)) for n in sorted(dir(resource)) if n.startswith('RLIMIT')])\n\
for number in range(256):\n    try:\n        os.fstat(number)\n        print(number)\n    except OSError:\n        pass\n\
print(sys.stdin.read(), sys.stdout.encoding, sys.stdout.line_buffering, hash('x'))\n\
print([line for line in open('given')])\n\
os.write(3, b'report')\n\
print(sys.modules['__main__'].__dict__ is globals(), threading.main_thread() is threading.current_thread())\n\
try:\n    os.setuid(0)\nexcept OSError as error:\n    print(error)\n";

#[test]
fn a_warm_run_is_a_cold_run() {
    let Some(sandbox) = sandbox() else { return };
    let python = warm(&sandbox, SELF_PORTRAIT);
    let mut warm_job = Job::warm(&python, ["program.py", "one", "two"]);
    let mut cold_job = Job::new([PYTHON, "-S", "-s", "-B", "-W", "ignore", "program.py", "one", "two"]);
    for job in [&mut warm_job, &mut cold_job] {
        job.files.push(("given".into(), b"line\n".to_vec()));
        job.files.push(("program.py".into(), SELF_PORTRAIT.as_bytes().to_vec()));
        job.stdin = b"standard input".to_vec();
    }
    let (warm, cold) = (sandbox.run(&warm_job), sandbox.run(&cold_job));
    assert_eq!(cold.ended, Ended::Exited { code: 0 }, "{}", text(&cold));
    assert_eq!(warm.ended, cold.ended, "{}", text(&warm));
    let (warm_text, cold_text) =
        (String::from_utf8_lossy(&warm.stdout), String::from_utf8_lossy(&cold.stdout));
    // A program run by its path names itself by the absolute one.
    let home = cold_text.split("__main__ ").nth(1).and_then(|rest| rest.split("program.py").next()).unwrap();
    assert_eq!(warm_text, cold_text.replace(&format!("__main__ {home}"), "__main__ "), "{}", text(&warm));
    assert_eq!(warm.report, b"report");
}

#[test]
fn ends_and_limits_are_told_apart() {
    let Some(sandbox) = sandbox() else { return };
    let program = "import sys, os, atexit\natexit.register(lambda: print('bye'))\nexec(sys.argv[1])";
    let python = warm(&sandbox, program);
    let run = |source: &str| {
        let mut job = Job::warm(&python, ["program.py", source]);
        job.limits.wall = Duration::from_secs(5);
        job.limits.cpu = Duration::from_secs(1);
        sandbox.run(&job)
    };
    let fine = run("print('x')");
    assert_eq!((fine.ended.clone(), fine.stdout.as_slice()), (Ended::Exited { code: 0 }, &b"x\nbye\n"[..]));
    assert_eq!(run("sys.exit(7)").ended, Ended::Exited { code: 7 });
    assert_eq!(run("os._exit(8)").ended, Ended::Exited { code: 8 });
    assert_eq!(run("os.kill(os.getpid(), 15)").ended, Ended::Signalled { signal: 15 });
    assert_eq!(run("os.abort()").ended, Ended::Signalled { signal: 6 });
    assert_eq!(run("while True: pass").ended, Ended::Killed { limit: Limit::Cpu });
    assert_eq!(run("import time; time.sleep(60)").ended, Ended::Killed { limit: Limit::WallClock });
    let raised = run("1 / 0");
    assert_eq!(raised.ended, Ended::Exited { code: 1 });
    let complaint = String::from_utf8_lossy(&raised.stderr).into_owned();
    assert!(complaint.contains("ZeroDivisionError") && complaint.contains("program.py"), "{complaint}");
    assert!(!complaint.contains("exec(code"), "frames of the interpreter show: {complaint}");
    let memory = run("x = bytearray(3 << 30)");
    assert_eq!(memory.ended, Ended::Exited { code: 1 });
    assert!(String::from_utf8_lossy(&memory.stderr).contains("MemoryError"));
    let full = run("open('f', 'wb').write(bytes(200 << 20))");
    assert_eq!(full.ended, Ended::Exited { code: 1 }, "{}", text(&full));
}

#[test]
fn runs_leave_nothing_to_each_other() {
    let Some(sandbox) = sandbox() else { return };
    let program = "import sys, os, json, builtins\n\
                   print(getattr(json, 'mark', None), getattr(builtins, 'mark', None), os.listdir('.'), os.environ.get('MARK'))\n\
                   json.mark = builtins.mark = 1\nos.environ['MARK'] = '1'\nopen('left', 'w')\nsys.path.append('/x')\n";
    let python = warm(&sandbox, program);
    for _ in 0..3 {
        let outcome = sandbox.run(&Job::warm(&python, ["program.py"]));
        assert_eq!(String::from_utf8_lossy(&outcome.stdout), "None None [] None\n", "{}", text(&outcome));
    }
}

#[test]
fn a_pair_runs_warm() {
    let Some(sandbox) = sandbox() else { return };
    let python = sandbox
        .warm_python(setup(&[
            ("leader.py", "import os\nfolder = os.environ['VUL2SAFE_FOLLOWER_FOLDER']\nos.write(4, b'21')\nprint(int(os.read(4, 10)))\nprint(open(folder + '/made').read(), oct(os.stat(folder + '/made').st_mode))\nopen(folder + '/made', 'w').write('2')\n"),
            ("follower.py", "import os\nos.umask(0o77)\nopen('made', 'w').write('1')\nos.write(4, b'%d' % (2 * int(os.read(4, 10))))\nos.read(4, 1)\nprint(open('made').read())\n"),
        ]))
        .unwrap();
    let leader = Job::warm(&python, ["leader.py"]);
    let mut follower = Job::warm(&python, ["follower.py"]);
    follower.folder_open_to_leader = true;
    let [leader, follower] = sandbox.run_pair(&leader, &follower);
    if !Sandbox::capabilities().separate_user || Sandbox::capabilities().open_file_system {
        assert_eq!(leader.ended, Ended::Exited { code: 0 }, "{}{}", text(&leader), text(&follower));
        assert_eq!(leader.stdout, b"42\n1 0o100600\n", "{}", text(&leader));
    }
}

#[test]
fn a_lost_interpreter_is_started_again() {
    let Some(sandbox) = sandbox() else { return };
    let python = warm(&sandbox, "import os\nprint('alive')");
    assert_eq!(sandbox.run(&Job::warm(&python, ["program.py"])).stdout, b"alive\n");
    let victim = interpreters(&python_marker()).into_iter().next().expect("the interpreter runs");
    // SAFETY: a process that this test started.
    unsafe { libc::kill(victim, libc::SIGKILL) };
    assert_eq!(sandbox.run(&Job::warm(&python, ["program.py"])).stdout, b"alive\n");
    drop(python);
}

/// What the command lines of warm interpreters have in common.
fn python_marker() -> String {
    "A warm interpreter: prepares once".into()
}

/// Children of this process whose command line contains `text`.
fn interpreters(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = format!("PPid:\t{}\n", std::process::id());
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if status.contains(&parent) && String::from_utf8_lossy(&line).contains(text) {
            found.push(process);
        }
    }
    found
}

#[test]
fn what_cannot_be_warm_says_why() {
    let Some(sandbox) = sandbox() else { return };
    let why = |setup: PythonSetup| match sandbox.warm_python(setup) {
        Err(error @ SandboxError::Warm { .. }) => {
            assert!(error.hint().is_some());
            error.to_string()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    };
    let mut absent = setup(&[]);
    absent.interpreter = "/no/such/python".into();
    assert!(why(absent).contains("not found"));
    let mut foreign = setup(&[]);
    foreign.interpreter = "/bin/true".into();
    assert!(why(foreign).contains("/bin/true"));
    let mut module = setup(&[]);
    module.modules.push("no_such_module".into());
    assert!(why(module).contains("no_such_module"));
    assert!(why(setup(&[("broken.py", "def")])).contains("invalid syntax"));

    let python = warm(&sandbox, "pass");
    let outcome = sandbox.run(&Job::warm(&python, ["other.py"]));
    assert!(
        matches!(&outcome.ended, Ended::NotRun { why } if why.contains("other.py")),
        "{:?}",
        outcome.ended
    );
}

#[test]
fn many_at_once() {
    let Some(sandbox) = sandbox() else { return };
    let python =
        warm(&sandbox, "import sys, os, time\ntime.sleep(0.05)\nprint(sys.stdin.read(), os.getuid())");
    let users = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|number: usize| {
                let (sandbox, python) = (&sandbox, &python);
                scope.spawn(move || {
                    let mut job = Job::warm(python, ["program.py"]);
                    job.limits.wall = Duration::from_secs(30);
                    job.stdin = number.to_string().into_bytes();
                    let outcome = sandbox.run(&job);
                    let text = String::from_utf8_lossy(&outcome.stdout).trim().to_owned();
                    let (seen, user) = text.split_once(' ').unwrap_or_else(|| panic!("{outcome:?}"));
                    assert_eq!(seen, number.to_string());
                    user.to_owned()
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(users.len(), if Sandbox::capabilities().separate_user { 8 } else { 1 });
}
