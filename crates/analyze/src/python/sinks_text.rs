//! Sinks that take a text apart or put one together: patterns, names of methods, templates, header lines, signatures.

use vul2safe_code::Node;
use vul2safe_code::Span;

use super::calls::Call;
use super::flow::Flow;
use super::value::{Level, Risk, Value, names_any};

impl Flow<'_> {
    pub fn check_text_call(&mut self, call: &Call<'_>) {
        self.pattern(call);
        self.reflection(call);
        self.template(call);
        self.header_line(call);
        self.signature_part(call);
    }

    /// `re.match(r"(\w+,?)+", text)` tries every way to cut a long word into short ones.
    fn pattern(&mut self, call: &Call<'_>) {
        let takes_pattern = matches!(
            call.method,
            "compile" | "match" | "fullmatch" | "search" | "findall" | "finditer" | "sub" | "split"
        );
        if !takes_pattern || !call.dotted.starts_with("re.") {
            return;
        }
        let Some((pattern, node)) = call.argument(0, "pattern") else { return };
        if pattern.highest() == Level::Constant && backtracks(&pattern.text) {
            let message = "the time grows exponentially with the length of a text that almost fits";
            self.report("regex-backtracking", None, Span::from(node.byte_range()), message);
        }
    }

    /// `getattr(device, name)()` calls whatever the caller names.
    fn reflection(&mut self, call: &Call<'_>) {
        let name = match call.dotted.as_str() {
            "getattr" if self.is_called(call.node) => call.arguments.get(1),
            "operator.methodcaller" | "methodcaller" => call.arguments.first(),
            _ => None,
        };
        let Some((name, _)) = name else { return };
        if name.level(Risk::Code) >= Level::Parameter && name.built.is_none() && name.begins_free() {
            let message = "the caller chooses which method is called";
            self.report("reflection", None, call.span(), message);
        }
    }

    /// Whether what an expression gives is called: at once, or under the name that it is assigned to.
    fn is_called(&self, node: Node<'_>) -> bool {
        let Some(parent) = node.parent() else { return false };
        match parent.kind() {
            "call" => parent.child_by_field_name("function") == Some(node),
            "assignment" => {
                let name = self.field_text(parent, "left");
                let block = parent.parent().and_then(|statement| statement.parent());
                !name.is_empty()
                    && block.is_some_and(|block| {
                        let called = format!("{name}(");
                        let text = self.text(block);
                        text.match_indices(&called).any(|(at, _)| {
                            !text[..at].ends_with(|before: char| {
                                before.is_alphanumeric() || matches!(before, '_' | '.')
                            })
                        })
                    })
            }
            _ => false,
        }
    }

    /// `template.format(user=user)` lets whoever wrote the template read every attribute of `user`.
    fn template(&mut self, call: &Call<'_>) {
        let Some(receiver) = &call.receiver else { return };
        let fills = matches!(call.method, "format" | "format_map");
        let written = names_any(call.receiver_text, &["template", "templates", "tmpl", "tpl"]);
        let values = || {
            call.arguments
                .iter()
                .map(|argument| &argument.0)
                .chain(call.keywords.iter().map(|keyword| &keyword.1))
        };
        if fills
            && written
            && receiver.built.is_none()
            && receiver.level(Risk::Code) >= Level::Parameter
            && values().any(|value| value.built.is_none() && value.level(Risk::Code) >= Level::Parameter)
        {
            let message = "a template from outside can read every attribute of what it is filled with";
            self.report("template-format", None, call.span(), message);
        }
    }

    /// `headers.append(f"X-Name: {name}\r\n")`.
    fn header_line(&mut self, call: &Call<'_>) {
        let adds = matches!(call.method, "append" | "write" | "insert" | "extend");
        if !adds || !names_any(call.receiver_text, &["header", "headers"]) {
            return;
        }
        for (value, node) in &call.arguments {
            let line = value.text.contains(": ") && value.text.ends_with("\\n");
            if line && value.built.is_some() && value.level(Risk::Log) >= Level::Parameter {
                let span = value.built.unwrap_or_else(|| Span::from(node.byte_range()));
                let message = "a line break in the value makes a header of its own";
                self.report("header-injection", None, span, message);
            }
        }
    }

    /// `right.startswith(mark)` and `zip(mark, right)` also hold for the first letters of a signature, or for none.
    fn signature_part(&mut self, call: &Call<'_>) {
        let compares = match call.method {
            "startswith" | "endswith" => call.receiver.as_ref().is_some_and(is_signature),
            "zip" => call.receiver.is_none() && call.arguments.iter().any(|(value, _)| is_signature(value)),
            _ => false,
        };
        if compares {
            self.report("partial-signature", None, call.span(), PARTIAL);
        }
    }

    /// `mark in right`.
    pub fn check_signature_membership(&mut self, node: Node<'_>, values: &[Value]) {
        let (Some(left), Some(right)) = (node.named_child(0), node.named_child(1)) else { return };
        if let [_, whole] = values
            && matches!(self.text_between(left, right), "in" | "not in")
            && is_signature(whole)
        {
            self.report("partial-signature", None, Span::from(node.byte_range()), PARTIAL);
        }
    }
}

