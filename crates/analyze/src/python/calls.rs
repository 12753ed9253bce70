//! Calls: what a call returns, and which sinks it may be.

use vul2safe_code::Node;
use vul2safe_code::Span;

use super::flow::{Environment, Flow};
use super::guards;
use super::results::{gives_numbers, holds_markup, passes_on, replaced, sanitised, splits_lines};
use super::value::{Level, Risk, Value};

/// A call with evaluated arguments.
pub(crate) struct Call<'t> {
    pub node: Node<'t>,
    /// The callee's full name, imports resolved: `subprocess.run`. For a method of a value, the origin of the value
    /// and the method: `sqlite3.connect.cursor.execute`.
    pub dotted: String,
    /// The last part of the name.
    pub method: &'t str,
    /// What the method is called on, and its text.
    pub receiver: Option<Value>,
    pub receiver_text: &'t str,
    pub arguments: Vec<(Value, Node<'t>)>,
    pub keywords: Vec<(&'t str, Value, Node<'t>)>,
}

impl<'t> Call<'t> {
    pub fn keyword(&self, name: &str) -> Option<&Value> {
        self.keywords.iter().find(|keyword| keyword.0 == name).map(|keyword| &keyword.1)
    }

    pub fn keyword_node(&self, name: &str) -> Option<Node<'t>> {
        self.keywords.iter().find(|keyword| keyword.0 == name).map(|keyword| keyword.2)
    }

    /// The argument at `index`, or by name.
    pub fn argument(&self, index: usize, name: &str) -> Option<(&Value, Node<'t>)> {
        self.arguments.get(index).map(|(value, node)| (value, *node)).or_else(|| {
            self.keywords.iter().find(|keyword| keyword.0 == name).map(|keyword| (&keyword.1, keyword.2))
        })
    }

    pub fn span(&self) -> Span {
        Span::from(self.node.byte_range())
    }

    pub fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.dotted.as_str())
    }
}

impl<'a> Flow<'a> {
    pub fn call(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let Some(function) = node.child_by_field_name("function") else { return Value::at(Level::Unknown) };
        let (receiver, method, dotted, receiver_text) = if function.kind() == "attribute" {
            let object = function.child_by_field_name("object");
            let receiver = self.optional(object, environment);
            let method = self.field_text(function, "attribute");
            let dotted = format!("{}.{method}", receiver.made_by);
            (Some(receiver), method, dotted, object.map_or("", |object| self.text(object)))
        } else {
            let value = self.evaluate(function, environment);
            let dotted =
                if value.made_by.is_empty() { self.text(function).to_string() } else { value.made_by };
            (None, self.text(function), dotted, "")
        };
        let mut call = Call {
            node,
            dotted,
            method,
            receiver,
            receiver_text,
            arguments: Vec::new(),
            keywords: Vec::new(),
        };
        if let Some(arguments) = node.child_by_field_name("arguments") {
            if arguments.kind() == "generator_expression" {
                call.arguments.push((self.evaluate(arguments, environment), arguments));
            } else {
                let children: Vec<Node<'_>> = arguments.named_children().collect();
                for argument in children {
                    if argument.kind() == "comment" {
                        continue;
                    }
                    let (name, expression) = match argument.kind() {
                        "keyword_argument" => {
                            (Some(self.field_text(argument, "name")), argument.child_by_field_name("value"))
                        }
                        _ => (None, Some(argument)),
                    };
                    let Some(expression) = expression else { continue };
                    let value = self.evaluate(expression, environment);
                    match name {
                        Some(name) => {
                            self.check_assignment(name, &value);
                            call.keywords.push((name, value, expression));
                        }
                        None => call.arguments.push((value, expression)),
                    }
                }
            }
        }
        self.check_data_call(&call);
        self.check_file_call(&call);
        self.check_secret_call(&call);
        self.check_web_call(&call);
        self.check_text_call(&call);
        self.grow_container(&call, environment);
        self.remember_query(&call, environment);
        let mut value = self.result(&call);
        value.made_by.clone_from(&call.dotted);
        if let Some(random) = self.random_source(&call) {
            value.random = Some(random);
        }
        value
    }

