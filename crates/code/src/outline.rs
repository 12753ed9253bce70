//! What a text without a function around it says about itself.

use crate::functions::{add, bound_names, callee};
use crate::{Language, Parsed, is_comment};

/// A fragment's inputs, results and calls: what a [`crate::Function`] says of a function.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outline {
    /// Variables that it uses and does not bind, in order, each once. Names that are called, types and members are none.
    pub reads: Vec<String>,
    /// Variables that it binds, in order, each once.
    pub binds: Vec<String>,
    /// Callees as written, white space removed, in order, each once.
    pub calls: Vec<String>,
    /// The comments, in order, with their marks.
    pub comments: Vec<String>,
}

impl Parsed {
    /// The outline of the whole text.
    pub fn outline(&self) -> Outline {
        let mut outline = Outline::default();
        let mut used = Vec::new();
        Parsed::walk(self.root(), |node| {
            let kind = node.kind();
            if is_comment(kind) {
                outline.comments.push(self.node_text(node).trim_end().to_string());
            }
            if let Some(callee) = callee(self, node) {
                add(&mut outline.calls, &callee);
            }
            bound_names(self, node, &mut outline.binds);
            match (self.language(), kind) {
                (Language::Php, "variable_name") => {
                    add(&mut used, self.node_text(node).trim_start_matches('$'));
                }
                (Language::Php, _) => {}
                (_, "identifier") if is_variable(self, node) => add(&mut used, self.node_text(node)),
                _ => {}
            }
            // A name that is imported is no input.
            !kind.starts_with("import_") && kind != "package_declaration" && kind != "package_clause"
        });
        used.retain(|name| !outline.binds.contains(name));
        outline.reads = used;
        outline
    }
}

/// Whether an identifier stands for a value: it is not called, no member and no keyword of a call.
fn is_variable(parsed: &Parsed, identifier: crate::Node<'_>) -> bool {
    let text = parsed.text();
    let before = text.get(..identifier.start_byte()).unwrap_or_default().trim_end();
    let after = text.get(identifier.end_byte()..).unwrap_or_default().trim_start();
    let is_member = before.ends_with('.') && !before.ends_with("..") || before.ends_with("->");
    let is_qualified = before.ends_with("::") || after.starts_with("::");
    let is_constant = identifier.parent().is_some_and(|parent| {
        parent.kind() == "keyword_argument"
            && parent.child_by_field_name("name").is_some_and(|name| name.id() == identifier.id())
    });
    !(is_member || is_qualified || after.starts_with('(') || is_constant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn fragments_of_each_language() {
        for (language, text, reads, binds, calls) in [
            (
                Language::Python,
                "import os\n# Read it.\nwith open(path) as handle:\n    rows = parse(handle.read(), strict=True)\n",
                &["path"][..],
                &["os", "handle", "rows"][..],
                &["open", "parse", "handle.read"][..],
            ),
            (
                Language::C,
                "char buffer[16];\nstrcpy(buffer, request->name);\n",
                &["request"],
                &["buffer"],
                &["strcpy"],
            ),
            (
                Language::Java,
                "String q = base + name;\nResultSet rows = statement.executeQuery(q);\n",
                &["base", "name", "statement"],
                &["q", "rows"],
                &["statement.executeQuery"],
            ),
            (
                Language::JavaScript,
                "const { id } = req.query;\nres.send(render(id, limit));\n",
                &["req", "res", "limit"],
                &["id"],
                &["res.send", "render"],
            ),
            (
                Language::Go,
                "rows, err := db.Query(query + name)\nif err != nil { return err }\n",
                &["db", "query", "name"],
                &["rows", "err"],
                &["db.Query"],
            ),
            (
                Language::Php,
                "<?php\n$q = \"SELECT $name\";\n$rows = mysqli_query($link, $q);\n",
                &["name", "link"],
                &["q", "rows"],
                &["mysqli_query"],
            ),
        ] {
            let outline = parse(language, text).unwrap().outline();
            assert_eq!(outline.reads, reads, "{language}");
            assert_eq!(outline.binds, binds, "{language}");
            assert_eq!(outline.calls, calls, "{language}");
        }
    }
}
