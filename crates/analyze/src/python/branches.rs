//! Branches, loops and handlers: where ways through a function part and meet.

use vul2safe_code::Node;

use super::flow::{Environment, Flow, Next, element_of, join};
use super::guards;
use super::value::Value;

impl Flow<'_> {
    pub(super) fn branch(&mut self, node: Node<'_>, environment: &mut Environment) -> Next {
        let mut ends: Vec<Environment> = Vec::new();
        let mut arms = vec![node];
        arms.extend(node.children_by_field_name("alternative"));
        // What holds when all conditions so far were false.
        let mut otherwise = environment.clone();
        let mut falls_through = true;
        for arm in arms {
            let condition = arm.child_by_field_name("condition");
            let body = arm.child_by_field_name("consequence").or_else(|| arm.child_by_field_name("body"));
            let Some(body) = body else { continue };
            let Some(condition) = condition else {
                if falls_through && self.statement(body, &mut otherwise) == Next::Continues {
                    ends.push(otherwise.clone());
                }
                falls_through = false;
                break;
            };
            if !falls_through {
                break;
            }
            self.evaluate(condition, &mut otherwise);
            let constant = guards::constant_truth(self.text(condition));
            if constant != Some(false) {
                let mut inside = otherwise.clone();
                guards::assume(self, condition, true, &mut inside);
                if self.statement(body, &mut inside) == Next::Continues {
                    ends.push(inside);
                }
            }
            guards::assume(self, condition, false, &mut otherwise);
            falls_through = constant != Some(true);
        }
        if falls_through {
            ends.push(otherwise);
        }
        let mut ends = ends.into_iter();
        match ends.next() {
            Some(first) => {
                *environment = ends.fold(first, join);
                Next::Continues
            }
            None => Next::Leaves,
        }
    }

    pub(super) fn while_loop(&mut self, node: Node<'_>, environment: &mut Environment) {
        let Some(condition) = node.child_by_field_name("condition") else { return };
        self.evaluate(condition, environment);
        if guards::constant_truth(self.text(condition)) == Some(false) {
            return;
        }
        let mut inside = environment.clone();
        guards::assume(self, condition, true, &mut inside);
        if let Some(body) = node.child_by_field_name("body") {
            self.block(body, &mut inside);
        }
        *environment = join(std::mem::take(environment), inside);
        self.else_of_loop(node, environment);
    }

    fn else_of_loop(&mut self, node: Node<'_>, environment: &mut Environment) {
        if let Some(body) =
            node.child_by_field_name("alternative").and_then(|other| other.child_by_field_name("body"))
        {
            self.block(body, environment);
        }
    }

    pub(super) fn for_loop(&mut self, node: Node<'_>, environment: &mut Environment) {
        let (Some(left), Some(right)) = (node.child_by_field_name("left"), node.child_by_field_name("right"))
        else {
            return;
        };
        let items = self.evaluate(right, environment);
        let mut inside = environment.clone();
        self.bind(left, element_of(&items), &mut inside);
        let entry = inside.clone();
        if let Some(body) = node.child_by_field_name("body") {
            self.block(body, &mut inside);
        }
        let checked: Vec<(String, Value)> = inside
            .iter()
            .filter(|(name, value)| entry.get(*name).is_some_and(|before| guards::gained(before, value)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        *environment = join(std::mem::take(environment), inside);
        // A loop that checks each element checks the whole collection.
        let variable = guards::key(self, left).unwrap_or_default();
        for (name, value) in checked {
            if name == variable
                || name.starts_with(&format!("{variable}."))
                || value.sources.contains(&variable)
            {
                for source in &items.sources {
                    if let Some(collection) = environment.get_mut(source) {
                        guards::copy_gains(&value, collection);
                    }
                }
            }
        }
        self.else_of_loop(node, environment);
    }

    pub(super) fn try_statement(&mut self, node: Node<'_>, environment: &mut Environment) -> Next {
        let before = environment.clone();
        let mut ends: Vec<Environment> = Vec::new();
        let mut next = Next::Continues;
        let mut inside = before.clone();
        if let Some(body) = node.child_by_field_name("body") {
            next = self.block(body, &mut inside);
        }
        // A handler runs after any part of the body.
        let handler_entry = join(before, inside.clone());
        let clauses: Vec<Node<'_>> = node.named_children().collect();
        for clause in &clauses {
            match clause.kind() {
                "except_clause" | "except_group_clause" => {
                    let mut handler = handler_entry.clone();
                    let mut leaves = Next::Continues;
                    for part in clause.named_children() {
                        if part.kind() == "block" {
                            leaves = self.block(part, &mut handler);
                        } else {
                            self.evaluate(part, &mut handler);
                        }
                    }
                    if leaves == Next::Continues {
                        ends.push(handler);
                    }
                }
                "else_clause" if next == Next::Continues => {
                    if let Some(body) = clause.child_by_field_name("body") {
                        next = self.block(body, &mut inside);
                    }
                }
                _ => {}
            }
        }
        if next == Next::Continues {
            ends.push(inside);
        }
        let leaves = ends.is_empty();
        *environment = ends.into_iter().reduce(join).unwrap_or(handler_entry);
        for clause in clauses.iter().filter(|clause| clause.kind() == "finally_clause") {
            for block in clause.named_children().filter(|part| part.kind() == "block") {
                if self.block(block, environment) == Next::Leaves {
                    return Next::Leaves;
                }
            }
        }
        if leaves { Next::Leaves } else { Next::Continues }
    }

    pub(super) fn match_statement(&mut self, node: Node<'_>, environment: &mut Environment) {
        let mut ends = vec![environment.clone()];
        for subject in node.children_by_field_name("subject") {
            self.evaluate(subject, environment);
        }
        let Some(body) = node.child_by_field_name("body") else { return };
        for case in body.named_children().filter(|child| child.kind() == "case_clause") {
            let mut inside = environment.clone();
            if let Some(consequence) = case.child_by_field_name("consequence")
                && self.block(consequence, &mut inside) == Next::Continues
            {
                ends.push(inside);
            }
        }
        if let Some(end) = ends.into_iter().reduce(join) {
            *environment = end;
        }
    }
}
