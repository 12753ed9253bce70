//! The one place that starts `git`. It reads objects and nothing else: nothing is checked out, fetched or written, no
//! hook, pager, filter, external diff or signature program is run, and neither the user's nor the system's
//! configuration is read. A repository's own configuration cannot be left out, so what of it could start a program is
//! set on the command line, which goes before it, and only plumbing commands are used, which know no aliases.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::CorpusError;

/// A repository to read.
pub(super) struct Git {
    repository: PathBuf,
}

impl Git {
    /// Makes sure that there is a repository, with git to read it.
    pub(super) fn open(repository: &Path) -> Result<Self, CorpusError> {
        if !repository.is_dir() {
            // Not `Missing`, whose advice is for files of records.
            let message = "no such folder".to_owned();
            return Err(CorpusError::Git { path: repository.to_owned(), message });
        }
        let git = Self { repository: repository.to_owned() };
        git.output(["rev-parse", "--git-dir"])?;
        Ok(git)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        for (name, value) in [
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_PAGER", "cat"),
            ("GIT_TERMINAL_PROMPT", "0"),
        ] {
            command.env(name, value);
        }
        command.arg("--no-pager").arg("-C").arg(&self.repository);
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.attributesFile=/dev/null",
            "core.sshCommand=false",
            "diff.external=",
            "protocol.allow=never",
        ] {
            command.arg("-c").arg(setting);
        }
        command
    }

    /// What a command writes.
    pub(super) fn output<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>, CorpusError> {
        let output = self
            .command()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.failed(format!("git cannot be started: {error}")))?;
        if !output.status.success() {
            return Err(self.failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(output.stdout)
    }

    /// The same as text, empty where the command has nothing to say or fails.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
        let bytes = self.output(["config", "--get", name]).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A reader of many objects.
    pub(super) fn objects(&self) -> Result<Objects, CorpusError> {
        let mut child = self
            .command()
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.failed(format!("git cannot be started: {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(self.failed("git cat-file has no pipes".to_owned()));
        };
        Ok(Objects {
            repository: self.repository.clone(),
            child,
            input: Some(input),
            output: BufReader::new(output),
        })
    }

    pub(super) fn failed(&self, message: String) -> CorpusError {
        CorpusError::Git { path: self.repository.clone(), message }
    }
}

/// `git cat-file --batch`: objects by their id or by `<commit>:<path>`.
pub(super) struct Objects {
    repository: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What became of a request.
pub(super) enum Object {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// It has this many bytes, more than asked for.
    TooLong(u64),
    /// There is none of this name.
    Missing,
}

impl Objects {
    /// Reads one object; of one with more than `limit` bytes only the size.
    pub(super) fn read(&mut self, name: &str, limit: u64) -> Result<Object, CorpusError> {
        if name.contains('\n') {
            // No id has one, and a path that has one cannot be asked for in this protocol.
            return Ok(Object::Missing);
        }
        self.request(name, limit).map_err(|error| CorpusError::Git {
            path: self.repository.clone(),
            message: format!("reading object {name}: {error}"),
        })
    }

    fn request(&mut self, name: &str, limit: u64) -> std::io::Result<Object> {
        if let Some(input) = &mut self.input {
            input.write_all(name.as_bytes())?;
            input.write_all(b"\n")?;
            input.flush()?;
        }
        let mut header = String::new();
        self.output.read_line(&mut header)?;
        let header = header.trim_end();
        if header.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        // `<id> <type> <size>`, or `<name> missing` (`ambiguous`), where the name may hold spaces.
        let Some(size) = header.rsplit(' ').next().and_then(|size| size.parse::<u64>().ok()) else {
            return Ok(Object::Missing);
        };
        if size > limit {
            std::io::copy(&mut self.output.by_ref().take(size + 1), &mut std::io::sink())?;
            return Ok(Object::TooLong(size));
        }
        let mut bytes = Vec::new();
        self.output.by_ref().take(size).read_to_end(&mut bytes)?;
        let mut line_end = [0];
        self.output.read_exact(&mut line_end)?;
        Ok(Object::Bytes(bytes))
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // Without input the process ends by itself; waiting leaves no zombie.
        self.input = None;
        let _ = self.child.wait();
    }
}