    /// `parts.append(x)` puts `x` into `parts`.
    fn grow_container(&mut self, call: &Call<'_>, environment: &mut Environment) {
        if !matches!(
            call.method,
            "append" | "extend" | "add" | "insert" | "appendleft" | "update" | "write" | "setdefault"
        ) {
            return;
        }
        let container =
            call.node.child_by_field_name("function").and_then(|node| node.child_by_field_name("object"));
        let Some(key) = container.and_then(|container| guards::key(self, container)) else { return };
        if let (Some(known), Some((added, _))) = (environment.get(&key), call.arguments.last()) {
            let made_by = known.made_by.clone();
            let mut grown = known.clone().or(added);
            grown.is_list = known.is_list;
            grown.made_by = made_by;
            environment.insert(key, grown);
        }
    }

    /// `cursor.execute("SELECT count(*) …")`: what is fetched from the cursor next are numbers.
    fn remember_query(&mut self, call: &Call<'_>, environment: &mut Environment) {
        if call.method != "execute" {
            return;
        }
        let holder =
            call.node.child_by_field_name("function").and_then(|node| node.child_by_field_name("object"));
        let Some(key) = holder.and_then(|holder| guards::key(self, holder)) else { return };
        if let Some(cursor) = environment.get_mut(&key) {
            if gives_numbers(call) {
                cursor.clean(Risk::Html);
            } else {
                cursor.raise(Risk::Html, Level::Unknown);
            }
        }
    }

