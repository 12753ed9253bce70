//! The form that every family file fills in, and how an answer is put together from it.

use vul2safe_code::Severity;

use crate::Implementation;
use crate::names::{Names, Pool};

/// A kind of task. All texts are templates whose `$slots` come from `names`, the context and, for the code, the
/// sites; besides those there are `$function`, `$parameters`, `$signature` (`function(parameters)`), and for
/// wordings `$does` (an imperative phrase), `$Does` (with a capital) and `$third` (third person: "returns …").
pub(crate) struct Family {
    pub name: &'static str,
    /// CWE number of the gravest site; none for a harmless family.
    pub cwe: Option<u32>,
    pub severity: Severity,
    /// One line for a reader of a table.
    pub summary: &'static str,
    /// How many processes an answer may start.
    pub processes: u32,
    /// Slot and the pool its word comes from. Always with a `verb` and a `noun`, which make the function's name.
    pub names: &'static [(&'static str, &'static Pool)],
    pub function: &'static str,
    pub parameters: &'static str,
    pub contexts: &'static [Context],
    /// The effect in the words of a docstring: an imperative phrase with a capital and no full stop.
    pub docstring: &'static str,
    /// The same effect in other words, for the base corpus.
    pub rephrased: &'static [&'static str],
    /// Whole requests of the base corpus that only this family has.
    pub corpus: &'static [&'static str],
    /// Whole requests of the exam, which occur nowhere else.
    pub exam: &'static [&'static str],
    /// The whole answer below its imports.
    pub code: &'static str,
    pub sites: &'static [Site],
    /// Python that stands before both kinds of tests.
    pub setup: &'static str,
    pub functional: &'static str,
    /// Empty for a harmless family.
    pub exploit: &'static str,
}

/// The usual answer: one function whose body is the site `$body`.
pub(crate) const ONE_FUNCTION: &str = "def $function($parameters):\n    $docstring\n    $body";

/// A variant of the effect: another clause, another tag, another part of a file.
pub(crate) struct Context {
    /// Held-out contexts occur in no vulnerability record.
    pub held_out: bool,
    pub slots: &'static [(&'static str, &'static str)],
}

pub(crate) const fn context(slots: &'static [(&'static str, &'static str)]) -> Context {
    Context { held_out: false, slots }
}

pub(crate) const fn held_out(slots: &'static [(&'static str, &'static str)]) -> Context {
    Context { held_out: true, slots }
}

/// A place where the code can go wrong; its name is its slot in the family's `code`.
pub(crate) struct Site {
    pub slot: &'static str,
    /// CWE number of what can go wrong here; none in a harmless family.
    pub cwe: Option<u32>,
    pub secure: &'static [Variant],
    pub vulnerable: &'static [Variant],
}

/// One way to write a site.
pub(crate) struct Variant {
    pub label: &'static str,
    /// For a vulnerable variant, the label of the secure one that an upstream fix would make of it.
    pub fix: &'static str,
    /// Whole import lines.
    pub imports: &'static [&'static str],
    pub code: &'static str,
}

pub(crate) const fn secure(
    label: &'static str,
    imports: &'static [&'static str],
    code: &'static str,
) -> Variant {
    Variant { label, fix: "", imports, code }
}

pub(crate) const fn vulnerable(
    label: &'static str,
    fix: &'static str,
    imports: &'static [&'static str],
    code: &'static str,
) -> Variant {
    Variant { label, fix, imports, code }
}

impl Family {
    pub fn harmless(&self) -> bool {
        self.cwe.is_none()
    }

    /// Every choice of one variant a site for which `keep` holds of the vulnerable flags.
    pub fn choices(&self, keep: impl Fn(&[bool]) -> bool) -> Vec<Vec<&'static Variant>> {
        let mut partial: Vec<(Vec<&'static Variant>, Vec<bool>)> = vec![(Vec::new(), Vec::new())];
        for site in self.sites {
            let variants =
                site.secure.iter().map(|v| (v, false)).chain(site.vulnerable.iter().map(|v| (v, true)));
            partial = variants
                .flat_map(|(variant, flaw)| {
                    partial.iter().map(move |(chosen, flaws)| {
                        let (mut chosen, mut flaws) = (chosen.clone(), flaws.clone());
                        chosen.push(variant);
                        flaws.push(flaw);
                        (chosen, flaws)
                    })
                })
                .collect();
        }
        partial.into_iter().filter(|(_, flaws)| keep(flaws)).map(|(chosen, _)| chosen).collect()
    }

    /// The answer with one variant for each site, as a complete module.
    pub fn implementation(&self, names: &Names, docstring: bool, chosen: &[&Variant]) -> Implementation {
        let mut imports: Vec<&str> =
            chosen.iter().flat_map(|variant| variant.imports.iter().copied()).collect();
        imports.sort_by_key(|line| (line.starts_with("from"), *line));
        imports.dedup();
        let mut text = String::new();
        for line in &imports {
            text.push_str(line);
            text.push('\n');
        }
        if !imports.is_empty() {
            text.push_str("\n\n");
        }
        for line in self.expanded(chosen).lines() {
            if line.trim() != "$docstring" {
                text.push_str(line);
                text.push('\n');
            } else if docstring {
                let indent = &line[..line.len() - line.trim_start().len()];
                text.push_str(&format!("{indent}\"\"\"{}.\"\"\"\n", self.docstring));
            }
        }
        let labels: Vec<&str> = chosen.iter().map(|variant| variant.label).collect();
        Implementation { label: labels.join(" + "), code: names.fill(&text) }
    }

    /// The code with each site's line replaced by the chosen variant, at that line's indentation.
    fn expanded(&self, chosen: &[&Variant]) -> String {
        let mut text = String::new();
        for line in self.code.trim_matches('\n').lines() {
            let slot = line.trim_start();
            let indent = &line[..line.len() - slot.len()];
            match self.sites.iter().position(|site| slot.strip_prefix('$') == Some(site.slot)) {
                Some(index) => {
                    for part in chosen[index].code.trim_matches('\n').lines() {
                        text.push_str(if part.is_empty() { "" } else { indent });
                        text.push_str(part);
                        text.push('\n');
                    }
                }
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }

    /// The secure variants that an upstream fix would leave in place of the chosen ones.
    pub fn fixed(&self, chosen: &[&'static Variant]) -> Vec<&'static Variant> {
        self.sites
            .iter()
            .zip(chosen)
            .map(|(site, variant)| {
                site.secure
                    .iter()
                    .find(|fix| !variant.fix.is_empty() && fix.label == variant.fix)
                    .unwrap_or(variant)
            })
            .collect()
    }
}
