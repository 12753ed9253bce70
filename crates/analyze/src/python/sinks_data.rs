//! Sinks that interpret text: SQL, shells, code, serialised objects, XML.

use vul2safe_code::{Node, Severity, Span};

use super::calls::Call;
use super::flow::Flow;
use super::value::{Level, Risk, Value};

impl Flow<'_> {
    pub fn check_data_call(&mut self, call: &Call<'_>) {
        self.sql(call);
        self.command(call);
        self.code(call);
        self.deserialisation(call);
        self.xml(call);
    }

    fn sql(&mut self, call: &Call<'_>) {
        let is_sink = matches!(
            call.method,
            "execute"
                | "executemany"
                | "executescript"
                | "raw"
                | "read_sql"
                | "read_sql_query"
                | "read_sql_table"
                | "query"
                | "exec_driver_sql"
                | "fetchrow"
                | "fetchval"
                | "mogrify"
                | "execute_sql"
                | "run_sql"
                | "execute_query"
        );
        // Any other function that takes a whole statement will run it, unless it only shows or measures it.
        let shows = call.receiver.as_ref().is_some_and(|receiver| !receiver.text.is_empty())
            || matches!(
                call.method,
                "print"
                    | "len"
                    | "str"
                    | "repr"
                    | "format"
                    | "append"
                    | "extend"
                    | "write"
                    | "join"
                    | "dedent"
                    | "_"
            )
            || matches!(
                call.method,
                "debug" | "info" | "warning" | "warn" | "error" | "critical" | "exception" | "log" | "exc"
            )
            || call.method.ends_with("Error")
            || call.method.ends_with("Exception");
        if !is_sink && shows {
            return;
        }
        let arguments = call.arguments.iter().map(|argument| &argument.0).take(if is_sink { 1 } else { 3 });
        let named = ["sql", "query", "operation", "statement"].iter().filter_map(|name| call.keyword(name));
        for statement in arguments.chain(named) {
            let Some(built) = statement.built else { continue };
            let speaks_sql =
                if is_sink { looks_like_sql(&statement.text) } else { is_sql_statement(&statement.text) };
            if statement.is_list || !speaks_sql {
                continue;
            }
            if statement.level(Risk::Sql) >= Level::Unknown {
                let message = "the SQL statement contains a value that was not bound as a parameter";
                self.report("sql-injection", None, built, message);
            } else if statement.number_format {
                let message = "the SQL statement is formatted with a number; bind it as a parameter";
                self.report("sql-injection", Some(Severity::Low), built, message);
            }
        }
    }

    fn command(&mut self, call: &Call<'_>) {
        let message = "the command line contains a value that the shell may interpret";
        let always_shell = call.is(&[
            "os.system",
            "os.popen",
            "os.popen2",
            "os.popen3",
            "os.popen4",
            "subprocess.getoutput",
            "subprocess.getstatusoutput",
            "commands.getoutput",
            "commands.getstatusoutput",
            "asyncio.create_subprocess_shell",
            "popen2.popen3",
            "pty.spawn",
        ]);
        let runs = matches!(call.method, "run" | "call" | "check_call" | "check_output" | "Popen");
        let shell = call.keyword_node("shell").is_some_and(|node| matches!(self.text(node), "True" | "1"));
        let command = call.argument(0, "args").or_else(|| call.argument(0, "cmd"));
        let Some((command, node)) = command else { return };
        if always_shell || shell {
            let dangerous = command.level(Risk::Shell) >= Level::Parameter
                || (command.built.is_some() && command.level(Risk::Shell) >= Level::Unknown);
            if dangerous {
                let span = command.built.unwrap_or_else(|| Span::from(node.byte_range()));
                self.report("os-command", None, span, message);
            }
        } else if runs && node.kind() == "list" {
            self.shell_in_list(node, command);
        } else if named_after_shell(call.method) && !self.defined.contains_key(call.method) {
            // A function of some library that says in its name that it passes a line to a shell.
            if let Some(built) = command.built
                && !command.is_list
                && command.text.contains(' ')
                && command.level(Risk::Shell) >= Level::Unknown
            {
                self.report("os-command", Some(Severity::Medium), built, message);
            }
        }
    }

    /// `["sh", "-c", line]` is a shell all the same.
    fn shell_in_list(&mut self, list: Node<'_>, value: &Value) {
        let texts: Vec<&str> = list.named_children().map(|part| self.text(part)).collect();
        let program = texts.first().map_or("", |text| text.trim_matches(['"', '\'']));
        let is_shell =
            matches!(program.rsplit('/').next(), Some("sh" | "bash" | "dash" | "zsh" | "cmd" | "cmd.exe"));
        let takes_line =
            texts.iter().any(|text| matches!(text.trim_matches(['"', '\'']), "-c" | "/c" | "-lc"));
        if is_shell && takes_line && value.level(Risk::Shell) >= Level::Unknown {
            let line = list.named_child(texts.len().saturating_sub(1)).unwrap_or(list);
            let span = value.built.unwrap_or_else(|| Span::from(line.byte_range()));
            self.report(
                "os-command",
                None,
                span,
                "the command line contains a value that the shell may interpret",
            );
        }
    }

    fn code(&mut self, call: &Call<'_>) {
        let is_sink =
            call.is(&["eval", "exec", "builtins.eval", "builtins.exec", "__builtins__.eval", "execfile"])
                && !self.defined.contains_key(call.method);
        let Some((source, node)) = call.arguments.first().map(|argument| (&argument.0, argument.1)) else {
            return;
        };
        // Compiled code of an unknown text is executed with the text.
        if is_sink && (source.level(Risk::Code) >= Level::Unknown) {
            let span = source.built.unwrap_or_else(|| Span::from(node.byte_range()));
            self.report("code-injection", None, span, "a value is executed as Python code");
        }
    }

    fn deserialisation(&mut self, call: &Call<'_>) {
        let dangerous = matches!(
            call.dotted.as_str(),
            "pickle.loads"
                | "pickle.load"
                | "cPickle.loads"
                | "cPickle.load"
                | "_pickle.loads"
                | "_pickle.load"
                | "dill.loads"
                | "dill.load"
                | "marshal.loads"
                | "marshal.load"
                | "cloudpickle.loads"
                | "cloudpickle.load"
                | "joblib.load"
                | "jsonpickle.decode"
                | "pickle.Unpickler"
                | "yaml.unsafe_load"
                | "yaml.unsafe_load_all"
                | "shelve.open"
                | "pandas.read_pickle"
        );
        let yaml = matches!(call.dotted.as_str(), "yaml.load" | "yaml.load_all") && !self.safe_loader(call);
        if !dangerous && !yaml {
            return;
        }
        let Some((bytes, node)) = call.arguments.first().map(|argument| (&argument.0, argument.1)) else {
            return;
        };
        let own_bytes = bytes.made_by.ends_with(".dumps");
        if bytes.level(Risk::Code) >= Level::Unknown && !own_bytes {
            let span = if yaml { call.span() } else { Span::from(node.byte_range()).cover(call.span()) };
            self.report("deserialisation", None, span, "the loader can run code that the bytes name");
        }
    }

    fn safe_loader(&self, call: &Call<'_>) -> bool {
        call.keyword_node("Loader").or_else(|| call.arguments.get(1).map(|argument| argument.1)).is_some_and(
            |loader| {
                let name = self.text(loader);
                name.contains("SafeLoader") || name.contains("BaseLoader")
            },
        )
    }

    fn xml(&mut self, call: &Call<'_>) {
        let message = "the parser follows external entities";
        let constant = |name: &str| call.keyword_node(name).map(|node| self.text(node));
        if call.method == "XMLParser" && call.dotted.contains("etree") {
            let is_lxml = call.dotted.starts_with("lxml") || call.keyword_node("resolve_entities").is_some();
            if is_lxml
                && !matches!(constant("resolve_entities"), Some("False" | "\"internal\"" | "'internal'"))
            {
                self.report("xml-external-entity", None, call.span(), message);
            }
        } else if call.dotted.starts_with("lxml.") && matches!(call.method, "parse" | "fromstring" | "XML") {
            let default_parser = call.keyword_node("parser").is_none() && call.arguments.len() < 2;
            let dangerous =
                call.arguments.first().is_some_and(|argument| argument.0.highest() >= Level::Unknown);
            if default_parser && dangerous {
                self.report("xml-external-entity", None, call.span(), message);
            }
        } else if call.method == "setFeature" {
            let feature = call.arguments.first().map_or("", |argument| self.text(argument.1));
            let on =
                call.arguments.get(1).is_some_and(|argument| matches!(self.text(argument.1), "True" | "1"));
            if on && (feature.contains("external_ges") || feature.contains("external-general-entities")) {
                self.report("xml-external-entity", None, call.span(), message);
            }
        }
    }
}

