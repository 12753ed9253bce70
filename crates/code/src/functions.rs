//! Functions: signature, body, parameters, names, calls.

use tree_sitter::Node;

use crate::statements::{header_span, is_statement_kind};
use crate::{Language, Parsed, Span};

/// What a function's text says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name; `Class::name` keeps its qualification in C++. Empty where the text has none.
    pub name: String,
    /// The whole definition, decorators included.
    pub span: Span,
    /// From `def` (or the return type) to the colon (or the closing parenthesis).
    pub signature: Span,
    /// The block below the signature.
    pub body: Span,
    /// Names of the parameters, without stars, types and defaults.
    pub parameters: Vec<String>,
    /// The docstring without its quotes, outer white space trimmed. In C and C++ the comment right above the function,
    /// without its marks.
    pub docstring: Option<String>,
    /// The comments inside, in order, with their marks.
    pub comments: Vec<String>,
    /// Callees as written (`os.path.join`), white space removed, in order, each once.
    pub calls: Vec<String>,
    /// Parameters and names bound inside, in order, each once.
    pub locals: Vec<String>,
    /// Whether some `return` gives a value, or the function yields. Nested functions do not count.
    pub returns_value: bool,
    /// Whether it stands in a class, is qualified by one, or takes `self` or `cls` first.
    pub is_method: bool,
    /// The statements inside, in order of the text, nested ones included; of compound statements the header.
    pub statements: Vec<Span>,
}

impl Parsed {
    /// Every function of the text, nested ones included, in order of the text.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        Parsed::walk(self.root(), |node| {
            if node.kind() == "function_definition"
                && let Some(function) = describe(self, node)
            {
                functions.push(function);
            }
            true
        });
        functions
    }
}

/// Adds `text` unless it is already there or empty.
fn add(list: &mut Vec<String>, text: &str) {
    if !text.is_empty() && !list.iter().any(|known| known == text) {
        list.push(text.to_string());
    }
}

fn describe(parsed: &Parsed, node: Node<'_>) -> Option<Function> {
    let body = node.child_by_field_name("body")?;
    let parent = node.parent();
    let decorated = parent.filter(|parent| parent.kind() == "decorated_definition");
    let outer = decorated.unwrap_or(node);
    let in_class = outer.parent().and_then(|block| block.parent()).is_some_and(|holder| {
        matches!(holder.kind(), "class_definition" | "class_specifier" | "struct_specifier")
    });
    let (name, parameters) = match parsed.language() {
        Language::Python => (
            node.child_by_field_name("name").map_or("", |name| parsed.node_text(name)).to_string(),
            python_parameters(parsed, node),
        ),
        Language::C | Language::Cpp => c_name_and_parameters(parsed, node),
    };
    let is_method = in_class
        || matches!(parameters.first().map(String::as_str), Some("self" | "cls"))
        || name.contains("::");
    let mut function = Function {
        name,
        span: Span::from(outer.byte_range()),
        signature: header_span(node, parsed.text()),
        body: Span::from(body.byte_range()),
        locals: parameters.clone(),
        parameters,
        docstring: match parsed.language() {
            Language::Python => docstring(parsed, body),
            Language::C | Language::Cpp => comment_above(parsed, node),
        },
        comments: Vec::new(),
        calls: Vec::new(),
        returns_value: false,
        is_method,
        statements: Vec::new(),
    };
    collect_body(parsed, node, body, &mut function);
    Some(function)
}

fn python_parameters(parsed: &Parsed, function: Node<'_>) -> Vec<String> {
    let mut parameters = Vec::new();
    let Some(list) = function.child_by_field_name("parameters") else { return parameters };
    let mut cursor = list.walk();
    for parameter in list.named_children(&mut cursor) {
        let name = match parameter.kind() {
            "identifier" => Some(parameter),
            "default_parameter" | "typed_default_parameter" => parameter.child_by_field_name("name"),
            "typed_parameter" | "list_splat_pattern" | "dictionary_splat_pattern" => {
                first_identifier(parameter)
            }
            _ => None,
        };
        if let Some(name) = name {
            add(&mut parameters, parsed.node_text(name));
        }
    }
    parameters
}

