//! Runs the real binary.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A demo in miniature: every stage does its real work on very little.
pub const TINY: &[&str] = &[
    "data.records_per_family=3",
    "base.documents=300",
    "base.vocabulary=400",
    "base.hidden_size=32",
    "base.intermediate_size=64",
    "base.layers=2",
    "base.heads=2",
    "base.key_value_heads=1",
    "base.training.maximum_steps=4",
    "sft.training.maximum_steps=3",
    "ppo.training.updates=2",
    "ppo.training.rollouts_per_update=8",
    "ppo.training.maximum_new_tokens=24",
    "ppo.checkpoint_every=1",
    "ppo.samples_every=1",
    "evaluation.per_family=1",
    "evaluation.maximum_new_tokens=24",
];

/// The command with these arguments, in `folder`.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vul2safe"));
    command.args(arguments).current_dir(folder).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs to the end.
pub fn vul2safe(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().expect("the binary starts")
}

/// Arguments of the demo in miniature.
pub fn tiny_demo<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["demo", "--out", out];
    arguments.extend(TINY.iter().flat_map(|pair| ["--set", pair]));
    arguments.extend(more);
    arguments
}

/// Arguments of a recipe in miniature.
pub fn tiny_run<'a>(recipe: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", recipe, "--out", out];
    arguments.extend(TINY.iter().flat_map(|pair| ["--set", pair]));
    arguments.extend(more);
    arguments
}

/// Starts and does not wait.
pub fn start(folder: &Path, arguments: &[&str]) -> Child {
    command(folder, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

/// stdout as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// stderr as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts success and returns stdout.
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "exit {:?}\n{}", output.status.code(), stderr(output));
    stdout(output)
}

/// Asserts exit code 1, one error that names all of `words`, and a hint; returns stderr.
pub fn refused(output: &Output, words: &[&str]) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "one message: {text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
    assert!(text.contains("hint: "), "says what to do: {text}");
    text
}
