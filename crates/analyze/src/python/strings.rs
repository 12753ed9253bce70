//! String building: f-strings, `%`, `.format`, `.join`.

use vul2safe_code::Node;
use vul2safe_code::Span;

use super::calls::Call;
use super::flow::{Environment, Flow, element_of};
use super::value::{Level, Risk, Value};

impl Flow<'_> {
    /// A string literal, with or without interpolations.
    pub fn string(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let mut parts = Vec::new();
        let mut dynamic = false;
        let children: Vec<Node<'_>> = node.named_children().collect();
        for child in children {
            match child.kind() {
                "string_content" => parts.push(Value::constant(self.text(child))),
                "interpolation" => {
                    dynamic = true;
                    let value = self.optional(
                        child.child_by_field_name("expression").or(child.named_child(0)),
                        environment,
                    );
                    let conversion = self.field_text(child, "type_conversion");
                    let format = child.child_by_field_name("format_specifier");
                    let format = format.map_or("", |format| self.text(format));
                    let mut value = formatted(value, format.chars().last().unwrap_or(' '));
                    if matches!(conversion, "!r" | "!a") || self.text(child).contains("!r") {
                        value.clean(Risk::Log);
                    }
                    parts.push(value);
                }
                _ => {}
            }
        }
        let mut value = Value::build(&parts, Span::from(node.byte_range()));
        if !dynamic {
            value.built = None;
        }
        value
    }

    /// `template % right`.
    pub fn percent(
        &mut self,
        left: Node<'_>,
        template: &Value,
        right: Node<'_>,
        environment: &mut Environment,
        span: Span,
    ) -> Value {
        let looks_like_text =
            template.text.contains('%') || matches!(left.kind(), "string" | "concatenated_string");
        let mut inner = right;
        while inner.kind() == "parenthesized_expression" {
            let Some(child) = inner.named_child(0) else { break };
            inner = child;
        }
        let values = match inner.kind() {
            "tuple" => self.evaluate_children(inner, environment),
            _ => vec![self.evaluate(inner, environment)],
        };
        if !looks_like_text {
            return values.iter().fold(template.clone(), |all, value| all.or(value));
        }
        let mut parts = Vec::new();
        let mut values_left = values.iter();
        let by_name = inner.kind() == "dictionary" || template.text.contains("%(");
        for piece in pieces(&template.text) {
            match piece {
                Piece::Text(text) => parts.push(Value::constant(text)),
                Piece::Conversion(letter) => {
                    let value =
                        if by_name || values.len() == 1 { values.first() } else { values_left.next() };
                    let mut value =
                        formatted(value.cloned().unwrap_or_else(|| Value::at(Level::Constant)), letter);
                    value.is_list = false;
                    if letter == 'r' {
                        value.clean(Risk::Log);
                    }
                    parts.push(value);
                }
            }
        }
        // A template that is itself dynamic keeps its own danger.
        let mut whole = Value::build(&parts, span);
        if template.highest() > Level::Constant {
            let (built, text) = (whole.built, std::mem::take(&mut whole.text));
            whole = whole.or(template);
            whole.built = built.or(template.built);
            whole.text = text;
        }
        whole
    }

    /// `"…".format(…)` and `"…".join(…)`, or `None` for other methods.
    pub fn string_method(&mut self, call: &Call<'_>) -> Option<Value> {
        let receiver = call.receiver.as_ref()?;
        let span = Span::from(call.node.byte_range());
        match call.method {
            "format" | "format_map" => Some(format_braces(receiver, call, span)),
            "join" if !call.dotted.starts_with("os.path") && !call.dotted.starts_with("posixpath") => {
                let (items, _) = call.arguments.first()?;
                let element = Value { is_list: false, text: items.text.clone(), ..element_of(items) };
                let mut element = element;
                // What was split at line breaks is put together with line breaks again.
                let was_split = [".split", ".rsplit", ".splitlines"];
                if was_split.iter().any(|end| items.made_by.ends_with(end)) && has_line_break(&receiver.text)
                {
                    element.raise(Risk::Log, items.highest());
                }
                let mut whole = Value::build(&[receiver.clone(), element], span);
                whole.joined |= receiver.text.contains('/') && items.level(Risk::Path) >= Level::Parameter;
                // The pieces are what was put together; a join of finished pieces points at them.
                if items.built.is_some() && items.highest() > Level::Constant {
                    whole.built = items.built;
                }
                Some(whole)
            }
            _ => None,
        }
    }
}

/// A value put through a conversion: a number conversion makes it a number, or raises.
fn formatted(mut value: Value, letter: char) -> Value {
    if matches!(
        letter,
        'd' | 'i' | 'u' | 'f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'x' | 'X' | 'o' | 'n' | 'b' | '%'
    ) {
        value.number_format |= value.highest() >= Level::Unknown;
        value.clean_all();
    }
    value
}

/// Whether literal text, as written in a program, has a line break.
pub(crate) fn has_line_break(text: &str) -> bool {
    text.contains('\n') || text.contains("\\n") || text.contains("\\r")
}

enum Piece<'t> {
    Text(&'t str),
    Conversion(char),
}

/// Splits a `%` template.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('%') {
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start]));
        }
        let mut after = &rest[start + 1..];
        if let Some(named) = after.strip_prefix('(') {
            after = named.find(')').map_or("", |end| &named[end + 1..]);
        }
        let flags = after.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(after.len());
        after = &after[flags..];
        let Some(letter) = after.chars().next() else { return pieces };
        if letter == '%' {
            pieces.push(Piece::Text("%"));
        } else {
            pieces.push(Piece::Conversion(letter));
        }
        rest = &after[letter.len_utf8()..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

fn format_braces(template: &Value, call: &Call<'_>, span: Span) -> Value {
    let mut parts = Vec::new();
    let mut next = 0;
    let mut rest = template.text.as_str();
    while let Some(start) = rest.find('{') {
        if let Some(after) = rest[start..].strip_prefix("{{") {
            parts.push(Value::constant(&rest[..=start]));
            rest = after;
            continue;
        }
        parts.push(Value::constant(&rest[..start]));
        let inside = &rest[start + 1..];
        let end = inside.find('}').unwrap_or(inside.len());
        let (field, specifier) = inside[..end].split_once(':').unwrap_or((&inside[..end], ""));
        let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
        let name = field.split(['.', '[']).next().unwrap_or_default();
        let chosen = match name.parse::<usize>() {
            Ok(index) => call.arguments.get(index).map(|argument| &argument.0),
            Err(_) if name.is_empty() => {
                next += 1;
                call.arguments.get(next - 1).map(|argument| &argument.0)
            }
            Err(_) => call.keyword(name),
        };
        // `*values` and `**values` stand for any of them.
        let fallback = || call.arguments.last().map(|argument| &argument.0);
        if let Some(value) = chosen.or_else(fallback) {
            let mut value = formatted(value.clone(), specifier.chars().last().unwrap_or(' '));
            value.is_list = false;
            if conversion == "r" {
                value.clean(Risk::Log);
            }
            parts.push(value);
        }
        rest = inside.get(end + 1..).unwrap_or_default();
    }
    parts.push(Value::constant(rest));
    let mut whole = Value::build(&parts, span);
    if template.text.is_empty() {
        // The template is not known: everything may have gone in.
        for (value, _) in &call.arguments {
            whole.absorb(value);
        }
        for (_, value, _) in &call.keywords {
            whole.absorb(value);
        }
        whole.absorb(template);
        whole.built = Some(span);
    }
    whole
}