/// Whether literal text is a piece of SQL.
fn looks_like_sql(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "select", "insert", "update", "delete", "create", "drop", "alter", "replace", "from", "where",
        "values", "pragma", "truncate", "grant", "call", "exec", "set", "order", "limit", "with", "and",
        "attach", "union", "use", "show",
    ];
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Whether literal text begins as a whole SQL statement does.
fn is_sql_statement(text: &str) -> bool {
    let mut words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    let mut follows =
        |expected: &[&str]| words.any(|word| expected.iter().any(|known| word.eq_ignore_ascii_case(known)));
    match first.as_str() {
        "select" => follows(&["from"]),
        "insert" | "replace" => follows(&["into"]),
        "update" => follows(&["set"]),
        "delete" => follows(&["from"]),
        "create" | "drop" | "alter" => follows(&["table", "index", "view", "database"]),
        _ => false,
    }
}

fn named_after_shell(method: &str) -> bool {
    let lower = method.to_ascii_lowercase();
    let lower = lower.trim_start_matches('_');
    matches!(
        lower,
        "exec_command"
            | "run_command"
            | "run_cmd"
            | "run_ssh"
            | "cli_run"
            | "eql_execute"
            | "shell"
            | "ssh"
            | "sudo"
            | "getoutput"
    ) || [
        "run_shell",
        "exec_shell",
        "shell_exec",
        "execute_command",
        "execute_cmd",
        "run_cli",
        "ssh_execute",
        "system_call",
    ]
    .iter()
    .any(|name| lower.contains(name))
}
