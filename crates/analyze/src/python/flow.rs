//! Statements: the order in which values flow, branches and what cannot be reached.

use std::collections::HashMap;

use vul2safe_code::{Node, Parsed, Severity, Span};

use super::guards;
use super::value::{Level, Value};
use crate::Finding;

/// What is known of each name at one point of a function.
pub(crate) type Environment = HashMap<String, Value>;

/// Nesting of statements and expressions that is followed; deeper code is not analysed.
const DEPTH_LIMIT: usize = 120;

/// Parameters that are tools, not data.
const TOOLS: &[&str] = &[
    "self",
    "cls",
    "db",
    "conn",
    "connection",
    "cursor",
    "cur",
    "database",
    "session",
    "logger",
    "log",
    "engine",
    "lock",
    "app",
    "ctx",
];

/// One pass over a text.
pub(crate) struct Flow<'a> {
    pub parsed: &'a Parsed,
    /// Names bound by imports, with the dotted name that each stands for.
    pub aliases: HashMap<String, String>,
    /// Functions defined in the text, and whether they can refuse their arguments (raise, or return `False`). Their
    /// names prove nothing, for their code is here.
    pub defined: HashMap<String, bool>,
    /// Name of the function that is being followed.
    pub function: String,
    pub depth: usize,
    findings: Vec<Finding>,
}

/// Whether control goes on after a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Continues,
    Leaves,
}

