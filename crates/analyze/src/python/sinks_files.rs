//! Sinks that touch files: paths, archives, temporary files, permissions.

use vul2safe_code::Node;
use vul2safe_code::Span;

use super::calls::Call;
use super::flow::Flow;
use super::value::{Level, Risk, Value, names_any};

/// Functions that take a path first (and, for some, another second).
const PATH_FUNCTIONS: &[&str] = &[
    "open",
    "io.open",
    "codecs.open",
    "os.open",
    "os.remove",
    "os.unlink",
    "os.rmdir",
    "os.listdir",
    "os.rename",
    "os.replace",
    "os.makedirs",
    "os.mkdir",
    "os.scandir",
    "os.startfile",
    "shutil.copy",
    "shutil.copy2",
    "shutil.copyfile",
    "shutil.move",
    "shutil.rmtree",
    "shutil.copytree",
    "send_file",
    "flask.send_file",
    "FileResponse",
    "django.http.FileResponse",
    "file",
    "fs.open",
    "aiofiles.open",
    "gzip.open",
    "bz2.open",
    "lzma.open",
    "static_file",
    "os.stat",
    "os.path.getsize",
    "fastapi.responses.FileResponse",
    "starlette.responses.FileResponse",
    "zipfile.ZipFile",
    "tarfile.open",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.mkfifo",
    "os.readlink",
    "os.removedirs",
    "os.renames",
    "os.symlink",
    "os.truncate",
    "os.utime",
];

