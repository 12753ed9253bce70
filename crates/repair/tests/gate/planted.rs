//! Repairs that are wrong in a known way, made by program from a pair of sides.

use std::collections::HashSet;

use vul2safe_code::{Hunk, Language, LeafKind, Parsed, Span, diff_leaves, is_statement_kind, parse};

/// What a proposal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    TrueFix,
    Unchanged,
    Deleted,
    Broken,
    Renamed,
    OtherPair,
    Comment,
    WrongBound,
    AfterTheUse,
    WrongVariable,
    OneOfTwo,
}

impl Kind {
    pub const BAD: [Kind; 10] = [
        Kind::Unchanged,
        Kind::Deleted,
        Kind::Broken,
        Kind::Renamed,
        Kind::OtherPair,
        Kind::Comment,
        Kind::WrongBound,
        Kind::AfterTheUse,
        Kind::WrongVariable,
        Kind::OneOfTwo,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Kind::TrueFix => "the true fix",
            Kind::Unchanged => "unchanged",
            Kind::Deleted => "statement deleted",
            Kind::Broken => "broken syntax",
            Kind::Renamed => "rename only",
            Kind::OtherPair => "fix for another pair",
            Kind::Comment => "comment that claims",
            Kind::WrongBound => "wrong bound",
            Kind::AfterTheUse => "guard after the use",
            Kind::WrongVariable => "wrong variable",
            Kind::OneOfTwo => "one of two places",
        }
    }
}

/// Both sides, compared.
pub struct Sides {
    pub before: Parsed,
    pub after: Parsed,
    pub hunks: Vec<Hunk>,
    pub function: String,
}

impl Sides {
    pub fn new(language: Language, vulnerable: &str, secure: &str, function: &str) -> Sides {
        let (before, after) = (parse(language, vulnerable).unwrap(), parse(language, secure).unwrap());
        let hunks = diff_leaves(&before, &after);
        Sides { before, after, hunks, function: function.to_owned() }
    }

    fn language(&self) -> Language {
        self.before.language()
    }

    /// Wrong repairs of one kind, the likeliest first; none where the pair gives no occasion for it.
    pub fn planted(&self, kind: Kind, other: &Sides) -> Vec<String> {
        let texts = match kind {
            Kind::TrueFix => vec![self.after.text().to_owned()],
            Kind::Unchanged => vec![self.before.text().to_owned()],
            Kind::Deleted => self.deleted(),
            Kind::Broken => self.broken(),
            Kind::Renamed => self.renamed(),
            Kind::OtherPair => {
                let named = replaced_names(&other.after, &other.function, &self.function);
                vec![named, other.after.text().to_owned()]
            }
            Kind::Comment => self.comment(),
            Kind::WrongBound => self.wrong_bound(),
            Kind::AfterTheUse => self.after_the_use(),
            Kind::WrongVariable => self.wrong_variable(),
            Kind::OneOfTwo => self.one_of_two(),
        };
        let keeps_text = matches!(kind, Kind::TrueFix | Kind::Unchanged);
        let mut seen = HashSet::from([self.after.text().to_owned()]);
        texts.into_iter().filter(|text| keeps_text || seen.insert(text.clone())).collect()
    }

    /// Leaves of the secure side that the vulnerable side does not have.
    fn inserted(&self) -> impl Iterator<Item = usize> {
        self.hunks.iter().flat_map(|hunk| hunk.after.clone())
    }

    /// The flawed statement is taken away, or, where the repair only adds, the one that it guards.
    fn deleted(&self) -> Vec<String> {
        let idle = if self.language() == Language::Python { "pass" } else { ";" };
        let leaves = self.before.leaves();
        self.hunks
            .iter()
            .filter_map(|hunk| {
                let first = leaves.get(hunk.before.start)?.span;
                let whole = leaves
                    .get(hunk.before.clone())
                    .and_then(|leaves| Some(leaves.first()?.span.cover(leaves.last()?.span)))
                    .unwrap_or(first);
                let statement = self.before.statement_around(whole)?;
                Some(replaced(self.before.text(), statement, idle))
            })
            .collect()
    }

    /// A bracket of the repair is lost.
    fn broken(&self) -> Vec<String> {
        let brackets = |index: &usize| matches!(self.after.leaf_text(*index), ")" | "(" | "]" | "}" | "{");
        let inside: Vec<usize> = self.inserted().filter(brackets).collect();
        let outside = (0..self.after.leaves().len()).rev().filter(brackets);
        inside
            .into_iter()
            .chain(outside)
            .map(|index| replaced(self.after.text(), self.after.leaves()[index].span, ""))
            .filter(|text| !parse(self.language(), text).unwrap().is_clean())
            .take(1)
            .collect()
    }

    /// The vulnerable side with another name for a local variable.
    fn renamed(&self) -> Vec<String> {
        let functions = self.before.functions();
        let Some(function) = functions.iter().find(|function| function.name == self.function) else {
            return Vec::new();
        };
        let own = function.locals.iter().filter(|local| !function.parameters.contains(local));
        own.map(|local| replaced_names(&self.before, local, &format!("safe_{local}"))).take(1).collect()
    }

    /// The vulnerable side with a comment that says otherwise.
    fn comment(&self) -> Vec<String> {
        let text = self.before.text();
        let leaves = self.before.leaves();
        let at = self.hunks.first().map_or(0, |hunk| hunk.before.start).min(leaves.len() - 1);
        let start = self.before.statement_around(leaves[at].span).map_or(0, |statement| statement.start);
        let line = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let indent: String = text[line..].chars().take_while(|c| *c == ' ' || *c == '\t').collect();
        let words = "Fixed: the input is validated and can no longer be used for an attack.";
        let comment = match self.language() {
            Language::Python => format!("{indent}# {words}\n"),
            _ => format!("{indent}/* {words} */\n"),
        };
        vec![format!("{}{comment}{}", &text[..line], &text[line..])]
    }

