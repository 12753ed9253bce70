//! Expressions: from a node to a [`Value`].

use vul2safe_code::{Node, Parsed, Span};

use super::flow::{Environment, Flow, element_of};
use super::guards;
use super::value::{Level, Risk, Value, is_capital};

/// Nesting of expressions that is followed. A deeper one counts as unknown.
const DEPTH_LIMIT: usize = 150;

/// Words of fields that hold the SQL identifiers of a class.
const OWN_IDENTIFIERS: &[&str] = &["table", "tablename", "schema"];

impl Flow<'_> {
    /// What an expression is worth; calls in it are checked on the way.
    pub fn evaluate(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        if self.depth >= DEPTH_LIMIT {
            return Value::at(Level::Unknown);
        }
        self.depth += 1;
        let value = self.evaluate_inside(node, environment);
        self.depth -= 1;
        value
    }

    fn evaluate_inside(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let span = Span::from(node.byte_range());
        match node.kind() {
            "integer" | "float" => Value::constant(self.text(node)),
            "true" | "false" | "none" | "ellipsis" | "comment" => Value::at(Level::Constant),
            "string" => self.string(node, environment),
            "concatenated_string" => {
                let parts = self.evaluate_children(node, environment);
                Value::build(&parts, span)
            }
            "identifier" => self.name(node, environment),
            "attribute" => self.attribute(node, environment),
            "subscript" => self.subscript(node, environment),
            "call" => self.call(node, environment),
            "binary_operator" => self.binary(node, environment),
            "comparison_operator" => {
                let values = self.evaluate_children(node, environment);
                self.check_comparison(node, &values);
                Value::at(Level::Clean)
            }
            "not_operator" => {
                self.children(node, environment);
                Value::at(Level::Clean)
            }
            "boolean_operator" => {
                let left = node.child_by_field_name("left");
                let first = left.map(|left| self.evaluate(left, environment));
                let is_and =
                    node.child_by_field_name("operator").is_some_and(|operator| operator.kind() == "and");
                // The right side runs only if the left side came out so.
                let mut inside = environment.clone();
                if let Some(left) = left {
                    guards::assume(self, left, is_and, &mut inside);
                }
                let second = node.child_by_field_name("right").map(|right| self.evaluate(right, &mut inside));
                match (first, second) {
                    (Some(first), Some(second)) => first.or(&second),
                    (first, second) => first.or(second).unwrap_or_else(|| Value::at(Level::Unknown)),
                }
            }
            "conditional_expression" => self.conditional(node, environment),
            "assignment" => self.assignment(node, environment),
            "augmented_assignment" => self.augmented(node, environment),
            "named_expression" => {
                let value = self.optional(node.child_by_field_name("value"), environment);
                if let Some(name) = node.child_by_field_name("name") {
                    self.bind(name, value.clone(), environment);
                }
                value
            }
            "as_pattern" => {
                let value = self.optional(node.named_child(0), environment);
                if let Some(alias) = node.child_by_field_name("alias") {
                    self.bind(alias, value.clone(), environment);
                }
                value
            }
            "list_comprehension"
            | "set_comprehension"
            | "generator_expression"
            | "dictionary_comprehension" => self.comprehension(node, environment),
            "lambda" => self.optional(node.child_by_field_name("body"), &mut environment.clone()),
            "pair" => {
                let value = self.optional(node.child_by_field_name("value"), environment);
                if let Some(key) = node.child_by_field_name("key") {
                    let key = self.evaluate(key, environment).text;
                    self.check_assignment(&key, &value);
                    self.check_header(&key, &value, node);
                }
                value
            }
            "list" | "tuple" | "set" | "dictionary" | "expression_list" => {
                let parts = self.evaluate_children(node, environment);
                let mut whole = Value::at(Level::Constant);
                for part in &parts {
                    whole = whole.or(part);
                }
                // Elements stand beside each other, none instead of another.
                let fallback = parts.iter().map(|part| &part.fallback).find(|fallback| !fallback.is_empty());
                whole.fallback = fallback.cloned().unwrap_or_default();
                whole.is_list = true;
                // The text of all elements, should they be joined.
                whole.text = Value::build(&parts, span).text;
                whole
            }
            "yield" => {
                let value = self.optional(node.named_child(0), environment);
                self.check_return(node, &value);
                value
            }
            // `(x)`, `-x`, `await x`, `*x`, `with x`: worth what is inside.
            _ => {
                let mut whole: Option<Value> = None;
                for part in self.evaluate_children(node, environment) {
                    whole = Some(match whole {
                        Some(before) => before.or(&part),
                        None => part,
                    });
                }
                whole.unwrap_or_else(|| Value::at(Level::Unknown))
            }
        }
    }

    pub fn optional(&mut self, node: Option<Node<'_>>, environment: &mut Environment) -> Value {
        node.map_or_else(|| Value::at(Level::Unknown), |node| self.evaluate(node, environment))
    }

    pub fn evaluate_children(&mut self, node: Node<'_>, environment: &mut Environment) -> Vec<Value> {
        node.named_children()
            .filter(|child| child.kind() != "comment")
            .map(|child| self.evaluate(child, environment))
            .collect()
    }

    fn name(&mut self, node: Node<'_>, environment: &Environment) -> Value {
        let name = self.text(node);
        let mut value = match environment.get(name) {
            Some(value) => value.clone(),
            None => {
                let level = if is_capital(name) { Level::Constant } else { Level::Unknown };
                let mut value = Value::at(level);
                value.made_by = self.aliases.get(name).cloned().unwrap_or_else(|| name.to_string());
                if value.made_by == "request" || value.made_by.ends_with(".request") {
                    value = Value { made_by: value.made_by, ..Value::at(Level::Remote) };
                }
                value
            }
        };
        value.add_source(name);
        value
    }

    fn attribute(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let field = self.field_text(node, "attribute");
        let key = guards::key(self, node);
        if let Some(value) = key.as_ref().and_then(|key| environment.get(key)) {
            let mut value = value.clone();
            if let Some(key) = &key {
                value.add_source(key);
            }
            return value;
        }
        let object = self.optional(node.child_by_field_name("object"), environment);
        if is_capital(field) {
            let mut value = Value::at(Level::Constant);
            value.made_by = field.to_string();
            return value;
        }
        let mut value = Value::at(Level::Constant);
        value.absorb(&object);
        if value.highest() == Level::Constant && object.text.is_empty() {
            value = Value::at(Level::Unknown);
        }
        value.made_by = format!("{}.{field}", object.made_by);
        let path = value.made_by.as_str();
        if matches!(path, "sys.argv" | "self.request") || path.ends_with(".request") {
            let level = if path == "sys.argv" { Level::Parameter } else { Level::Remote };
            let made_by = std::mem::take(&mut value.made_by);
            value = Value { made_by, ..Value::at(level) };
        }
        // The last component of a path cannot climb.
        if matches!(field, "name" | "stem" | "suffix") && (object.joined || object.made_by.ends_with("Path"))
        {
            value.clean(Risk::Path);
        }
        // Identifiers cannot be bound as parameters; a class that keeps the name of its own table must format it in.
        if matches!(self.field_text(node, "object"), "self" | "cls")
            && super::value::names_any(field, OWN_IDENTIFIERS)
        {
            value.clean(Risk::Sql);
        }
        if matches!(field, "parent" | "parents") {
            value.joined = object.joined;
            value.resolved = object.resolved;
        }
        if let Some(key) = key {
            value.add_source(&key);
        }
        value
    }

    fn subscript(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        if let Some(value) = guards::key(self, node).and_then(|key| environment.get(&key)) {
            return value.clone();
        }
        let base = self.optional(node.child_by_field_name("value"), environment);
        let indices: Vec<Node<'_>> = node.children_by_field_name("subscript").collect();
        let is_slice = indices.iter().any(|index| index.kind() == "slice");
        for index in indices {
            self.evaluate(index, environment);
        }
        if is_slice && !base.is_list {
            return base;
        }
        element_of(&base)
    }

    fn conditional(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let (Some(yes), Some(condition), Some(no)) =
            (node.named_child(0), node.named_child(1), node.named_child(2))
        else {
            return Value::at(Level::Unknown);
        };
        self.evaluate(condition, environment);
        let mut inside = environment.clone();
        guards::assume(self, condition, true, &mut inside);
        let first = self.evaluate(yes, &mut inside);
        let mut inside = environment.clone();
        guards::assume(self, condition, false, &mut inside);
        let second = self.evaluate(no, &mut inside);
        first.or(&second)
    }

    fn assignment(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let Some(right) = node.child_by_field_name("right") else { return Value::at(Level::Unknown) };
        let value = self.evaluate(right, environment);
        if let Some(left) = node.child_by_field_name("left") {
            // `a, b = x, y` binds one by one.
            let targets: Vec<Node<'_>> = left.named_children().collect();
            let parts: Vec<Node<'_>> = right.named_children().collect();
            let pairwise = matches!(left.kind(), "pattern_list" | "tuple_pattern")
                && matches!(right.kind(), "expression_list" | "tuple")
                && targets.len() == parts.len();
            if pairwise {
                let values: Vec<Value> = parts.iter().map(|&part| self.evaluate(part, environment)).collect();
                for (&target, value) in targets.iter().zip(values) {
                    self.bind(target, value, environment);
                }
            } else {
                self.bind(left, value.clone(), environment);
            }
        }
        value
    }

    fn augmented(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let (Some(left), Some(right)) = (node.child_by_field_name("left"), node.child_by_field_name("right"))
        else {
            return Value::at(Level::Unknown);
        };
        let before = self.evaluate(left, environment);
        let added = self.evaluate(right, environment);
        let span = Span::from(right.byte_range());
        let operator = self.field_text(node, "operator");
        let value = match operator {
            "+=" if before.is_list => before.or(&added),
            "+=" => self.concatenate(&before, &added, span),
            "%=" => self.percent(left, &before, right, environment, span),
            "/=" => Value::build(&[before, Value::constant("/"), added], span),
            _ => before.or(&added),
        };
        self.bind(left, value.clone(), environment);
        value
    }

    fn binary(&mut self, node: Node<'_>, environment: &mut Environment) -> Value {
        let span = Span::from(node.byte_range());
        let (Some(left), Some(right)) = (node.child_by_field_name("left"), node.child_by_field_name("right"))
        else {
            return Value::at(Level::Unknown);
        };
        let first = self.evaluate(left, environment);
        match self.field_text(node, "operator") {
            "%" => self.percent(left, &first, right, environment, span),
            "+" => {
                let second = self.evaluate(right, environment);
                if first.is_list || second.is_list {
                    first.or(&second)
                } else {
                    self.concatenate(&first, &second, span)
                }
            }
            "/" => {
                let second = self.evaluate(right, environment);
                let mut value = Value::build(&[first.clone(), Value::constant("/"), second], span);
                value.made_by = first.made_by;
                value
            }
            "*" => {
                let second = self.evaluate(right, environment);
                // `"?," * count` repeats a constant, whatever the count.
                let repeats = |text: &Value| {
                    text.highest() == Level::Constant
                        && !text.text.is_empty()
                        && !text.text.starts_with(|c: char| c.is_ascii_digit())
                };
                if repeats(&first) || (first.is_list && first.highest() <= Level::Clean) {
                    return Value { built: None, ..first };
                }
                if repeats(&second) || (second.is_list && second.highest() <= Level::Clean) {
                    return second;
                }
                first.or(&second)
            }
            _ => {
                let second = self.evaluate(right, environment);
                first.or(&second)
            }
        }
    }

    fn concatenate(&mut self, first: &Value, second: &Value, span: Span) -> Value {
        Value::build(&[first.clone(), second.clone()], span)
    }

    fn comprehension(&mut self, node: Node<'_>, environment: &Environment) -> Value {
        let mut inside = environment.clone();
        let children: Vec<Node<'_>> = node.named_children().collect();
        for clause in children.iter().filter(|child| matches!(child.kind(), "for_in_clause" | "if_clause")) {
            if clause.kind() == "for_in_clause" {
                let items = self.optional(clause.child_by_field_name("right"), &mut inside);
                if let Some(left) = clause.child_by_field_name("left") {
                    self.bind(left, element_of(&items), &mut inside);
                }
            } else if let Some(condition) = clause.named_child(0) {
                self.evaluate(condition, &mut inside);
                guards::assume(self, condition, true, &mut inside);
            }
        }
        let mut value = match node.child_by_field_name("body") {
            Some(body) => self.evaluate(body, &mut inside),
            None => Value::at(Level::Unknown),
        };
        value.is_list = node.kind() != "generator_expression";
        value
    }

    /// Whether some identifier below `node` has one of these words in its name.
    pub fn mentions(&self, node: Node<'_>, words: &[&str]) -> bool {
        let mut found = false;
        Parsed::walk(node, |inner| {
            if inner.kind() == "identifier" && super::value::names_any(self.text(inner), words) {
                found = true;
            }
            !found
        });
        found
    }
}