impl Flow<'_> {
    pub fn check_file_call(&mut self, call: &Call<'_>) {
        self.path(call);
        self.archive(call);
        self.temporary(call);
        self.permissions(call);
    }

    fn path(&mut self, call: &Call<'_>) {
        let message = "a name from outside is joined into the path unchecked, and may lead out of the folder";
        if call.is(PATH_FUNCTIONS) {
            let both = call.dotted.starts_with("shutil.")
                || matches!(call.method, "rename" | "renames" | "replace" | "link" | "symlink");
            for (value, node) in call.arguments.iter().take(if both { 2 } else { 1 }) {
                if escapes(value) {
                    let span = value.built.unwrap_or_else(|| Span::from(node.byte_range()));
                    self.report("path-traversal", None, span, message);
                }
            }
            return;
        }
        let on_path = matches!(
            call.method,
            "read_text"
                | "read_bytes"
                | "write_text"
                | "write_bytes"
                | "open"
                | "unlink"
                | "rmdir"
                | "iterdir"
                | "mkdir"
                | "touch"
                | "rename"
                | "replace"
        );
        if let Some(receiver) = &call.receiver
            && on_path
            // With two arguments it is the method of a string.
            && (call.method != "replace" || call.arguments.len() == 1)
            && receiver.joined
            && escapes(receiver)
        {
            let span = receiver.built.unwrap_or_else(|| call.span());
            self.report("path-traversal", None, span, message);
        }
    }

    fn archive(&mut self, call: &Call<'_>) {
        let Some(receiver) = &call.receiver else { return };
        if !matches!(call.method, "extractall" | "extract") || call.keyword_node("filter").is_some() {
            return;
        }
        // zipfile drops leading slashes and dots by itself; tarfile does not.
        let is_zip = receiver.made_by.contains("ZipFile")
            || names_any(call.receiver_text, &["zip", "zf", "zipf", "zfile", "zipfile"]);
        let is_tar = receiver.made_by.contains("tarfile")
            || names_any(call.receiver_text, &["tar", "tf", "tarball", "tarfile", "archive"]);
        let members_checked = call.keyword("members").is_some_and(|members| {
            members.level(Risk::Path) <= Level::Clean
                || (!members.made_by.contains("getmembers") && !members.made_by.contains("tarfile"))
        });
        let member_checked = call.method == "extract"
            && call.arguments.first().is_some_and(|argument| argument.0.level(Risk::Path) <= Level::Clean);
        if is_tar
            && !is_zip
            && receiver.level(Risk::Path) > Level::Clean
            && !members_checked
            && !member_checked
        {
            self.report(
                "archive-traversal",
                None,
                call.span(),
                "members of the archive may be written outside the folder",
            );
        }
    }

    fn temporary(&mut self, call: &Call<'_>) {
        if call.is(&["tempfile.mktemp", "os.tempnam", "os.tmpnam", "mktemp"]) {
            self.report(
                "temporary-file",
                None,
                call.span(),
                "the name can be taken by someone else before the file is made",
            );
            return;
        }
        let written = if call.is(&["open", "io.open", "codecs.open"]) {
            let mode = call.argument(1, "mode").map_or("", |(mode, _)| mode.text.as_str());
            mode.contains(['w', 'a', '+']) && !mode.contains('x')
        } else {
            false
        };
        let Some((path, node)) = call.arguments.first().map(|argument| (&argument.0, argument.1)) else {
            return;
        };
        let exclusive = call.arguments.get(1).is_some_and(|flags| self.text(flags.1).contains("O_EXCL"));
        let created = call.is(&["os.open"])
            && call.arguments.get(1).is_some_and(|flags| self.text(flags.1).contains("O_CREAT"))
            && !exclusive;
        let predictable = path.text.starts_with("/tmp/")
            || path.text.starts_with("/var/tmp/")
            || self.in_temporary_folder(path);
        if (written || created) && predictable && !path.made_by.contains("mkstemp") {
            let span = path.built.unwrap_or_else(|| Span::from(node.byte_range()));
            self.report(
                "temporary-file",
                None,
                span,
                "a file with a predictable name is opened in a shared folder",
            );
        }
    }

    /// `tempfile.gettempdir()` joined with a name.
    fn in_temporary_folder(&self, path: &Value) -> bool {
        path.built
            .and_then(|built| built.text(self.parsed.text()))
            .is_some_and(|text| text.contains("gettempdir()"))
    }

    fn permissions(&mut self, call: &Call<'_>) {
        let mode = match call.dotted.as_str() {
            "os.chmod" | "os.fchmod" | "os.lchmod" | "os.mkdir" | "os.makedirs" | "os.mkfifo" => {
                call.argument(1, "mode")
            }
            "os.open" => call.argument(2, "mode"),
            "os.umask" => {
                let zero = call
                    .arguments
                    .first()
                    .is_some_and(|argument| matches!(self.text(argument.1), "0" | "0o0" | "0o000" | "000"));
                if zero {
                    self.report(
                        "file-permissions",
                        None,
                        call.span(),
                        "every new file will be open to every user",
                    );
                }
                return;
            }
            _ if call.method == "chmod" && call.receiver.is_some() => call.argument(0, "mode"),
            _ if call.method == "mkdir" && call.receiver.is_some() => {
                call.keyword("mode").zip(call.keyword_node("mode"))
            }
            _ => return,
        };
        let Some((value, node)) = mode else { return };
        // A mode in a variable keeps its literal text.
        let bits = self.mode_bits(node).or_else(|| parse_mode(&value.text));
        let secret = names_any(
            &self.function,
            &["key", "secret", "password", "token", "credential", "credentials", "private"],
        );
        let Some(bits) = bits else { return };
        if bits & 0o002 != 0 || (secret && bits & 0o044 != 0) {
            self.report(
                "file-permissions",
                None,
                Span::from(node.byte_range()),
                "other users get access to the file",
            );
        }
    }

    /// The permission bits of a mode expression: a number, or names of `stat` joined by `|`.
    fn mode_bits(&self, node: Node<'_>) -> Option<u32> {
        let text = self.text(node);
        if node.kind() == "integer" {
            return parse_mode(text);
        }
        let bits = [
            ("S_IRWXO", 0o007),
            ("S_IWOTH", 0o002),
            ("S_IROTH", 0o004),
            ("S_IXOTH", 0o001),
            ("S_IRWXG", 0o070),
            ("S_IWGRP", 0o020),
            ("S_IRGRP", 0o040),
            ("S_IRWXU", 0o700),
            ("S_IRUSR", 0o400),
            ("S_IWUSR", 0o200),
        ];
        let mut found = None;
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let known = bits.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit);
            if let Some(bit) = known.or_else(|| parse_mode(word)) {
                found = Some(found.unwrap_or(0) | bit);
            }
        }
        found
    }
}

/// `0o777`, `0777` and `511` as bits.
fn parse_mode(text: &str) -> Option<u32> {
    if let Some(octal) = text.strip_prefix("0o").or_else(|| text.strip_prefix("0O")) {
        return u32::from_str_radix(octal, 8).ok();
    }
    if let Some(octal) = text.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        return u32::from_str_radix(octal, 8).ok();
    }
    text.parse().ok()
}

/// Whether a path from outside may lead anywhere.
fn escapes(path: &Value) -> bool {
    let level = path.level(Risk::Path);
    level == Level::Remote || (path.joined && level >= Level::Parameter)
}