impl<'a> Flow<'a> {
    pub fn new(parsed: &'a Parsed) -> Flow<'a> {
        let mut flow = Flow {
            parsed,
            aliases: HashMap::new(),
            defined: HashMap::new(),
            function: String::new(),
            depth: 0,
            findings: Vec::new(),
        };
        Parsed::walk(parsed.root(), |node| {
            match node.kind() {
                "import_statement" | "import_from_statement" => flow.import(node),
                "function_definition" => {
                    let name = flow.field_text(node, "name").to_string();
                    let refuses = flow.can_refuse(node);
                    flow.defined.insert(name, refuses);
                }
                _ => {}
            }
            true
        });
        flow
    }

    pub fn run(mut self) -> Vec<Finding> {
        let mut environment = Environment::new();
        self.block(self.parsed.root(), &mut environment);
        self.findings
    }

    pub fn text(&self, node: Node<'_>) -> &'a str {
        self.parsed.text().get(node.byte_range()).unwrap_or_default()
    }

    pub fn field_text(&self, node: Node<'_>, field: &str) -> &'a str {
        node.child_by_field_name(field).map_or("", |child| self.text(child))
    }

    pub fn report(&mut self, rule: &str, severity: Option<Severity>, span: Span, message: &str) {
        self.findings.extend(crate::finding(rule, severity, span, message));
    }

    /// Whether a condition in the function decides on an exception or on its answer.
    fn can_refuse(&self, function: Node<'_>) -> bool {
        let mut refuses = false;
        Parsed::walk(function, |node| {
            refuses |= match node.kind() {
                "raise_statement" => node.parent().and_then(|block| block.parent()).is_some_and(|holder| {
                    matches!(holder.kind(), "if_statement" | "elif_clause" | "else_clause" | "except_clause")
                }),
                "return_statement" => node.named_child(0).is_some_and(|value| {
                    matches!(
                        value.kind(),
                        "false" | "comparison_operator" | "boolean_operator" | "not_operator"
                    ) || self.text(value).starts_with("bool(")
                }),
                _ => false,
            };
            !refuses
        });
        refuses
    }

    fn import(&mut self, node: Node<'_>) {
        let module = self.field_text(node, "module_name").to_string();
        for name in node.children_by_field_name("name") {
            let (path, alias) = match name.kind() {
                "aliased_import" => (self.field_text(name, "name"), Some(self.field_text(name, "alias"))),
                _ => (self.text(name), None),
            };
            let full = if module.is_empty() { path.to_string() } else { format!("{module}.{path}") };
            match alias {
                Some(alias) => {
                    self.aliases.insert(alias.to_string(), full);
                }
                None if !module.is_empty() => {
                    self.aliases.insert(path.to_string(), full);
                }
                None => {}
            }
        }
    }

    /// Runs statements in order, until one leaves.
    pub fn block(&mut self, block: Node<'_>, environment: &mut Environment) -> Next {
        for statement in block.named_children() {
            if self.statement(statement, environment) == Next::Leaves {
                return Next::Leaves;
            }
        }
        Next::Continues
    }

    pub(super) fn statement(&mut self, node: Node<'_>, environment: &mut Environment) -> Next {
        if self.depth >= DEPTH_LIMIT {
            return Next::Continues;
        }
        self.depth += 1;
        let next = self.statement_inside(node, environment);
        self.depth -= 1;
        next
    }

    fn statement_inside(&mut self, node: Node<'_>, environment: &mut Environment) -> Next {
        match node.kind() {
            "comment" => {}
            "block" | "module" => return self.block(node, environment),
            "return_statement" => {
                if let Some(expression) = node.named_child(0) {
                    let value = self.evaluate(expression, environment);
                    self.check_return(expression, &value);
                }
                return Next::Leaves;
            }
            "raise_statement" => {
                self.children(node, environment);
                return Next::Leaves;
            }
            "break_statement" | "continue_statement" => return Next::Leaves,
            "if_statement" => return self.branch(node, environment),
            "while_statement" => self.while_loop(node, environment),
            "for_statement" => self.for_loop(node, environment),
            "try_statement" => return self.try_statement(node, environment),
            "with_statement" => {
                for clause in node.named_children().filter(|child| child.kind() == "with_clause") {
                    self.children(clause, environment);
                }
                if let Some(body) = node.child_by_field_name("body") {
                    return self.block(body, environment);
                }
            }
            "match_statement" => self.match_statement(node, environment),
            "function_definition" => self.function(node, environment),
            "class_definition" => {
                if let Some(body) = node.child_by_field_name("body") {
                    self.block(body, &mut environment.clone());
                }
            }
            "decorated_definition" => {
                if let Some(definition) = node.child_by_field_name("definition") {
                    self.statement(definition, environment);
                }
            }
            "assert_statement" => {
                if let Some(condition) = node.named_child(0) {
                    self.evaluate(condition, environment);
                    guards::assume(self, condition, true, environment);
                }
            }
            "expression_statement" => {
                self.children(node, environment);
                guards::assume_statement(self, node, environment);
                if self.is_exit(node) {
                    return Next::Leaves;
                }
            }
            "import_statement" | "import_from_statement" | "global_statement" | "nonlocal_statement" => {}
            _ => self.children(node, environment),
        }
        Next::Continues
    }

    /// `sys.exit()`, `abort(404)` and the like never return.
    fn is_exit(&self, statement: Node<'_>) -> bool {
        statement.named_child(0).filter(|call| call.kind() == "call").is_some_and(|call| {
            matches!(
                self.field_text(call, "function"),
                "sys.exit" | "exit" | "os._exit" | "quit" | "abort" | "flask.abort"
            )
        })
    }

    /// Evaluates every child, for its effects.
    pub fn children(&mut self, node: Node<'_>, environment: &mut Environment) {
        for child in node.named_children() {
            self.evaluate(child, environment);
        }
    }

    fn function(&mut self, node: Node<'_>, environment: &Environment) {
        let name = self.field_text(node, "name").to_string();
        let outer = std::mem::replace(&mut self.function, name);
        let mut inside = environment.clone();
        if let Some(parameters) = node.child_by_field_name("parameters") {
            for parameter in parameters.named_children() {
                let name = match parameter.kind() {
                    "identifier" => Some(parameter),
                    "default_parameter" | "typed_default_parameter" => parameter.child_by_field_name("name"),
                    _ => parameter.named_child(0),
                };
                let name = name.map_or("", |name| self.text(name)).trim_start_matches('*');
                if name.is_empty() {
                    continue;
                }
                let level = match name {
                    "request" | "req" => Level::Remote,
                    name if TOOLS.contains(&name) => Level::Unknown,
                    _ => Level::Parameter,
                };
                inside.insert(name.to_string(), Value::at(level));
            }
        }
        if let Some(body) = node.child_by_field_name("body") {
            self.block(body, &mut inside);
        }
        self.function = outer;
    }

    /// Binds the names of a target to a value.
    pub fn bind(&mut self, target: Node<'_>, value: Value, environment: &mut Environment) {
        match target.kind() {
            "identifier" | "attribute" => {
                if let Some(name) = guards::key(self, target) {
                    self.check_assignment(&name, &value);
                    // Facts about fields of the old value no longer hold.
                    let prefix = format!("{name}.");
                    environment.retain(|known, _| !known.starts_with(&prefix));
                    environment.insert(name, value);
                }
            }
            "subscript" => {
                if let Some(container) =
                    target.child_by_field_name("value").and_then(|node| guards::key(self, node))
                {
                    let key = target.child_by_field_name("subscript").map_or("", |node| self.text(node));
                    let key = key.trim_matches(['"', '\'']).to_string();
                    self.check_assignment(&key, &value);
                    self.check_header(&key, &value, target);
                    let before = environment.remove(&container).unwrap_or_else(|| Value::at(Level::Unknown));
                    environment.insert(container, before.or(&value));
                }
            }
            "pattern_list" | "tuple_pattern" | "list_pattern" | "list_splat_pattern"
            | "as_pattern_target" | "tuple" => {
                let element = element_of(&value);
                let targets: Vec<Node<'_>> = target.named_children().collect();
                let only = targets.len() == 1 && target.kind() == "as_pattern_target";
                for inner in targets {
                    self.bind(inner, if only { value.clone() } else { element.clone() }, environment);
                }
            }
            _ => {}
        }
    }
}

/// What one element of a collection is.
pub(crate) fn element_of(collection: &Value) -> Value {
    let mut element = Value::at(Level::Constant);
    element.absorb(collection);
    element.made_by = format!("{}[]", collection.made_by);
    element.built = collection.built;
    element.joined = collection.joined;
    element
}

/// What is known where two ways through the function meet.
pub(crate) fn join(mut first: Environment, second: Environment) -> Environment {
    for (name, value) in second {
        match first.remove(&name) {
            Some(known) => {
                first.insert(name, known.or(&value));
            }
            None => {
                first.insert(name, value);
            }
        }
    }
    first
}
