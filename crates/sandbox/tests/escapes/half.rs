//! All attempts as one user: inside and outside.

use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vul2safe_sandbox::{Capabilities, Ended, Job, Limit, Outcome, Policy, PythonSetup, Sandbox, WarmPython};

use crate::attempts::{ATTEMPTS, Attempt};
use crate::{PYTHON, Results};

const PRELUDE: &str = include_str!("prelude.py");

/// What is tried with more than one run, or watched from outside.
pub const SCENARIOS: &[&str] = &[
    "outlive the run as a daemon",
    "outlive the deadline as a daemon",
    "report after the end",
    "find what an earlier run left",
    "leader attacks its follower",
    "follower attacks its leader",
    "find the caller through the channel",
];

/// What attempts are aimed at; everything ends with it.
struct Targets {
    folder: tempfile::TempDir,
    victim: Child,
    listener4: TcpListener,
    listener6: Option<TcpListener>,
    _unix: UnixListener,
    _abstract: UnixListener,
    mark: String,
    setuid: String,
}

impl Drop for Targets {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("900").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

impl Targets {
    fn new(setuid: Option<&String>) -> Targets {
        let folder = tempfile::tempdir().unwrap();
        let set =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        set(folder.path(), 0o755);
        for (name, mode) in [("secret", 0o644), ("writable", 0o666), ("owned", 0o600)] {
            std::fs::write(folder.path().join(name), "secret").unwrap();
            set(&folder.path().join(name), mode);
        }
        std::fs::create_dir(folder.path().join("open")).unwrap();
        set(&folder.path().join("open"), 0o777);
        let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
        set(&folder.path().join("socket"), 0o777);
        let mark = format!("esc{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&mark).unwrap();
        Targets {
            victim: sleeper(),
            listener4: TcpListener::bind("127.0.0.1:0").unwrap(),
            listener6: TcpListener::bind("[::1]:0").ok(),
            _unix: unix,
            _abstract: UnixListener::bind_addr(&address).unwrap(),
            mark,
            setuid: setuid.cloned().unwrap_or_default(),
            folder,
        }
    }

    /// The targets as JSON. `target`: a process that may be killed.
    fn json(&self, target: u32) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let _ = std::fs::write(self.folder.path().join("open/removable"), "x");
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        format!(
            r#"{{"home": "{home}", "secret": "{}", "open_folder": "{}", "writable": "{}", "owned": "{}", "removable": "{}",
            "victim": {}, "target": {target}, "launcher": {}, "port4": {}, "port6": {}, "unix": "{}", "abstract": "{}",
            "mark": "{}", "setuid": "{}"}}"#,
            path("secret"),
            path("open"),
            path("writable"),
            path("owned"),
            path("open/removable"),
            self.victim.id(),
            std::process::id(),
            port(&self.listener4),
            self.listener6.as_ref().map_or(0, port),
            path("socket"),
            self.mark,
            self.mark,
            self.setuid,
        )
    }
}

/// A way to run Python inside.
struct Inside<'a> {
    place: String,
    sandbox: &'a Sandbox,
    warm: Option<&'a WarmPython>,
}

impl Inside<'_> {
    fn job(&self, body: &str, targets: &str) -> Job {
        let mut job = match self.warm {
            Some(warm) => Job::warm(warm, ["attempt.py", body, targets]),
            None => {
                let mut job = Job::new([PYTHON, "-S", "-s", "-B", "attempt.py", body, targets]);
                job.files.push(("attempt.py".into(), PRELUDE.into()));
                job
            }
        };
        job.limits.wall = Duration::from_secs(30);
        job
    }
}

