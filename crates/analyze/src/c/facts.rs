//! What the rules on bounds, lengths and pointers ask of one function: its parameters, its locals with everything
//! that is assigned to them, and what its conditions compare.

use std::collections::{HashMap, HashSet};

use vul2safe_code::{Node, Parsed, Span};

use super::{Call, bare};

/// A parameter as it was declared.
pub(crate) struct Parameter<'t> {
    pub name: &'t str,
    /// The type without qualifiers: `unsigned char`, `size_t`.
    pub kind: &'t str,
    /// What a pointer points to must not be changed.
    pub constant: bool,
    /// How many stars (or brackets) it has.
    pub pointers: usize,
}

/// A variable of the function.
#[derive(Default)]
pub(crate) struct Local<'t> {
    pub kind: &'t str,
    /// Stars.
    pub pointers: usize,
    /// Number of elements, where it is an array and the number stands in the text.
    pub elements: Option<u64>,
    /// Whether it is an array at all.
    pub array: bool,
    /// The declaration has a value or a list of values.
    pub initialised: bool,
    /// Everything that it is set to, with the statement or declarator that does so.
    pub values: Vec<(Node<'t>, Node<'t>)>,
    /// It is counted up or down, or changed by `+=` and the like.
    pub stepped: bool,
}

/// `left operator right`.
pub(crate) struct Comparison<'t> {
    pub left: Node<'t>,
    pub operator: &'t str,
    pub right: Node<'t>,
    /// It stands in the head of a loop.
    pub of_loop: Option<Node<'t>>,
}

/// A function's facts.
pub(crate) struct Facts<'t> {
    pub parsed: &'t Parsed,
    pub body: Node<'t>,
    pub parameters: Vec<Parameter<'t>>,
    pub locals: HashMap<&'t str, Local<'t>>,
    pub comparisons: Vec<Comparison<'t>>,
    /// Which comparisons have this text on a side, casts aside.
    sides: HashMap<&'t str, Vec<usize>>,
    /// The loop in whose head a comparison stands, by the comparison's node.
    loop_heads: HashMap<usize, Node<'t>>,
    /// Conditions of branches and loops, operands of `&&`, `||` and `!`, and what is asserted.
    pub conditions: Vec<Node<'t>>,
    /// Calls of plain functions, in order.
    pub calls: &'t [Call<'t>],
}

