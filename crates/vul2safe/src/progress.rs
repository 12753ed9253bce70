//! Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal a line is written at most this often.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// The same for each of several parts that go on beside each other.
const PART_LINE_EVERY: Duration = Duration::from_secs(60);

/// Where a run says how far it is.
pub struct Progress {
    quiet: bool,
    /// In front of every line, where several runs go on at the same time.
    label: String,
    /// Without a terminal a line is written at most this often.
    line_every: Duration,
    terminal: bool,
    started: Instant,
    current: Mutex<Option<Current>>,
}

struct Current {
    bar: ProgressBar,
    last_line: Instant,
}

impl Progress {
    /// `quiet` writes nothing at all.
    pub fn new(quiet: bool) -> Self {
        Progress {
            quiet,
            label: String::new(),
            line_every: LINE_EVERY,
            terminal: std::io::stderr().is_terminal(),
            started: Instant::now(),
            current: Mutex::new(None),
        }
    }

    /// The progress of a part that goes on beside others: lines with its name in front, no bar, the same clock.
    pub fn part(&self, name: &str) -> Self {
        Progress {
            quiet: self.quiet,
            label: format!("{name}: "),
            line_every: PART_LINE_EVERY,
            terminal: false,
            started: self.started,
            current: Mutex::new(None),
        }
    }

    /// One line, with the time since the start in front.
    pub fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        let line = format!("[{}] {}{text}", clock(self.started.elapsed()), self.label);
        match self.lock().as_ref() {
            Some(current) if self.terminal => current.bar.println(line),
            _ => anstream::eprintln!("{line}"),
        }
    }

    /// A stage begins.
    pub fn begin(&self, title: &str) {
        self.say(title);
        if self.quiet {
            return;
        }
        let bar = if self.terminal { ProgressBar::new(1) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("        {bar:30} {pos}/{len}  {elapsed}  {msg}") {
            bar.set_style(style);
        }
        *self.lock() = Some(Current { bar, last_line: Instant::now() });
    }

    /// `done` of `total` units are finished; `note` says how it goes.
    pub fn update(&self, done: u64, total: u64, note: &str) {
        let mut line = None;
        if let Some(current) = self.lock().as_mut() {
            current.bar.set_length(total);
            current.bar.set_position(done);
            current.bar.set_message(note.to_owned());
            if !self.terminal && current.last_line.elapsed() >= self.line_every {
                current.last_line = Instant::now();
                line = Some(format!("    {done}/{total}  {note}"));
            }
        }
        if let Some(line) = line {
            self.say(&line);
        }
    }

    /// The stage is over.
    pub fn end(&self, text: &str) {
        if let Some(current) = self.lock().take() {
            current.bar.finish_and_clear();
        }
        self.say(text);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        // A panic elsewhere must not silence the progress of the rest.
        self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// `m:ss`.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:2}:{:02}", seconds / 60, seconds % 60)
}

/// Seconds as a person says them.
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        clock(Duration::from_secs_f64(seconds)).trim().to_owned() + " min"
    }
}