/// Every attempt at every place as this user.
pub fn results(who: &str, setuid: Option<&String>) -> Results {
    let targets = Targets::new(setuid);
    let everything = Sandbox::new(Policy::default()).unwrap();
    // What is left on machines that permit no namespaces.
    let bare = Capabilities {
        user_namespace: false,
        process_namespace: false,
        network_namespace: false,
        ipc_namespace: false,
        private_file_system: false,
        open_file_system: false,
        ..Sandbox::capabilities()
    };
    let bare = Sandbox::with_only(Policy::default(), &bare).unwrap();
    let setup = PythonSetup {
        interpreter: PYTHON.into(),
        modules: ["json", "ctypes", "socket", "subprocess", "threading", "time"].map(String::from).into(),
        programs: vec![("attempt.py".into(), PRELUDE.into())],
    };
    let [warm, bare_warm] = [&everything, &bare]
        .map(|sandbox| sandbox.warm_python(setup.clone()).unwrap_or_else(|error| panic!("{error}")));
    let mut results = Results::new();
    for (kind, sandbox, warm) in [
        ("cold", &everything, None),
        ("warm", &everything, Some(&warm)),
        ("cold, no namespaces", &bare, None),
        ("warm, no namespaces", &bare, Some(&bare_warm)),
    ] {
        let inside = Inside { place: format!("{who} inside, {kind}"), sandbox, warm };
        for attempt in ATTEMPTS {
            let verdict = try_inside(&inside, attempt, &targets);
            results.insert((attempt.name.into(), inside.place.clone()), verdict);
        }
        for name in SCENARIOS {
            let verdict = scenario(name, &inside, &targets);
            results.insert((name.to_string(), inside.place.clone()), verdict);
        }
    }
    for attempt in ATTEMPTS {
        results.insert((attempt.name.into(), format!("{who} outside")), try_outside(attempt, &targets));
    }
    results
}

/// Makes an attempt with a process that it may kill, where it needs one.
fn with_target(attempt: &Attempt, targets: &Targets, run: impl FnOnce(&str) -> String) -> String {
    if !attempt.kills_target {
        return run(&targets.json(targets.victim.id()));
    }
    let mut target = sleeper();
    let verdict = run(&targets.json(target.id()));
    let died = target.try_wait().unwrap().is_some();
    let _ = target.kill();
    let _ = target.wait();
    match (died, verdict.starts_with("ESCAPED")) {
        (true, _) => "ESCAPED".into(),
        (false, true) => "blocked: no effect".into(),
        (false, false) => verdict,
    }
}

fn try_inside(inside: &Inside, attempt: &Attempt, targets: &Targets) -> String {
    with_target(attempt, targets, |json| {
        let mut job = inside.job(attempt.body, json);
        job.limits.processes = attempt.processes;
        let outcome = inside.sandbox.run(&job);
        if left_behind(&targets.mark) { "ESCAPED: a process is left".into() } else { verdict(&outcome) }
    })
}

fn verdict(outcome: &Outcome) -> String {
    let text = String::from_utf8_lossy(&outcome.stdout);
    let line = text.lines().last().unwrap_or_default().trim();
    match &outcome.ended {
        _ if !line.is_empty() => line.to_owned(),
        Ended::Killed { limit: Limit::WallClock } => "BROKEN: it hangs".into(),
        Ended::Killed { limit } => format!("blocked: killed ({limit})"),
        other => format!("BROKEN: {other:?} {}", String::from_utf8_lossy(&outcome.stderr)),
    }
}

fn try_outside(attempt: &Attempt, targets: &Targets) -> String {
    with_target(attempt, targets, |json| {
        let folder = tempfile::tempdir_in(targets.folder.path()).unwrap();
        let program = folder.path().join("attempt.py");
        std::fs::write(&program, PRELUDE).unwrap();
        let mut child = Command::new(PYTHON)
            .args([Path::new("-S"), Path::new("-s"), Path::new("-B"), &program])
            .args([attempt.body, json])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let line = text.lines().last().unwrap_or_default().trim().to_owned();
        if line.is_empty() { "blocked: the process died".into() } else { line }
    })
}

