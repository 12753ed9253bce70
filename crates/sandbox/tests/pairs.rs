//! Two runs with a channel between them.
//!
//! The tests need `python3` in `/usr/bin`; on a machine without landlock or seccomp there is nothing to try.

use std::path::Path;
use std::time::{Duration, Instant};

use vul2safe_sandbox::{Ended, Job, Limit, Outcome, Policy, Sandbox};

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

fn python(source: &str) -> Job {
    let mut job = Job::new([PYTHON, "-S", "-s", "-B", "program.py"]);
    job.files.push(("program.py".into(), source.as_bytes().to_vec()));
    job
}

fn text(outcome: &Outcome) -> String {
    format!(
        "{:?}\n{}\n{}",
        outcome.ended,
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    )
}

const CALLS: &str =
    "import os\nos.write(4, b'21\\n')\nprint(os.read(4, 100).decode())\nprint(os.read(4, 100))\n";
const ANSWERS: &str = "import os\nos.write(4, b'%d' % (2 * int(os.read(4, 100))))\nprint('answered')\n";

#[test]
fn the_two_talk_and_see_each_other_end() {
    let Some(sandbox) = sandbox() else { return };
    let [leader, follower] = sandbox.run_pair(&python(CALLS), &python(ANSWERS));
    assert_eq!(leader.ended, Ended::Exited { code: 0 }, "{}", text(&leader));
    assert_eq!(String::from_utf8_lossy(&leader.stdout), "42\nb''\n", "{}", text(&leader));
    assert_eq!(follower.ended, Ended::Exited { code: 0 }, "{}", text(&follower));
    assert_eq!(follower.stdout, b"answered\n");
}

#[test]
fn the_leaders_end_ends_the_follower() {
    let Some(sandbox) = sandbox() else { return };
    let started = Instant::now();
    let mut sleeper = python("import os, time\nos.fork()\nos.write(4, b'x')\ntime.sleep(60)\n");
    sleeper.limits.processes = 2;
    sleeper.limits.wall = Duration::from_secs(60);
    let leader = python("import os\nassert os.read(4, 1)\nraise SystemExit(3)");
    let [leader, follower] = sandbox.run_pair(&leader, &sleeper);
    assert_eq!(leader.ended, Ended::Exited { code: 3 }, "{}", text(&leader));
    assert_eq!(follower.ended, Ended::WithLeader, "{}", text(&follower));
    assert!(started.elapsed() < Duration::from_secs(20));

    let mut stuck = python("import os\nos.write(4, b'x')\nwhile True: os.read(4, 1)");
    stuck.limits.wall = Duration::from_millis(500);
    let [leader, follower] = sandbox.run_pair(&stuck, &sleeper);
    assert_eq!(leader.ended, Ended::Killed { limit: Limit::WallClock });
    assert_eq!(follower.ended, Ended::WithLeader, "{}", text(&follower));
}

#[test]
fn the_followers_end_is_seen_and_survived() {
    let Some(sandbox) = sandbox() else { return };
    let leader = "import os\nprint(os.read(4, 1))\ntry:\n    os.write(4, b'x')\nexcept BrokenPipeError:\n    print('broken')\nprint('on')\n";
    for (follower, wall, ended) in [
        ("import os\nos._exit(9)", 10_000, Ended::Exited { code: 9 }),
        ("while True: pass", 400, Ended::Killed { limit: Limit::WallClock }),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", 10_000, Ended::Signalled { signal: 15 }),
    ] {
        let mut follower = python(follower);
        follower.limits.wall = Duration::from_millis(wall);
        let [leader, follower] = sandbox.run_pair(&python(leader), &follower);
        assert_eq!(leader.ended, Ended::Exited { code: 0 }, "{}", text(&leader));
        assert_eq!(leader.stdout, b"b''\nbroken\non\n", "{}", text(&leader));
        assert_eq!(follower.ended, ended, "{}", text(&follower));
    }
}

#[test]
fn the_folder_is_open_to_the_leader_only_where_the_job_says_so() {
    let Some(sandbox) = sandbox() else { return };
    let leader = "import os, sys\nfolder = os.environ.get('VUL2SAFE_FOLLOWER_FOLDER')\nopen('private', 'w').write('x')\n\
                  os.write(4, os.getcwd().encode())\nos.read(4, 1)\n\
                  print(sorted(os.listdir(folder)), open(folder + '/made').read(), open(folder + '/in/deep').read())\n\
                  open(folder + '/made', 'a').write('+')\nopen(folder + '/new', 'w').write('new')\nos.mkdir(folder + '/dir')\n\
                  os.write(4, b'x')\nos.read(4, 1)\nprint(os.path.exists(folder + '/dir/file'))\n";
    let follower = "import os\nother = os.read(4, 1000).decode()\nos.mkdir('in')\nopen('in/deep', 'w').write('deep')\n\
                    open('made', 'w').write('made')\n\
                    try:\n    open(other + '/private')\n    print('seen')\nexcept OSError: print('hidden')\n\
                    os.write(4, b'x')\nos.read(4, 1)\nprint(open('made').read(), open('new').read())\n\
                    open('new', 'a').write('1')\nopen('dir/file', 'w')\nos.write(4, b'x')\n";
    let mut follower_job = python(follower);
    follower_job.files.push(("given/file".into(), b"given".to_vec()));
    let [leader_end, follower_end] = sandbox.run_pair(&python(leader), &follower_job);
    assert_ne!(
        leader_end.ended,
        Ended::Exited { code: 0 },
        "not open unless asked for: {}",
        text(&leader_end)
    );
    drop(follower_end);

    follower_job.folder_open_to_leader = true;
    let [leader_end, follower_end] = sandbox.run_pair(&python(leader), &follower_job);
    assert_eq!(leader_end.ended, Ended::Exited { code: 0 }, "{}{}", text(&leader_end), text(&follower_end));
    assert_eq!(
        String::from_utf8_lossy(&leader_end.stdout),
        "['given', 'in', 'made', 'program.py'] made deep\nTrue\n"
    );
    assert_eq!(
        String::from_utf8_lossy(&follower_end.stdout),
        "hidden\nmade+ new\n",
        "{}",
        text(&follower_end)
    );
}

#[test]
fn neither_can_signal_the_other() {
    let Some(sandbox) = sandbox() else { return };
    let attack = "import os, sys\nos.write(4, b'%10d' % os.getpid())\nother = int(os.read(4, 10))\n\
                  try:\n    os.kill(other, 9)\n    print('killed' if other != os.getpid() else 'own')\n\
                  except (PermissionError, ProcessLookupError): print('refused')\n\
                  sys.stdout.flush()\nos.write(4, b'x')\nos.read(4, 1)\n";
    // The leader waits for the follower's own end.
    let leader = format!("{attack}while os.read(4, 1): pass\n");
    let [leader, follower] = sandbox.run_pair(&python(&leader), &python(attack));
    for outcome in [&leader, &follower] {
        assert!(outcome.stdout == b"refused\n" || outcome.stdout == b"own\n", "{}", text(outcome));
    }
}

#[test]
fn if_one_cannot_be_started_neither_runs() {
    let Some(sandbox) = sandbox() else { return };
    let absent = Job::new(["no-such-program"]);
    for [leader, follower] in [
        sandbox.run_pair(&absent, &python("import time\ntime.sleep(60)")),
        sandbox.run_pair(&python("import time\ntime.sleep(60)"), &absent),
    ] {
        for outcome in [leader, follower] {
            assert!(matches!(outcome.ended, Ended::NotRun { .. }), "{:?}", outcome.ended);
        }
    }
}
