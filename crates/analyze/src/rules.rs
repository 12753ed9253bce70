//! The table of rules.

use vul2safe_code::{Cwe, Language, Severity};

/// What a rule looks for, and what to do about its findings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Stable id, as in [`crate::Finding::rule`].
    pub id: &'static str,
    /// The weakness.
    pub cwe: Cwe,
    /// The highest severity that its findings have.
    pub severity: Severity,
    /// The language; rules for C apply to C++ as well.
    pub language: Language,
    /// A short title.
    pub title: &'static str,
    /// How to repair what the rule finds.
    pub help: &'static str,
}

const fn rule(
    id: &'static str,
    cwe: u32,
    severity: Severity,
    title: &'static str,
    help: &'static str,
) -> Rule {
    Rule { id, cwe: Cwe(cwe), severity, language: Language::Python, title, help }
}

const fn rule_c(
    id: &'static str,
    cwe: u32,
    severity: Severity,
    title: &'static str,
    help: &'static str,
) -> Rule {
    Rule { id, cwe: Cwe(cwe), severity, language: Language::C, title, help }
}

use Severity::{High, Low, Medium};

static RULES: &[Rule] = &[
    rule(
        "sql-injection",
        89,
        High,
        "SQL statement built from a value",
        "pass values as bound parameters; choose identifiers from a fixed list",
    ),
    rule(
        "os-command",
        78,
        High,
        "Shell command built from a value",
        "pass a list of arguments without a shell, or quote with shlex.quote",
    ),
    rule(
        "path-traversal",
        22,
        High,
        "Path joined from an unchecked name",
        "resolve the path and check that it lies in the base folder, or take the base name only",
    ),
    rule(
        "archive-traversal",
        22,
        High,
        "Archive extracted without checking its members",
        "pass filter=\"data\", or check each member's path",
    ),
    rule(
        "deserialisation",
        502,
        High,
        "Untrusted bytes deserialised",
        "use a data-only format such as JSON, or yaml.safe_load",
    ),
    rule(
        "code-injection",
        95,
        High,
        "Value executed as code",
        "use ast.literal_eval, a parser, or a table of functions",
    ),
    rule(
        "xss",
        79,
        Medium,
        "HTML built from an unescaped value",
        "escape with html.escape or let a template engine do it",
    ),
    rule(
        "predictable-random",
        338,
        Medium,
        "Secret made by a predictable generator",
        "use the secrets module",
    ),
    rule(
        "weak-password-hash",
        916,
        Medium,
        "Password hashed with a fast hash",
        "use hashlib.scrypt, hashlib.pbkdf2_hmac or bcrypt with a salt",
    ),
    rule("weak-hash", 327, Medium, "Secret protected by a broken hash", "use hmac with SHA-256 or better"),
    rule(
        "partial-signature",
        347,
        High,
        "A part of a signature taken for all of it",
        "compare the whole signature with hmac.compare_digest",
    ),
    rule(
        "reflection",
        470,
        High,
        "Method called by an unchecked name",
        "choose the method from a fixed table",
    ),
    rule(
        "template-format",
        1336,
        High,
        "Template from outside filled with an object",
        "replace the places of the template by plain text, or use string.Template",
    ),
    rule(
        "header-injection",
        113,
        Medium,
        "Header line made from an unchecked value",
        "refuse or remove carriage returns and line feeds",
    ),
    rule(
        "regex-backtracking",
        1333,
        Medium,
        "Pattern that takes exponential time",
        "let something that is not repeated stand between repeated parts",
    ),
    rule(
        "temporary-file",
        377,
        Medium,
        "Predictable temporary file",
        "use tempfile.mkstemp, TemporaryDirectory or NamedTemporaryFile",
    ),
    rule(
        "file-permissions",
        732,
        Medium,
        "File open to every user",
        "give the owner alone access (0o600, 0o700)",
    ),
    rule(
        "open-redirect",
        601,
        Medium,
        "Redirect to an unchecked address",
        "allow only paths on this site, or hosts of a fixed list",
    ),
    rule(
        "server-side-request",
        918,
        High,
        "Request to an address whose host is not checked",
        "parse the address and compare its host name with a fixed list",
    ),
    rule(
        "log-injection",
        117,
        Low,
        "Log line built from an unneutralised value",
        "replace line breaks, or log the repr of the value",
    ),
    rule("timing-comparison", 208, Low, "Secret compared in variable time", "use hmac.compare_digest"),
    rule(
        "xml-external-entity",
        611,
        High,
        "XML parser that resolves external entities",
        "turn external entities off, or use defusedxml",
    ),
    rule_c(
        "unbounded-copy",
        120,
        High,
        "Copy without a bound",
        "pass the size of the destination (snprintf, strlcpy, fgets), or check the length first",
    ),
    rule_c(
        "stack-write",
        787,
        High,
        "Write past a fixed buffer",
        "keep the length or index below the size of the buffer",
    ),
    rule_c(
        "format-string",
        134,
        High,
        "Format string from a value",
        "pass a constant format and the value as an argument",
    ),
    rule_c("shell-command", 78, High, "Shell command from a value", "use execve with a list of arguments"),
    rule_c(
        "use-after-free",
        416,
        High,
        "Memory used after it was freed",
        "free last, or set the pointer to NULL and check it",
    ),
    rule_c("double-free", 415, High, "Memory freed twice", "free once, and set the pointer to NULL"),
    rule_c(
        "unchecked-allocation",
        476,
        Medium,
        "Allocation used unchecked",
        "check the pointer for NULL before its first use",
    ),
    rule_c(
        "index-write",
        787,
        High,
        "Write at an index that is not checked",
        "check the index at both ends, and keep one byte for the end of the string",
    ),
    rule_c(
        "index-read",
        125,
        Medium,
        "Read at an index that is not checked",
        "check that the index is not negative and below the number of elements",
    ),
    rule_c(
        "told-length",
        125,
        Medium,
        "Length that the data tells",
        "compare the length with the number of bytes that are there",
    ),
    rule_c(
        "signed-length",
        195,
        High,
        "Length with a sign used without one",
        "refuse negative lengths, or use size_t from the start",
    ),
    rule_c(
        "size-product",
        190,
        Medium,
        "Product that may wrap around before an allocation",
        "check it with __builtin_mul_overflow or a division, or give calloc both factors",
    ),
    rule_c(
        "division-by-count",
        369,
        Medium,
        "Division by a count that may be 0",
        "decide what the result is when there are no elements",
    ),
    rule_c(
        "wrapping-bound",
        191,
        Medium,
        "Bound from a subtraction that may wrap",
        "check that the size is large enough before anything is taken from it, or add on the other side",
    ),
    rule_c(
        "unchecked-lookup",
        476,
        Medium,
        "Result of a search used unchecked",
        "check the pointer for NULL before its first use",
    ),
    rule_c(
        "unwritten-bytes",
        908,
        Medium,
        "Bytes that were never written leave the function",
        "clear the record first (= {0}, memset, strncpy)",
    ),
    rule_c(
        "joined-path",
        22,
        High,
        "Path joined from an unchecked name",
        "refuse names with a slash or two dots, or take the base name only",
    ),
];

/// Every rule, for documentation and for reports.
pub fn rules() -> &'static [Rule] {
    RULES
}

/// The rule with this id.
pub(crate) fn by_id(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}