/// The first identifier below a node.
fn first_identifier(node: Node<'_>) -> Option<Node<'_>> {
    let mut found = None;
    Parsed::walk(node, |inner| {
        if found.is_none() && inner.kind() == "identifier" {
            found = Some(inner);
        }
        found.is_none()
    });
    found
}

/// Follows declarators (`*`, `&`, parentheses) to the function declarator, and takes its name and parameters.
fn c_name_and_parameters(parsed: &Parsed, function: Node<'_>) -> (String, Vec<String>) {
    let mut declarator = function.child_by_field_name("declarator");
    while let Some(node) = declarator {
        if node.kind() == "function_declarator" {
            break;
        }
        let inner = node.child_by_field_name("declarator");
        declarator =
            inner.or_else(|| node.named_child(0).filter(|child| child.kind().ends_with("declarator")));
    }
    let Some(declarator) = declarator else { return (String::new(), Vec::new()) };
    let name = declarator
        .child_by_field_name("declarator")
        .map(|name| parsed.node_text(name).split_whitespace().collect::<String>())
        .unwrap_or_default();
    let mut parameters = Vec::new();
    if let Some(list) = declarator.child_by_field_name("parameters") {
        let mut cursor = list.walk();
        for parameter in list.named_children(&mut cursor) {
            let name = match parameter.kind() {
                "identifier" => Some(parameter),
                _ => parameter.child_by_field_name("declarator").and_then(declared_name),
            };
            if let Some(name) = name {
                add(&mut parameters, parsed.node_text(name));
            }
        }
    }
    (name, parameters)
}

/// The identifier that a C declarator declares.
fn declared_name(declarator: Node<'_>) -> Option<Node<'_>> {
    let mut node = declarator;
    loop {
        if matches!(node.kind(), "identifier" | "field_identifier") {
            return Some(node);
        }
        let inner = node.child_by_field_name("declarator").or_else(|| {
            let mut cursor = node.walk();
            node.named_children(&mut cursor)
                .find(|child| child.kind() == "identifier" || child.kind().ends_with("declarator"))
        });
        node = inner?;
    }
}

fn docstring(parsed: &Parsed, body: Node<'_>) -> Option<String> {
    let mut cursor = body.walk();
    let first = body.named_children(&mut cursor).find(|child| child.kind() != "comment")?;
    let string = match first.kind() {
        "expression_statement" => first.named_child(0)?,
        _ => first,
    };
    if string.kind() != "string" {
        return None;
    }
    let mut cursor = string.walk();
    let children: Vec<Node<'_>> = string.children(&mut cursor).collect();
    let (start, end) = (children.first()?, children.last()?);
    if start.kind() != "string_start" || end.kind() != "string_end" || start.id() == end.id() {
        return None;
    }
    parsed.text().get(start.end_byte()..end.start_byte()).map(|content| content.trim().to_string())
}

/// The comment that ends on the line above a definition, or the `//` lines there, as plain text.
fn comment_above(parsed: &Parsed, definition: Node<'_>) -> Option<String> {
    let mut below = definition;
    if let Some(template) = definition.parent().filter(|parent| parent.kind() == "template_declaration") {
        below = template;
    }
    let mut comments = Vec::new();
    while let Some(above) = below.prev_sibling().filter(|above| above.kind() == "comment") {
        let gap = parsed.text().get(above.end_byte()..below.start_byte())?;
        let text = parsed.node_text(above);
        // A block comment stands for itself, lines go together.
        let goes_on = comments.is_empty() || text.starts_with("//");
        if gap.matches('\n').count() != 1 || !goes_on {
            break;
        }
        comments.push(text);
        below = above;
        if !text.starts_with("//") {
            break;
        }
    }
    comments.reverse();
    let lines = comments.iter().flat_map(|comment| comment.lines()).map(|line| {
        let line = line.trim().trim_end_matches("*/");
        let line = ["/**", "/*!", "/*", "///", "//!", "//", "*"]
            .iter()
            .find_map(|mark| line.strip_prefix(mark))
            .unwrap_or(line);
        line.trim()
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

fn collect_body(parsed: &Parsed, definition: Node<'_>, body: Node<'_>, function: &mut Function) {
    let mut nested_end = 0;
    Parsed::walk(definition, |node| {
        let in_body = node.start_byte() >= body.start_byte() && node.id() != definition.id();
        let nested = node.start_byte() < nested_end;
        let kind = node.kind();
        if in_body && is_statement_kind(kind) {
            function.statements.push(header_span(node, parsed.text()));
        }
        match kind {
            "comment" => function.comments.push(parsed.node_text(node).to_string()),
            "call" | "call_expression" if in_body => {
                if let Some(callee) = node.child_by_field_name("function") {
                    let callee = parsed.node_text(callee).split_whitespace().collect::<String>();
                    add(&mut function.calls, &callee);
                }
            }
            "return_statement" if in_body && !nested && node.named_child_count() > 0 => {
                function.returns_value = true;
            }
            "yield" | "co_yield_statement" | "co_return_statement"
                if in_body && !nested && node.is_named() =>
            {
                function.returns_value = true;
            }
            "function_definition" | "lambda" | "lambda_expression" | "class_definition" if in_body => {
                if let Some(name) = node.child_by_field_name("name") {
                    add(&mut function.locals, parsed.node_text(name));
                }
                nested_end = nested_end.max(node.end_byte());
            }
            _ => {}
        }
        if in_body {
            bound_names(parsed, node, &mut function.locals);
        }
        true
    });
}

/// Adds the names that this one node binds.
fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    let pattern = match node.kind() {
        "assignment" | "augmented_assignment" | "for_statement" | "for_in_clause"
            if parsed.language() == Language::Python =>
        {
            node.child_by_field_name("left")
        }
        "named_expression" => node.child_by_field_name("name"),
        "as_pattern" => node.child_by_field_name("alias"),
        "import_statement" | "import_from_statement" => {
            let mut cursor = node.walk();
            for name in node.children_by_field_name("name", &mut cursor) {
                // `import a.b` binds `a`, `import a.b as c` binds `c`.
                if let Some(bound) = name.child_by_field_name("alias").or_else(|| name.named_child(0)) {
                    add(locals, parsed.node_text(bound));
                }
            }
            None
        }
        "lambda" => node.child_by_field_name("parameters"),
        "declaration" | "parameter_declaration" | "for_range_loop" => {
            let mut cursor = node.walk();
            for declarator in node.children_by_field_name("declarator", &mut cursor) {
                if let Some(name) = declared_name(declarator) {
                    add(locals, parsed.node_text(name));
                }
            }
            None
        }
        _ => None,
    };
    let Some(pattern) = pattern else { return };
    Parsed::walk(pattern, |inner| {
        match inner.kind() {
            "identifier" => add(locals, parsed.node_text(inner)),
            // `object.field = …` and `list[i] = …` bind no name.
            "attribute" | "subscript" | "call" => return false,
            _ => {}
        }
        true
    });
}

#[cfg(test)]
mod tests;
