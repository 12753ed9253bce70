//! The form that every family file fills in, and how an answer is put together from it.

use vul2safe_code::{Cwe, Language, Severity, Span};

use crate::names::{Names, Pool};
use crate::{Implementation, SitedAnswer, SitedPlace};

/// A kind of task. All texts are templates whose `$slots` come from `names`, the context and, for the code, the
/// sites; besides those there are `$function`, `$parameters`, `$signature` (`function(parameters)`, in C after the type
/// of the result), and for wordings `$does` (an imperative phrase), `$Does` (with a capital) and `$third` (third person: "returns …").
pub(crate) struct Family {
    pub name: &'static str,
    /// Of the answers. Tests are Python for every language.
    pub language: Language,
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
    /// C only: the type of the result as it stands before the function's name, e.g. `int ` or `char *`.
    pub result: &'static str,
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
    /// Not empty: the whole family is held out. It is in the base corpus, and its tasks are those of
    /// [`Level::HeldOutFamilies`](crate::Level::HeldOutFamilies); it has no vulnerability records, and no record of
    /// another family holds any of these pieces of code, which its secure answers are made of.
    pub held_out: &'static [&'static str],
    /// Python that stands before both kinds of tests.
    pub setup: &'static str,
    pub functional: &'static str,
    /// `test_SITE` or `test_SITE_MORE` attacks the site of that name, and that alone; nothing stands before the first
    /// test (helpers are in `setup`). Empty for a harmless family.
    pub exploit: &'static str,
}

/// What Python families have in common; what they leave out is empty.
pub(crate) const PYTHON: Family = Family {
    name: "",
    language: Language::Python,
    cwe: None,
    severity: Severity::Low,
    summary: "",
    processes: 0,
    names: &[],
    function: "",
    parameters: "",
    result: "",
    contexts: &[],
    docstring: "",
    rephrased: &[],
    corpus: &[],
    exam: &[],
    code: ONE_FUNCTION,
    sites: &[],
    held_out: &[],
    setup: "",
    functional: "",
    exploit: "",
};

/// What C families have in common; what they leave out is empty.
pub(crate) const C: Family = Family { language: Language::C, code: ONE_C_FUNCTION, ..PYTHON };

/// The usual answer: one function whose body is the site `$body`.
pub(crate) const ONE_FUNCTION: &str = "def $function($parameters):\n    $docstring\n    $body";

/// The usual answer in C; its description is a comment above the function.
pub(crate) const ONE_C_FUNCTION: &str = "$docstring\n$result$function($parameters)\n{\n    $body\n}";

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

impl Site {
    /// The secure or the vulnerable variants.
    pub fn side(&self, flawed: bool) -> &'static [Variant] {
        if flawed { self.vulnerable } else { self.secure }
    }
}

/// One way to write a site.
pub(crate) struct Variant {
    pub label: &'static str,
    /// For a vulnerable variant, the label of the secure one that an upstream fix would make of it.
    pub fix: &'static str,
    /// Whole import or `#include` lines.
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

impl Variant {
    /// Whether it is a vulnerable one: each of these names its fix, and only these do.
    pub fn is_flawed(&self) -> bool {
        !self.fix.is_empty()
    }
}

impl Family {
    pub fn harmless(&self) -> bool {
        self.cwe.is_none()
    }

    /// Whether all of its tasks are of [`Level::HeldOutFamilies`](crate::Level::HeldOutFamilies).
    pub fn is_held_out(&self) -> bool {
        !self.held_out.is_empty()
    }

    /// Every combination of flaws, a flag for each site, except the one without a flaw.
    pub fn flaws(&self) -> Vec<Vec<bool>> {
        let patterns = 1_usize << self.sites.len();
        (1..patterns)
            .map(|pattern| (0..self.sites.len()).map(|site| pattern >> site & 1 == 1).collect())
            .collect()
    }

    /// Choices of one variant a site, flawed where the flag says so, in which every such variant of every site
    /// occurs. (All choices would be hundreds where there are three sites.)
    pub fn covering(&self, flaws: &[bool]) -> Vec<Vec<&'static Variant>> {
        let sides: Vec<&'static [Variant]> =
            self.sites.iter().zip(flaws).map(|(site, flaw)| site.side(*flaw)).collect();
        let longest = sides.iter().map(|side| side.len()).max().unwrap_or(0);
        (0..longest)
            .map(|round| {
                // The sites turn at different places, so that variants do not always meet the same partners.
                sides.iter().enumerate().map(|(site, side)| &side[(round + site) % side.len()]).collect()
            })
            .collect()
    }

