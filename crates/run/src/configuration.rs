//! Whether two resolved configurations are the same, and where they first differ.

use toml::{Table, Value};

/// The first key, in the order of the names, whose value differs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Dotted name.
    pub key: String,
    /// The value on the left, or `not set`.
    pub left: String,
    /// The value on the right, or `not set`.
    pub right: String,
}

/// Compares values, not their spelling: comments, order and spacing do not count. A text that is no TOML is
/// compared line by line.
pub(crate) fn first_difference(left: &str, right: &str) -> Option<Difference> {
    if left == right {
        return None;
    }
    match (left.parse::<Table>(), right.parse::<Table>()) {
        (Ok(left), Ok(right)) => table_difference("", &left, &right),
        _ => line_difference(left, right),
    }
}

fn table_difference(prefix: &str, left: &Table, right: &Table) -> Option<Difference> {
    let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    names.into_iter().find_map(|name| {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match (left.get(name), right.get(name)) {
            (Some(Value::Table(left)), Some(Value::Table(right))) => table_difference(&key, left, right),
            (left, right) if left == right => None,
            (left, right) => Some(Difference { key, left: shown(left), right: shown(right) }),
        }
    })
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "not set".to_owned(), Value::to_string)
}

fn line_difference(left: &str, right: &str) -> Option<Difference> {
    let (mut left_lines, mut right_lines) = (left.lines(), right.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (left, right) = (left_lines.next(), right_lines.next());
        if left.is_none() && right.is_none() {
            return None;
        }
        if left != right {
            let shown = |line: Option<&str>| line.unwrap_or("not set").to_owned();
            return Some(Difference {
                key: format!("line {number}"),
                left: shown(left),
                right: shown(right),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &str, right: &str, expected: Option<(&str, &str, &str)>) {
        let found = first_difference(left, right);
        let found = found.as_ref().map(|d| (d.key.as_str(), d.left.as_str(), d.right.as_str()));
        assert_eq!(found, expected, "{left:?} against {right:?}");
    }

    #[test]
    fn names_the_first_key_that_differs() {
        check("seed = 1", "seed = 1", None);
        check("seed = 1", "# a comment\nseed   = 1\n", None);
        check("a = 1\nb = 2", "b = 2\na = 1", None);
        check("seed = 1", "seed = 2", Some(("seed", "1", "2")));
        check("[ppo]\nkl = 0.1\nsteps = 3", "[ppo]\nkl = 0.2\nsteps = 3", Some(("ppo.kl", "0.1", "0.2")));
        check("[ppo]\nkl = 0.1", "", Some(("ppo", "{ kl = 0.1 }", "not set")));
        check("", "name = \"x\"", Some(("name", "not set", "\"x\"")));
        check(
            "seed = 1\nnot toml",
            "seed = 1\nnot toml either",
            Some(("line 2", "not toml", "not toml either")),
        );
    }
}
