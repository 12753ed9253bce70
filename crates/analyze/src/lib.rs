//! Static findings from embedded rules.
//!
//! [`analyze`] reads one parsed text and reports its weaknesses. Every function is followed on its own
//! (intraprocedurally): values that come from parameters or from a request are carried through assignments and
//! string building to *sinks*; *guards* and sanitisers on the way take the danger away. Comments never matter,
//! so a suppression mark changes nothing; statements that cannot be reached neither endanger nor guard.
//!
//! What this crate refuses to know: files, processes and clocks; what other functions do; whether an attack
//! really works (that is for tests to show). It cannot judge a text that does not parse: callers must ask
//! [`vul2safe_code::Parsed::is_clean`] before they take an empty list as good news.
//!
//! ```
//! use vul2safe_analyze::analyze;
//! use vul2safe_code::{Cwe, Language, parse};
//!
//! let text = "def find(db, name):\n    return db.execute(f\"SELECT * FROM t WHERE n = '{name}'\")\n";
//! let findings = analyze(&parse(Language::Python, text)?);
//! assert_eq!(findings[0].cwe, Cwe(89));
//! assert_eq!(findings[0].span.text(text), Some("f\"SELECT * FROM t WHERE n = '{name}'\""));
//! # Ok::<(), vul2safe_code::ParseError>(())
//! ```

mod c;
mod python;
mod rules;

use serde::{Deserialize, Serialize};
use vul2safe_code::{Cwe, Language, Parsed, Severity, Span};

pub use rules::{Rule, rules};

/// One weakness at one place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// Id of the rule, as listed by [`rules`].
    pub rule: String,
    /// The weakness.
    pub cwe: Cwe,
    /// How severe it is here; at most the rule's own severity.
    pub severity: Severity,
    /// The dangerous expression, in bytes of the text that was analysed.
    pub span: Span,
    /// What is wrong, in one sentence.
    pub message: String,
}

/// Whether there are rules for a language. Where there are none, no finding says nothing.
pub fn covers(language: Language) -> bool {
    matches!(language, Language::Python | Language::C | Language::Cpp)
}

/// All findings in a text, ordered by place, each rule at most once a place. Texts with syntax errors are
/// analysed as far as their tree goes.
pub fn analyze(parsed: &Parsed) -> Vec<Finding> {
    run(parsed, &|_| true)
}

/// The findings of [`analyze`] that are of these weaknesses. Rules for others are not run where they can be left out, which is
/// what a reward wants that asks for one weakness of thousands of answers.
pub fn analyze_for(parsed: &Parsed, weaknesses: &[Cwe]) -> Vec<Finding> {
    let mut findings = run(parsed, &|cwe| weaknesses.contains(&cwe));
    findings.retain(|finding| weaknesses.contains(&finding.cwe));
    findings
}

/// Whether there is a rule for one of these weaknesses in this language.
pub fn covers_any(language: Language, weaknesses: &[Cwe]) -> bool {
    let language = if language == Language::Cpp { Language::C } else { language };
    rules().iter().any(|rule| rule.language == language && weaknesses.contains(&rule.cwe))
}

/// Runs every rule of a `wanted` weakness, and those that cannot be parted from them.
fn run(parsed: &Parsed, wanted: &dyn Fn(Cwe) -> bool) -> Vec<Finding> {
    let mut findings = match parsed.language() {
        Language::Python => python::analyze(parsed),
        Language::C | Language::Cpp => c::analyze(parsed, wanted),
        Language::Java | Language::JavaScript | Language::Go | Language::Php => Vec::new(),
    };
    findings.sort_by(|a, b| (a.span, &a.rule, b.severity).cmp(&(b.span, &b.rule, a.severity)));
    findings.dedup_by(|later, earlier| later.span == earlier.span && later.rule == earlier.rule);
    findings
}

/// A finding of rule `id` with the rule's CWE, at `severity` or the rule's own if that is lower.
pub(crate) fn finding(id: &str, severity: Option<Severity>, span: Span, message: &str) -> Option<Finding> {
    let rule = rules::by_id(id)?;
    let severity = severity.map_or(rule.severity, |asked| asked.min(rule.severity));
    Some(Finding { rule: id.to_string(), cwe: rule.cwe, severity, span, message: message.to_string() })
}