    /// Exploit tests that attack one site only, with what stands before them.
    pub fn exploit_of(&self, site: &Site) -> String {
        let exploit = self.exploit.trim_matches('\n');
        let mut starts: Vec<usize> = exploit.match_indices("def test_").map(|(at, _)| at).collect();
        starts.retain(|&at| at == 0 || exploit.as_bytes()[at - 1] == b'\n');
        starts.push(exploit.len());
        let tests: Vec<&str> = starts
            .windows(2)
            .map(|ends| exploit[ends[0]..ends[1]].trim_end())
            .filter(|test| {
                let name = &test["def test_".len()..test.find('(').unwrap_or(test.len())];
                name.strip_prefix(site.slot).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
            })
            .collect();
        tests.join("\n\n\n")
    }

    /// The answer with one variant for each site, as a complete module.
    pub fn implementation(
        &self,
        names: &Names,
        docstring: bool,
        chosen: &[&'static Variant],
    ) -> Implementation {
        let lines = self.lines(docstring, chosen);
        let text: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        let labels: Vec<&str> = chosen.iter().map(|variant| variant.label).collect();
        let flawed = self.sites.iter().zip(chosen).filter(|(_, variant)| variant.is_flawed());
        Implementation {
            label: labels.join(" + "),
            flawed: flawed.map(|(site, _)| site.slot.to_owned()).collect(),
            code: names.fill(&text),
        }
    }

    /// The same answer with the places of its sites: of each the lines of its variant, and the imports that it alone asks for.
    pub fn sited(&self, names: &Names, docstring: bool, chosen: &[&'static Variant]) -> SitedAnswer {
        let mut code = String::new();
        let mut places: Vec<SitedPlace> = self
            .sites
            .iter()
            .zip(chosen)
            .map(|(site, variant)| SitedPlace {
                name: site.slot.to_owned(),
                cwe: site.cwe.map(Cwe),
                flawed: variant.is_flawed(),
                spans: Vec::new(),
            })
            .collect();
        for (site, line) in self.lines(docstring, chosen) {
            let start = code.len();
            code.push_str(&names.fill(&line));
            if let Some(site) = site {
                places[site].spans.push(Span::new(start, code.len()));
            }
        }
        SitedAnswer { code, places }
    }

    /// The lines of an answer, unfilled, each with the site it belongs to.
    fn lines(&self, docstring: bool, chosen: &[&Variant]) -> Vec<(Option<usize>, String)> {
        let mut imports: Vec<&str> =
            chosen.iter().flat_map(|variant| variant.imports.iter().copied()).collect();
        imports.sort_by_key(|line| (line.starts_with("from"), *line));
        imports.dedup();
        let asks = |site: &usize, line: &str| chosen[*site].imports.contains(&line);
        let mut lines: Vec<(Option<usize>, String)> = imports
            .iter()
            .map(|line| {
                let mut askers = (0..chosen.len()).filter(|site| asks(site, line));
                let only = askers.next().filter(|_| askers.next().is_none());
                (only, format!("{line}\n"))
            })
            .collect();
        if !imports.is_empty() {
            let gap = if self.language == Language::Python { "\n\n" } else { "\n" };
            lines.push((None, gap.to_owned()));
        }
        for (site, line) in self.expanded(chosen) {
            if line.trim() != "$docstring" {
                lines.push((site, format!("{line}\n")));
            } else if docstring {
                let indent = &line[..line.len() - line.trim_start().len()];
                let (open, close) =
                    if self.language == Language::Python { ("\"\"\"", "\"\"\"") } else { ("/* ", " */") };
                lines.push((None, format!("{indent}{open}{}.{close}\n", self.docstring)));
            }
        }
        lines
    }

    /// The code with each site's line replaced by the chosen variant, at that line's indentation; line by line, with the site.
    fn expanded(&self, chosen: &[&Variant]) -> Vec<(Option<usize>, String)> {
        let mut lines = Vec::new();
        for line in self.code.trim_matches('\n').lines() {
            let slot = line.trim_start();
            let indent = &line[..line.len() - slot.len()];
            match self.sites.iter().position(|site| slot.strip_prefix('$') == Some(site.slot)) {
                Some(index) => {
                    for part in chosen[index].code.trim_matches('\n').lines() {
                        let indent = if part.is_empty() { "" } else { indent };
                        lines.push((Some(index), format!("{indent}{part}")));
                    }
                }
                None => lines.push((None, line.to_owned())),
            }
        }
        lines
    }

    /// The secure variants that an upstream fix would leave in place of the chosen ones.
    pub fn fixed(&self, chosen: &[&'static Variant]) -> Vec<&'static Variant> {
        self.sites
            .iter()
            .zip(chosen)
            .map(|(site, variant)| {
                site.secure
                    .iter()
                    .find(|fix| variant.is_flawed() && fix.label == variant.fix)
                    .unwrap_or(variant)
            })
            .collect()
    }
}