    fn result(&mut self, call: &Call<'_>) -> Value {
        if let Some(value) = self.string_method(call) {
            return value;
        }
        let first = call.arguments.first().map(|argument| &argument.0);
        let own = self.defined.contains_key(call.method);
        let same = |value: &Value| value.clone();
        if !own && let Some(value) = first.and_then(|first| sanitised(call, first)) {
            return value;
        }
        match call.dotted.as_str() {
            "os.path.join"
            | "posixpath.join"
            | "pathlib.Path"
            | "Path"
            | "pathlib.PurePath"
            | "PurePath"
            | "pathlib.PosixPath"
            | "pathlib.PurePosixPath"
            | "werkzeug.utils.safe_join"
            | "safe_join" => {
                let value = self.path_join(&[], call);
                return if call.method == "safe_join" { value.cleaned(&[Risk::Path]) } else { value };
            }
            "os.path.realpath" | "os.path.abspath" | "os.path.normpath" | "posixpath.normpath" => {
                let mut value = first.map_or_else(|| Value::at(Level::Unknown), same);
                value.resolved = true;
                return value;
            }
            "os.listdir" | "os.walk" | "os.scandir" | "glob.glob" | "glob.iglob" => {
                return Value::at(Level::Unknown).cleaned(&[Risk::Path]);
            }
            "input" | "raw_input" => return Value::at(Level::Parameter),
            "open" | "io.open" | "codecs.open" if !own => {
                let mut value = Value::at(Level::Unknown);
                if let Some(path) = first {
                    for source in &path.sources {
                        value.add_source(source);
                    }
                    // Whoever chooses the file chooses the text, unless all files to choose from are pages.
                    value.raise(Risk::Html, path.level(Risk::Html));
                    if path.level(Risk::Html) <= Level::Clean || holds_markup(path) {
                        value.clean(Risk::Html);
                    }
                }
                return value;
            }
            _ => {}
        }
        if let Some(receiver) = &call.receiver {
            match call.method {
                "resolve" | "absolute" | "expanduser" => {
                    let mut value = receiver.clone();
                    value.resolved |= call.method == "resolve";
                    return value;
                }
                "joinpath" | "with_name" => return self.path_join(&[receiver], call),
                "iterdir" | "rglob" => return Value::at(Level::Unknown).cleaned(&[Risk::Path]),
                "replace" => return replaced(receiver, call),
                // What the table says is not known; taking characters away is what it is for.
                "translate" => return receiver.clone().cleaned(&[Risk::Log]),
                "strip" | "lstrip" | "rstrip" | "lower" | "upper" | "encode" | "decode" | "title"
                | "capitalize" | "casefold" | "as_posix" | "removeprefix" | "removesuffix" | "zfill"
                | "ljust" | "rjust" | "getvalue" | "swapcase" => {
                    return receiver.clone();
                }
                // What other people stored is no more to be trusted on a page than what they send.
                "execute" | "fetchone" | "fetchall" | "fetchmany" | "fetchrow" | "fetchval" => {
                    let mut value = Value::at(Level::Unknown);
                    value.absorb(receiver);
                    let numbers = if call.method == "execute" {
                        gives_numbers(call)
                    } else {
                        receiver.level(Risk::Html) <= Level::Clean
                    };
                    if numbers {
                        value.clean(Risk::Html);
                    } else {
                        value.raise(Risk::Html, Level::Parameter);
                    }
                    return value;
                }
                "read_text" | "read_bytes" if holds_markup(receiver) => {
                    let mut value = Value::at(Level::Constant);
                    value.absorb(receiver);
                    return value.cleaned(&[Risk::Html]);
                }
                "split" | "rsplit" | "splitlines" if splits_lines(call) => {
                    let mut value = Value::at(Level::Constant);
                    value.absorb(receiver);
                    return value.cleaned(&[Risk::Log]);
                }
                "isoformat" | "hexdigest" | "digest" | "count" | "find" | "index" | "bit_length"
                | "timestamp" => {
                    let mut value = Value::at(Level::Clean);
                    value.random = receiver.random.or(first.and_then(|first| first.random));
                    for source in &receiver.sources {
                        value.add_source(source);
                    }
                    return value;
                }
                _ => {}
            }
        }
        // Of other functions nothing is known but what went in.
        let mut value = Value::at(Level::Constant);
        if let Some(receiver) = &call.receiver {
            value.absorb(receiver);
            value.joined = receiver.joined && call.dotted.contains("Path");
        }
        let is_constant_lookup = call.method == "get" && value.highest() == Level::Constant;
        if is_constant_lookup {
            let default = call.arguments.get(1).map(|argument| &argument.0);
            return default.map_or(value.clone(), |default| value.or(default));
        }
        let passes = passes_on(&call.dotted, call.method);
        let mut arguments = Value::at(Level::Constant);
        for (argument, _) in &call.arguments {
            arguments.absorb(argument);
        }
        for (_, argument, _) in &call.keywords {
            arguments.absorb(argument);
        }
        if !passes {
            arguments = arguments.capped(Level::Unknown);
        } else if call.arguments.len() == 1
            && let Some(first) = first
        {
            let receiver = value;
            let mut value = first.clone();
            value.absorb(&receiver);
            value.absorb(&arguments);
            if call.dotted.contains("open") {
                value.built = None;
            }
            return value;
        }
        value.absorb(&arguments);
        if value.highest() == Level::Constant && !passes {
            let sources = std::mem::take(&mut value.sources);
            value = Value { sources, random: value.random, ..Value::at(Level::Unknown) };
        }
        value
    }

    /// A path of several components.
    fn path_join(&mut self, before: &[&Value], call: &Call<'_>) -> Value {
        let mut parts: Vec<Value> = Vec::new();
        let arguments = call.arguments.iter().map(|argument| &argument.0);
        for part in before.iter().copied().chain(arguments) {
            if !parts.is_empty() {
                parts.push(Value::constant("/"));
            }
            let mut part = part.clone();
            if part.is_list {
                part.joined |= part.level(Risk::Path) >= Level::Parameter;
            }
            parts.push(part);
        }
        let mut value = Value::build(&parts, call.span());
        value.resolved = parts.len() == 1 && parts[0].resolved;
        if parts.len() == 1 {
            value.built = parts[0].built;
            value.facts = parts[0].facts;
        } else {
            // A check of the last component holds for the path.
            value.facts =
                parts.iter().rev().find(|part| part.highest() >= Level::Unknown).map_or(0, |part| part.facts);
        }
        value
    }
}