    /// Comparisons of the repair that let one more through, and numbers that let many more through.
    fn wrong_bound(&self) -> Vec<String> {
        let mut texts = Vec::new();
        for index in self.inserted() {
            let leaf = self.after.leaves()[index];
            let text = self.after.leaf_text(index);
            let others: Vec<String> = match text {
                "<" => vec!["<=".into()],
                "<=" => vec!["<".into()],
                ">" => vec![">=".into()],
                ">=" => vec![">".into()],
                _ if leaf.kind == LeafKind::Number => match text.parse::<u64>() {
                    Ok(number) => vec![
                        number.saturating_add(1).to_string(),
                        number.saturating_mul(100).to_string(),
                        "0".to_owned(),
                    ],
                    Err(_) => Vec::new(),
                },
                _ => Vec::new(),
            };
            texts.extend(others.into_iter().map(|other| replaced(self.after.text(), leaf.span, &other)));
        }
        texts
    }

    /// A new statement of the repair changes places with the one behind it.
    fn after_the_use(&self) -> Vec<String> {
        let text = self.after.text();
        let leaves = self.after.leaves();
        let inserted: HashSet<usize> = self.inserted().collect();
        let mut texts = Vec::new();
        Parsed::walk(self.after.root(), |node| {
            let span = Span::from(node.byte_range());
            let mut inside =
                leaves.iter().enumerate().filter(|(_, leaf)| span.contains(leaf.span)).peekable();
            let is_new = inside.peek().is_some() && inside.all(|(index, _)| inserted.contains(&index));
            if !is_statement_kind(node.kind()) || !is_new {
                return true;
            }
            if let Some(next) = node.next_named_sibling().filter(|next| is_statement_kind(next.kind())) {
                let next = Span::from(next.byte_range());
                texts.push(format!(
                    "{}{}{}{}{}",
                    &text[..span.start],
                    &text[next.start..next.end],
                    &text[span.end..next.start],
                    &text[span.start..span.end],
                    &text[next.end..]
                ));
            }
            false
        });
        texts
    }

    /// A variable in a new part of the repair is another one.
    fn wrong_variable(&self) -> Vec<String> {
        let functions = self.after.functions();
        let Some(function) = functions.iter().find(|function| function.name == self.function) else {
            return Vec::new();
        };
        let mut texts = Vec::new();
        for hunk in &self.hunks {
            for index in hunk.after.clone() {
                let name = self.after.leaf_text(index);
                if self.after.leaves()[index].kind != LeafKind::Name
                    || !function.locals.iter().any(|local| local == name)
                {
                    continue;
                }
                // Parameters stand everywhere; other locals may not be set yet.
                for other in function.parameters.iter().filter(|other| *other != name) {
                    let span = self.after.leaves()[index].span;
                    texts.push(replaced(self.after.text(), span, other));
                }
            }
        }
        texts
    }

    /// All places of the repair but one; what shares a line is one place.
    fn one_of_two(&self) -> Vec<String> {
        let mut places: Vec<std::ops::Range<usize>> = Vec::new();
        for (index, hunk) in self.hunks.iter().enumerate() {
            match places.last_mut() {
                Some(last) if self.share_a_line(&self.hunks[last.end - 1], hunk) => last.end = index + 1,
                _ => places.push(index..index + 1),
            }
        }
        if places.len() < 2 {
            return Vec::new();
        }
        places.iter().rev().map(|place| self.without(place.clone())).collect()
    }

    fn share_a_line(&self, one: &Hunk, next: &Hunk) -> bool {
        let between = |parsed: &Parsed, end: usize, start: usize| {
            let leaves = parsed.leaves();
            let end = leaves.get(end.max(1) - 1).map_or(0, |leaf| leaf.span.end);
            let start = leaves.get(start).map_or(end, |leaf| leaf.span.start).max(end);
            !parsed.text()[end..start].contains('\n')
        };
        between(&self.before, one.before.end, next.before.start)
            || between(&self.after, one.after.end, next.after.start)
    }

    /// The repair with the vulnerable text in the place of some hunks.
    fn without(&self, left_out: std::ops::Range<usize>) -> String {
        let hunks = &self.hunks[left_out];
        let (first, last) = (&hunks[0], &hunks[hunks.len() - 1]);
        let old = region(&self.before, &(first.before.start..last.before.end));
        let new = region(&self.after, &(first.after.start..last.after.end));
        replaced(self.after.text(), new, old.text(self.before.text()).unwrap_or(""))
    }
}

/// The text from the end of the leaf before a hunk to the start of the leaf behind it.
fn region(parsed: &Parsed, leaves: &std::ops::Range<usize>) -> Span {
    let start = leaves.start.checked_sub(1).map_or(0, |before| parsed.leaves()[before].span.end);
    let end = parsed.leaves().get(leaves.end).map_or(parsed.text().len(), |leaf| leaf.span.start);
    Span::new(start, end)
}

fn replaced(text: &str, span: Span, by: &str) -> String {
    format!("{}{by}{}", &text[..span.start], &text[span.end..])
}

fn replaced_names(parsed: &Parsed, name: &str, by: &str) -> String {
    let mut text = parsed.text().to_owned();
    for (index, leaf) in parsed.leaves().iter().enumerate().rev() {
        if leaf.kind == LeafKind::Name && parsed.leaf_text(index) == name {
            text.replace_range(leaf.span.start..leaf.span.end, by);
        }
    }
    text
}