const PARTIAL: &str = "a part of the signature, or an empty one, is taken for all of it";

/// Whether a value is the digest of an `hmac`.
fn is_signature(value: &Value) -> bool {
    value.made_by.starts_with("hmac.")
        && (value.made_by.ends_with("digest") || value.made_by.ends_with("digest.upper"))
}

/// A piece of a pattern between two others.
#[derive(Clone, PartialEq, Eq)]
struct Atom<'t> {
    text: &'t str,
    /// It may match nothing.
    optional: bool,
    /// It may repeat without end.
    unbounded: bool,
}

/// Whether a part of the pattern that repeats without end can itself be one repeated thing: `(\w+)*`, `(\w+,?)+`,
/// `(\w*,?\w+)+`, `(\w+|\w+,)*`. Then a text of n such things can be cut in 2ⁿ ways, and a text that fits but for its
/// end makes the matcher try them all. A part with anything that must stand between the repeated things, as in
/// `\w+(,\w+)*`, is left alone.
pub(super) fn backtracks(pattern: &str) -> bool {
    if pattern.len() > 400 || !pattern.is_ascii() {
        return false;
    }
    atoms(pattern).is_some_and(|alternatives| alternatives.iter().flatten().any(ambiguous))
}

fn ambiguous(atom: &Atom<'_>) -> bool {
    let alternatives = inside(atom);
    (atom.unbounded && alternatives.iter().any(|atoms| is_one_thing(atoms)))
        || alternatives.iter().flatten().any(ambiguous)
}

/// The alternatives of a group; none for anything else, nor for what looks around and takes no text.
fn inside<'t>(atom: &Atom<'t>) -> Vec<Vec<Atom<'t>>> {
    let Some(inner) = atom.text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else {
        return Vec::new();
    };
    if ["?=", "?!", "?<"].iter().any(|start| inner.starts_with(start)) {
        return Vec::new();
    }
    let inner = match inner.strip_prefix("?P<").and_then(|named| named.split_once('>')) {
        Some((_, rest)) => rest,
        None => inner.strip_prefix("?:").unwrap_or(inner),
    };
    atoms(inner).unwrap_or_default()
}

/// Whether a sequence can be one repeated thing: what must be there repeats, and is always the same.
fn is_one_thing(atoms: &[Atom<'_>]) -> bool {
    let repeats = |atom: &Atom<'_>| atom.unbounded || inside(atom).iter().any(|atoms| is_one_thing(atoms));
    let mut needed = atoms.iter().filter(|atom| !atom.optional);
    atoms.iter().any(repeats)
        && needed
            .next()
            .is_none_or(|first| repeats(first) && needed.all(|atom| atom.text == first.text && repeats(atom)))
}

/// The alternatives of a pattern, each as its atoms; `None` for what is no pattern.
fn atoms(pattern: &str) -> Option<Vec<Vec<Atom<'_>>>> {
    let bytes = pattern.as_bytes();
    let mut alternatives = vec![Vec::new()];
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'|' => {
                alternatives.push(Vec::new());
                at += 1;
                continue;
            }
            b'^' | b'$' => {
                at += 1;
                continue;
            }
            b'\\' => at += 2,
            b'[' => at = end_of_class(bytes, at)?,
            b'(' => at = end_of_group(bytes, at)?,
            b')' | b'*' | b'+' | b'?' => return None,
            _ => at += 1,
        }
        let text = pattern.get(start..at)?;
        let (mut optional, mut unbounded) = (false, false);
        match bytes.get(at) {
            Some(b'*') => (optional, unbounded, at) = (true, true, at + 1),
            Some(b'+') => (unbounded, at) = (true, at + 1),
            Some(b'?') => (optional, at) = (true, at + 1),
            Some(b'{') => {
                let end = at + pattern[at..].find('}')?;
                let count = &pattern[at + 1..end];
                optional = count.starts_with('0') || count.starts_with(',');
                unbounded = count.ends_with(',');
                at = end + 1;
            }
            _ => {}
        }
        // `+?` is lazy, `++` keeps what it has and never goes back.
        match bytes.get(at) {
            Some(b'?') => at += 1,
            Some(b'+') => (unbounded, at) = (false, at + 1),
            _ => {}
        }
        let last = alternatives.last_mut()?;
        last.push(Atom { text, optional, unbounded });
    }
    Some(alternatives)
}

/// The place after the `]` of the class that starts at `at`.
fn end_of_class(bytes: &[u8], at: usize) -> Option<usize> {
    let mut place = at + 1;
    if bytes.get(place) == Some(&b'^') {
        place += 1;
    }
    // A `]` that comes first is one of the class.
    place += 1;
    while *bytes.get(place)? != b']' {
        place += if bytes[place] == b'\\' { 2 } else { 1 };
    }
    Some(place + 1)
}

/// The place after the `)` of the group that starts at `at`.
fn end_of_group(bytes: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut place = at;
    loop {
        match *bytes.get(place)? {
            b'\\' => place += 1,
            b'[' => place = end_of_class(bytes, place)? - 1,
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(place + 1),
            b')' => depth -= 1,
            _ => {}
        }
        place += 1;
    }
}
