//! Calls: what a call returns, and which sinks it may be.

use vul2safe_code::Span;
use vul2safe_code::tree_sitter::Node;

use super::flow::{Environment, Flow};
use super::guards;
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
                let mut cursor = arguments.walk();
                let children: Vec<Node<'_>> = arguments.named_children(&mut cursor).collect();
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
        self.grow_container(&call, environment);
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
                "strip" | "lstrip" | "rstrip" | "lower" | "upper" | "encode" | "decode" | "title"
                | "capitalize" | "casefold" | "as_posix" | "removeprefix" | "removesuffix" | "zfill"
                | "ljust" | "rjust" | "getvalue" | "swapcase" => {
                    return receiver.clone();
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

/// Functions whose result is as dangerous as their arguments.
fn passes_on(dotted: &str, method: &str) -> bool {
    dotted.starts_with("os.path.")
        || dotted.starts_with("zipfile.")
        || dotted.starts_with("tarfile.")
        || dotted.starts_with("base64.")
        || dotted.starts_with("urllib.parse.")
        || matches!(
            method,
            "str"
                | "bytes"
                | "bytearray"
                | "list"
                | "tuple"
                | "set"
                | "sorted"
                | "reversed"
                | "enumerate"
                | "zip"
                | "map"
                | "filter"
                | "dict"
                | "next"
                | "iter"
                | "max"
                | "min"
                | "unquote"
                | "unquote_plus"
                | "urlparse"
                | "urlsplit"
                | "urljoin"
                | "dedent"
                | "BytesIO"
                | "StringIO"
                | "_"
                | "gettext"
                | "ugettext"
                | "unicode"
                | "basestring"
                | "force_text"
                | "smart_text"
                | "fspath"
                | "ZipFile"
                | "TarFile"
                | "deepcopy"
                | "copy"
                | "Popen"
                | "format"
                | "text"
                | "Markup"
                | "mark_safe"
                | "SafeText"
                | "SafeString"
                | "loads"
        )
}

/// The value after a known sanitiser, or `None` if the call is none.
fn sanitised(call: &Call<'_>, first: &Value) -> Option<Value> {
    let kept = || Value { text: String::new(), ..first.clone() };
    match call.method {
        "int" | "float" | "bool" | "len" | "ord" | "hash" | "id" | "round" | "abs" | "Decimal" | "UUID"
        | "isinstance" | "callable" | "sum" => {
            let mut value = Value::at(Level::Clean);
            value.random = first.random;
            return Some(value);
        }
        "basename" | "secure_filename" | "get_valid_filename" => {
            return Some(Value { joined: false, ..kept() }.cleaned(&[Risk::Path]));
        }
        "literal_eval" => return Some(kept().cleaned(&[Risk::Code])),
        "repr" | "ascii" => return Some(kept().cleaned(&[Risk::Log])),
        "dumps" => return Some(kept().cleaned(&[Risk::Log, Risk::Code])),
        "urlencode" | "quote_plus" => return Some(kept().cleaned(&[Risk::Html, Risk::Url, Risk::Log])),
        "quote" if call.dotted.starts_with("urllib") || call.dotted.starts_with("parse.") => {
            return Some(kept().cleaned(&[Risk::Html, Risk::Url, Risk::Log]));
        }
        "quote" | "list2cmdline" => return Some(kept().cleaned(&[Risk::Shell])),
        "sub" if call.dotted.starts_with("re.") || call.receiver.is_some() => {
            return Some(substituted(call, first));
        }
        _ => {}
    }
    let name = call.method.to_ascii_lowercase();
    if name.contains("escape") && !name.contains("unescape") {
        let risks: &[Risk] = match call.dotted.as_str() {
            "re.escape" => &[],
            _ if name.contains("sql") || name.contains("string") => &[Risk::Sql, Risk::Html],
            _ if name.contains("shell") => &[Risk::Shell],
            _ => &[Risk::Html],
        };
        return Some(kept().cleaned(risks));
    }
    if matches!(name.as_str(), "bleach.clean" | "clean_html" | "quoteattr" | "format_html" | "strip_tags")
        || call.dotted == "bleach.clean"
    {
        return Some(kept().cleaned(&[Risk::Html]));
    }
    if name.contains("sanitize")
        || name.contains("sanitise")
        || name.starts_with("safe_")
        || name.starts_with("secure_")
    {
        let mut value = kept();
        value.clean_all();
        return Some(value);
    }
    None
}

/// `re.sub(pattern, replacement, text)`: a pattern of what is *not* allowed leaves only what is.
fn substituted(call: &Call<'_>, first: &Value) -> Value {
    let (pattern, text) = match call.arguments.get(2) {
        Some((text, _)) => (first.text.as_str(), text),
        None => ("", call.arguments.get(1).map_or(first, |argument| &argument.0)),
    };
    let mut value = Value { text: String::new(), ..text.clone() };
    let keeps_listed = pattern.starts_with("[^") && pattern.trim_end_matches(['+', '*']).ends_with(']');
    if keeps_listed {
        let keeps_quotes = pattern.contains(['\'', '"', '<', ';', '`', '$']) || pattern.contains("\\s\\S");
        if !keeps_quotes {
            value = value.cleaned(&[Risk::Sql, Risk::Shell, Risk::Html, Risk::Log, Risk::Code]);
            if !pattern.contains('/') {
                value.clean(Risk::Path);
            }
        }
    } else if pattern == "\\W" || pattern == "\\W+" {
        value.clean_all();
    } else if pattern.contains("\\n") || pattern.contains("\\s") || pattern.contains("\\x00") {
        value.clean(Risk::Log);
    }
    value
}

/// `text.replace(old, new)`.
fn replaced(receiver: &Value, call: &Call<'_>) -> Value {
    let mut value = receiver.clone();
    let old = call.arguments.first().map_or("", |argument| argument.0.text.as_str());
    match old {
        "\\n" | "\\r\\n" | "\n" => value.clean(Risk::Log),
        "<" => value.clean(Risk::Html),
        "/" | "\\\\" | "\\" if old == "/" => value.clean(Risk::Path),
        _ => {}
    }
    value
}