impl<'t> Facts<'t> {
    /// Reads a function; nothing for one without a body.
    pub fn of(parsed: &'t Parsed, function: Node<'t>, calls: &'t [Call<'t>]) -> Option<Self> {
        let body = function.child_by_field_name("body")?;
        let mut facts = Facts {
            parsed,
            body,
            parameters: parameters(parsed, function),
            locals: HashMap::new(),
            comparisons: Vec::new(),
            sides: HashMap::new(),
            loop_heads: HashMap::new(),
            conditions: Vec::new(),
            calls,
        };
        Parsed::walk(body, |node| {
            facts.collect(node);
            true
        });
        facts.conditions.extend(
            calls
                .iter()
                .filter(|call| call.name.to_ascii_lowercase().contains("assert"))
                .flat_map(|call| call.arguments.iter().copied()),
        );
        Some(facts)
    }

    fn collect(&mut self, node: Node<'t>) {
        let field = |name| node.child_by_field_name(name);
        match node.kind() {
            "declaration" => self.declare(node),
            "assignment_expression" => {
                let (Some(left), Some(right)) = (field("left"), field("right")) else { return };
                let plain = field("operator").is_none_or(|operator| operator.kind() == "=");
                if bare(left).kind() == "identifier" {
                    let local = self.locals.entry(self.parsed.node_text(bare(left))).or_default();
                    local.values.push((right, node));
                    local.stepped |= !plain;
                }
            }
            "update_expression" => {
                if let Some(target) = field("argument").filter(|target| target.kind() == "identifier") {
                    self.locals.entry(self.parsed.node_text(target)).or_default().stepped = true;
                }
            }
            "while_statement" | "do_statement" | "for_statement" => {
                let Some(condition) = field("condition") else { return };
                self.conditions.push(condition);
                // Asking each comparison for its parents would search the tree from its root for every one.
                Parsed::walk(condition, |inner| {
                    if inner.kind() == "binary_expression" {
                        self.loop_heads.insert(inner.id(), node);
                    }
                    true
                });
            }
            "if_statement" | "conditional_expression" => self.conditions.extend(field("condition")),
            "unary_expression" if field("operator").is_some_and(|operator| operator.kind() == "!") => {
                self.conditions.extend(field("argument"));
            }
            "binary_expression" => {
                let (Some(left), Some(operator), Some(right)) =
                    (field("left"), field("operator"), field("right"))
                else {
                    return;
                };
                match operator.kind() {
                    "&&" | "||" => self.conditions.extend([left, right]),
                    "<" | "<=" | ">" | ">=" | "==" | "!=" => {
                        let of_loop = self.loop_heads.get(&node.id()).copied();
                        let operator = self.parsed.node_text(operator);
                        for side in [left, right] {
                            let text = self.parsed.node_text(bare(side));
                            self.sides.entry(text).or_default().push(self.comparisons.len());
                        }
                        self.comparisons.push(Comparison { left, operator, right, of_loop });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn declare(&mut self, declaration: Node<'t>) {
        let kind = declaration.child_by_field_name("type").map_or("", |kind| self.parsed.node_text(kind));
        for declarator in declaration.children_by_field_name("declarator") {
            let value = declarator.child_by_field_name("value");
            let mut local = Local { kind, initialised: value.is_some(), ..Local::default() };
            let mut inner = match declarator.kind() {
                "init_declarator" => declarator.child_by_field_name("declarator"),
                _ => Some(declarator),
            };
            while let Some(node) = inner.filter(|node| node.kind() != "identifier") {
                match node.kind() {
                    "pointer_declarator" => local.pointers += 1,
                    "array_declarator" => {
                        local.array = true;
                        local.elements = match node.child_by_field_name("size") {
                            Some(size) => self.parsed.node_text(size).parse().ok(),
                            None => value
                                .filter(|value| value.kind() == "initializer_list")
                                .map(|list| list.named_child_count() as u64),
                        };
                    }
                    _ => {}
                }
                inner = node.child_by_field_name("declarator");
            }
            let Some(name) = inner else { continue };
            local.values.extend(value.map(|value| (value, declarator)));
            self.locals.insert(self.parsed.node_text(name), local);
        }
    }

    pub fn text(&self, node: Node<'t>) -> &'t str {
        self.parsed.node_text(node)
    }

    pub fn parameter(&self, name: &str) -> Option<&Parameter<'t>> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// The parameter right after a pointer parameter, where its name says that it is a size or a length.
    pub fn size_of(&self, pointer: &str) -> Option<&Parameter<'t>> {
        let at = self.parameters.iter().position(|parameter| parameter.name == pointer)?;
        let size = self.parameters.get(at + 1)?;
        let is_size = size.name.to_ascii_lowercase().split('_').any(|part| SIZE_NAMES.contains(&part));
        (self.parameters[at].pointers > 0 && size.pointers == 0 && is_size).then_some(size)
    }

    /// Whether a variable has no sign.
    pub fn is_unsigned(&self, name: &str) -> bool {
        let kind = match self.parameter(name) {
            Some(parameter) => parameter.kind,
            None => self.locals.get(name).map_or("", |local| local.kind),
        };
        is_unsigned_type(kind)
    }

    /// The identifiers in an expression.
    pub fn names(&self, node: Node<'t>) -> HashSet<&'t str> {
        let mut names = HashSet::new();
        Parsed::walk(node, |inner| {
            if inner.kind() == "identifier" {
                names.insert(self.text(inner));
            }
            true
        });
        names
    }

    /// The identifiers and numbers of an expression, and of the first values of the locals in it.
    pub fn words_through(&self, node: Node<'t>) -> HashSet<&'t str> {
        let mut words = HashSet::new();
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            Parsed::walk(node, |inner| {
                if matches!(inner.kind(), "identifier" | "number_literal") && words.insert(self.text(inner)) {
                    let first = self.locals.get(self.text(inner)).and_then(|local| local.values.first());
                    open.extend(first.map(|(value, _)| *value));
                }
                true
            });
        }
        words
    }

    /// Whether some condition that is met before `place` mentions the name: what is checked after the use is not checked.
    pub fn is_checked_before(&self, name: &str, place: Node<'t>) -> bool {
        let mentions =
            |node: &Node<'t>| self.names(*node).contains(name) && self.may_precede(node.start_byte(), place);
        self.conditions.iter().any(&mentions)
            || self
                .comparisons
                .iter()
                .any(|comparison| [comparison.left, comparison.right].iter().any(mentions))
    }

    /// Whether what starts at a byte can run before `place`: it stands there earlier, or a loop around both leads back.
    pub fn may_precede(&self, start: usize, place: Node<'t>) -> bool {
        let mut outer = place.parent();
        while let Some(parent) = outer.filter(|parent| parent.id() != self.body.id()) {
            let is_loop = matches!(parent.kind(), "for_statement" | "while_statement" | "do_statement");
            if is_loop && parent.byte_range().contains(&start) {
                return true;
            }
            outer = parent.parent();
        }
        start < place.start_byte()
    }

    /// Comparisons of the bare name, casts aside, turned so that the name is on the left: operator, other side, the
    /// name as it was written, comparison.
    pub fn comparisons_of(
        &self,
        name: &str,
    ) -> impl Iterator<Item = (&'static str, Node<'t>, Node<'t>, &Comparison<'t>)> {
        self.sides.get(name).into_iter().flatten().filter_map(move |&index| {
            let comparison = self.comparisons.get(index)?;
            let (left, right) = (comparison.left, comparison.right);
            let operator = |turned: bool| match (comparison.operator, turned) {
                ("<", false) | (">", true) => "<",
                ("<=", false) | (">=", true) => "<=",
                (">", false) | ("<", true) => ">",
                (">=", false) | ("<=", true) => ">=",
                ("==", _) => "==",
                _ => "!=",
            };
            if self.text(bare(left)) == name {
                Some((operator(false), right, left, comparison))
            } else if self.text(bare(right)) == name {
                Some((operator(true), left, right, comparison))
            } else {
                None
            }
        })
    }
}

/// Parts of names that tell how much there is or may be.
const SIZE_NAMES: &[&str] =
    &["size", "len", "length", "count", "capacity", "cap", "max", "limit", "room", "num", "n"];

pub(crate) fn is_unsigned_type(kind: &str) -> bool {
    kind.contains("unsigned") || kind.starts_with('u') || kind == "size_t" || kind == "bool"
}

/// Whether a whole number of this type has at most 32 bits on every machine that matters.
pub(crate) fn is_narrow_type(kind: &str) -> bool {
    let wide = ["long", "size_t", "ssize_t", "64", "ptr", "off_t", "float", "double"];
    let whole = ["int", "unsigned", "short", "char", "signed"];
    whole.iter().any(|word| kind.contains(word)) && !wide.iter().any(|word| kind.contains(word))
}

pub(crate) fn span(node: Node<'_>) -> Span {
    Span::from(node.byte_range())
}

/// The value of a number as C writes it, without suffixes.
pub(crate) fn number(text: &str) -> Option<i64> {
    let text = text.trim_end_matches(['u', 'U', 'l', 'L']);
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn parameters<'t>(parsed: &'t Parsed, function: Node<'t>) -> Vec<Parameter<'t>> {
    let mut declarator = function.child_by_field_name("declarator");
    while let Some(node) = declarator.filter(|node| node.kind() != "function_declarator") {
        declarator = node.child_by_field_name("declarator");
    }
    let Some(list) = declarator.and_then(|node| node.child_by_field_name("parameters")) else {
        return Vec::new();
    };
    list.named_children()
        .filter(|child| child.kind() == "parameter_declaration")
        .filter_map(|child| {
            let kind = parsed.node_text(child.child_by_field_name("type")?);
            let mut inner = child.child_by_field_name("declarator")?;
            let mut pointers = 0;
            while inner.kind() != "identifier" {
                pointers += usize::from(matches!(inner.kind(), "pointer_declarator" | "array_declarator"));
                inner = inner.child_by_field_name("declarator")?;
            }
            let constant = child.children().any(|qualifier| {
                qualifier.kind() == "type_qualifier" && parsed.node_text(qualifier) == "const"
            });
            Some(Parameter { name: parsed.node_text(inner), kind, constant, pointers })
        })
        .collect()
}