/// Whether a process of an attempt still lives a moment after its run.
fn left_behind(mark: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(2);
    while any_process_is_called(mark) {
        if Instant::now() > deadline {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn any_process_is_called(name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| {
        let comm: PathBuf = entry.path().join("comm");
        std::fs::read_to_string(comm).is_ok_and(|text| text.trim() == name)
    })
}

const DAEMON: &str = "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        import time\n        time.sleep(1)\n        os.write(3, b'late')\n        time.sleep(60)\n    os._exit(0)\n";
/// Says `ESCAPED` if it can do anything to the process at the other end of the channel.
const ATTACK: &str = "mine = os.getpid()\nos.write(4, b'%10d' % mine)\nother = int(os.read(4, 10))\n\
tries = [lambda: os.kill(other, 9) if other != mine else check(-1), lambda: check(libc.ptrace(0x4206, other, None, None)),\n\
         lambda: open('/proc/%d/mem' % other, 'rb'), lambda: open('/proc/%d/fd/3' % other, 'wb'), lambda: os.listdir('/proc/%d/cwd' % other),\n\
         lambda: call(434, other, 0)]\n\
done = []\n\
for number, attack in enumerate(tries):\n    try:\n        attack()\n        done.append(number)\n    except OSError: pass\n\
# Says nothing of its success; whoever it reaches does not end well.\n\
libc.kill(-1, 9)\n";
/// The process that made a pair of sockets can be asked for; then it can be signalled where that is allowed.
const PEER: &str = "import socket, struct\ns = socket.socket(fileno=4)\nfd = struct.unpack('i', s.getsockopt(1, 77, 4))[0]\ncall(424, fd, 9, None, 0)";

fn scenario(name: &str, inside: &Inside, targets: &Targets) -> String {
    let json = targets.json(targets.victim.id());
    let sandbox = inside.sandbox;
    let processes = |body: &str| {
        let mut job = inside.job(body, &json);
        job.limits.processes = 8;
        job
    };
    let held = |held: bool, what: String| {
        if held { "blocked: as it should".into() } else { format!("ESCAPED: {what}") }
    };
    match name {
        "outlive the run as a daemon" => {
            let outcome = sandbox.run(&processes(DAEMON));
            let ended = outcome.ended == Ended::Exited { code: 0 };
            held(ended && !left_behind(&targets.mark), format!("{:?}", outcome.ended))
        }
        "outlive the deadline as a daemon" => {
            let mut job = processes(&format!("{DAEMON}while True: pass\n"));
            job.limits.wall = Duration::from_millis(600);
            let outcome = sandbox.run(&job);
            let ended = outcome.ended == Ended::Killed { limit: Limit::WallClock };
            held(ended && !left_behind(&targets.mark), format!("{:?}", outcome.ended))
        }
        "report after the end" => {
            let outcome = sandbox.run(&processes(DAEMON));
            held(outcome.report.is_empty(), String::from_utf8_lossy(&outcome.report).into_owned())
        }
        "find what an earlier run left" => {
            let name = format!("{}-left", targets.mark);
            let places =
                format!("['{name}', '/tmp/{name}', '/dev/shm/{name}', os.environ['TMPDIR'] + '/{name}']");
            let leave = format!(
                "for path in {places}:\n    try: open(path, 'w').close()\n    except OSError: pass\n"
            );
            let first = sandbox.run(&inside.job(&leave, &json));
            let find = format!("if not any(os.path.exists(path) for path in {places}): raise OSError(2, '')");
            let second = verdict(&sandbox.run(&inside.job(&find, &json)));
            if verdict(&first) == "ESCAPED" { second } else { format!("BROKEN: {}", verdict(&first)) }
        }
        "leader attacks its follower" | "follower attacks its leader" => {
            let body = format!(
                "{ATTACK}print(done, flush=True)\nos.write(4, b'x')\nos.read(4, 1)\nraise OSError(len(done), '')"
            );
            let wait = "os.write(4, b'%10d' % os.getpid())\nos.read(4, 10)\nwhile os.read(4, 1) != b'x': pass\nos.write(4, b'y')\nwhile os.read(4, 1): pass\n";
            let attacker = inside.job(&body, &json);
            let other = inside.job(wait, &json);
            let [attacker, other] = if name.starts_with("leader") {
                sandbox.run_pair(&attacker, &other)
            } else {
                let [other, attacker] = sandbox.run_pair(&other, &attacker);
                [attacker, other]
            };
            let said =
                String::from_utf8_lossy(&attacker.stdout).lines().next().unwrap_or_default().to_owned();
            let unharmed = matches!(other.ended, Ended::Exited { code: 0 } | Ended::WithLeader);
            held(said == "[]" && unharmed, format!("{said} {:?} {:?}", attacker.ended, other.ended))
        }
        "find the caller through the channel" => {
            let other = inside.job("while os.read(4, 1): pass", &json);
            let [attacker, _] = sandbox.run_pair(&inside.job(PEER, &json), &other);
            verdict(&attacker)
        }
        other => format!("BROKEN: no scenario {other}"),
    }
}
