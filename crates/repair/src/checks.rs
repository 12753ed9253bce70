//! The deterministic checks: the same for every author of a repair, and blind to who it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use vul2safe_analyze::Finding;
use vul2safe_code::{Cwe, Function, LeafKind, Parsed};
use vul2safe_corpus::{Evidence, Verdict};

use crate::confidence::Weight;
use crate::{Ballot, Draft, RejectReason, RepairConfig};

/// Makes every check that needs no test run, in the order of their names in the documentation.
pub(crate) fn static_checks(draft: &Draft, config: &RepairConfig) -> Vec<Ballot> {
    vec![
        upstream(draft),
        parses(draft),
        changes_code(draft),
        not_only_renaming(draft),
        same_signature(draft),
        public_names_kept(draft),
        names_bound(draft),
        finding_gone(draft),
        no_new_finding(draft),
        small_change(draft, config),
        not_only_deletion(draft),
    ]
}

pub(crate) fn ballot(
    check: &str,
    weight: Weight,
    verdict: Verdict,
    detail: impl Into<String>,
    fatal: Option<RejectReason>,
) -> Ballot {
    let fatal = fatal.filter(|_| verdict == Verdict::Failed);
    Ballot { evidence: Evidence { check: check.into(), verdict, detail: detail.into() }, weight, fatal }
}

/// Log-odds that a data set's own fix is right: people who know the project have made it, but about one in sixteen labels is
/// wrong all the same (94 % right in SVEN, 86 to 92 % in PrimeVul; Ding et al. 2024).
const UPSTREAM: f64 = 2.75;
/// What a passed check says where a wrong repair would often fail it, and a failed one where a right repair seldom does.
const FINDING_GONE: Weight = Weight::Evidence { passed: 1.25, failed: 3.0 };
pub(crate) const TESTS_PASS: Weight = Weight::Evidence { passed: 1.0, failed: 5.0 };

/// Who made the repair counts for as much as is known of their work.
fn upstream(draft: &Draft) -> Ballot {
    let (verdict, detail) = match draft.by.as_str() {
        "upstream" => (Verdict::Passed, "the project's own fix"),
        _ => (Verdict::Abstained, "nobody but its author vouches for it"),
    };
    ballot("upstream", Weight::Evidence { passed: UPSTREAM, failed: 0.0 }, verdict, detail, None)
}

/// An answer that does not parse is never rewarded, so its pattern must not be learnt from either.
fn parses(draft: &Draft) -> Ballot {
    let line = |parsed: &Parsed| {
        let start = parsed.first_error().map_or(0, |span| span.start);
        parsed.text().get(..start).map_or(1, |head| head.matches('\n').count() + 1)
    };
    let (verdict, detail) = match (draft.before.is_clean(), draft.after.is_clean()) {
        (_, false) => {
            (Verdict::Failed, format!("the repair has a syntax error in line {}", line(&draft.after)))
        }
        (false, true) => (
            Verdict::Passed,
            format!("the repair parses; the flaw has a syntax error in line {}", line(&draft.before)),
        ),
        (true, true) => (Verdict::Passed, "both sides parse".to_owned()),
    };
    ballot("parses", Weight::against(1.0), verdict, detail, Some(RejectReason::Unparsable))
}

/// White space and comments are no repair.
fn changes_code(draft: &Draft) -> Ballot {
    let (verdict, detail) = if draft.hunks.is_empty() {
        (Verdict::Failed, "only white space or comments differ".to_owned())
    } else {
        (Verdict::Passed, format!("{} places differ", draft.hunks.len()))
    };
    ballot("changes_code", Weight::against(1.0), verdict, detail, Some(RejectReason::NoCodeChange))
}

/// Other names for local variables are no repair.
fn not_only_renaming(draft: &Draft) -> Ballot {
    let shape = |parsed: &Parsed, function: &Option<Function>| -> Vec<String> {
        let locals: HashSet<&str> =
            function.iter().flat_map(|function| &function.locals).map(String::as_str).collect();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        parsed
            .leaves()
            .iter()
            .enumerate()
            .map(|(index, leaf)| {
                let text = parsed.leaf_text(index);
                if leaf.kind != LeafKind::Name || !locals.contains(text) {
                    return text.to_owned();
                }
                let next = numbers.len();
                format!("\0{}", numbers.entry(text).or_insert(next))
            })
            .collect()
    };
    let only = !draft.hunks.is_empty()
        && draft.before.leaves().len() == draft.after.leaves().len()
        && shape(&draft.before, &draft.function_before) == shape(&draft.after, &draft.function_after);
    let (verdict, detail) = if only {
        (Verdict::Failed, "the sides are the same but for the names of local variables")
    } else {
        (Verdict::Passed, "more than names differ")
    };
    ballot("not_only_renaming", Weight::against(1.0), verdict, detail, Some(RejectReason::RenamingOnly))
}

/// Callers must not notice: same name, same parameters in the same order.
fn same_signature(draft: &Draft) -> Ballot {
    let (verdict, detail) = match (&draft.function_before, &draft.function_after) {
        (Some(before), Some(after)) if before.name != after.name => {
            (Verdict::Failed, format!("`{}` became `{}`", before.name, after.name))
        }
        (Some(before), Some(after)) if before.parameters != after.parameters => (
            Verdict::Failed,
            format!("parameters ({}) became ({})", before.parameters.join(", "), after.parameters.join(", ")),
        ),
        (Some(before), Some(_)) => (Verdict::Passed, format!("`{}` kept its parameters", before.name)),
        (Some(before), None) => {
            (Verdict::Failed, format!("the repair holds no function; it should hold `{}`", before.name))
        }
        (None, _) => (Verdict::Abstained, "the vulnerable side holds no function".to_owned()),
    };
    ballot("same_signature", Weight::against(1.0), verdict, detail, Some(RejectReason::SignatureChanged))
}

/// What other code can import must still be there.
fn public_names_kept(draft: &Draft) -> Ballot {
    let outer = |parsed: &Parsed| -> Vec<String> {
        let functions = parsed.functions();
        let is_nested = |function: &Function| {
            functions.iter().any(|other| other.span != function.span && other.body.contains(function.span))
        };
        functions
            .iter()
            .filter(|function| !is_nested(function))
            .map(|function| function.name.clone())
            .collect()
    };
    let (before, after) = (outer(&draft.before), outer(&draft.after));
    let lost: Vec<_> = before.iter().filter(|name| !after.contains(name)).map(String::as_str).collect();
    let (verdict, detail) = if before.is_empty() {
        (Verdict::Abstained, "no names to keep".to_owned())
    } else if lost.is_empty() {
        (Verdict::Passed, format!("all {} kept", before.len()))
    } else {
        (Verdict::Failed, format!("lost: {}", lost.join(", ")))
    };
    ballot("public_names_kept", Weight::against(1.0), verdict, detail, Some(RejectReason::PublicNamesLost))
}

/// A variable that the function set and the repair only reads is a part that got lost.
fn names_bound(draft: &Draft) -> Ballot {
    let (Some(before), Some(after)) = (&draft.function_before, &draft.function_after) else {
        return ballot("names_bound", Weight::None, Verdict::Abstained, "there is no function", None);
    };
    let (functions, leaves) = (draft.after.functions(), draft.after.leaves());
    // Outside of the function it may be imported or defined.
    let stands_outside = |name: &String| {
        leaves
            .iter()
            .enumerate()
            .any(|(index, leaf)| !after.span.contains(leaf.span) && draft.after.leaf_text(index) == name)
    };
    let is_bound = |name: &String| {
        functions.iter().any(|function| function.locals.contains(name)) || stands_outside(name)
    };
    let is_read = |name: &String| {
        leaves.iter().enumerate().any(|(index, leaf)| {
            let inside = after.body.contains(leaf.span);
            inside && leaf.kind == LeafKind::Name && draft.after.leaf_text(index) == name
        })
    };
    let lost: Vec<_> = before
        .locals
        .iter()
        .filter(|name| !before.parameters.contains(name) && !is_bound(name) && is_read(name))
        .map(String::as_str)
        .collect();
    let (verdict, detail) = match lost.is_empty() {
        true => (Verdict::Passed, "what the function set is still set".to_owned()),
        false => (Verdict::Failed, format!("read and no longer set: {}", lost.join(", "))),
    };
    ballot("names_bound", Weight::against(1.0), verdict, detail, Some(RejectReason::NameUnbound))
}

/// Weaknesses that data sets and rules name by neighbouring numbers.
const FAMILIES: [&[u32]; 9] = [
    &[77, 78, 88],
    &[22, 23, 36, 73],
    &[79, 80],
    &[94, 95],
    &[327, 328, 916],
    &[330, 338, 340],
    &[119, 120, 121, 122, 125, 787],
    &[377, 379],
    &[276, 732],
];

fn is_same_weakness(one: Cwe, other: Cwe) -> bool {
    one == other || FAMILIES.iter().any(|family| family.contains(&one.0) && family.contains(&other.0))
}

/// The findings that are about the record's own weakness; all of them when the record names none.
pub(crate) fn about_the_flaw<'f>(draft: &Draft, findings: &'f [Finding]) -> Vec<&'f Finding> {
    findings
        .iter()
        .filter(|finding| {
            draft.record.cwe.is_empty()
                || draft.record.cwe.iter().any(|cwe| is_same_weakness(*cwe, finding.cwe))
        })
        .collect()
}

/// Where the analyzer sees the flaw before the repair, it must not see it after. Seeing it less often is a failure
/// that other checks may outweigh; seeing it as often ends the matter.
fn finding_gone(draft: &Draft) -> Ballot {
    let before = about_the_flaw(draft, &draft.findings_before);
    let after = about_the_flaw(draft, &draft.findings_after);
    let (verdict, detail) = match (before.first(), after.first()) {
        (None, _) => (Verdict::Abstained, "the analyzer does not see this flaw".to_owned()),
        (Some(finding), None) => (Verdict::Passed, format!("{} ({}) is gone", finding.rule, finding.cwe)),
        (Some(_), Some(finding)) => (
            Verdict::Failed,
            format!(
                "{} ({}) is still found: {} before, {} after",
                finding.rule,
                finding.cwe,
                before.len(),
                after.len()
            ),
        ),
    };
    let fatal = (after.len() >= before.len()).then_some(RejectReason::FindingRemains);
    ballot("finding_gone", FINDING_GONE, verdict, detail, fatal)
}

/// A repair must not bring a weakness of its own. When the flaw itself is found on the repaired side only, the sides
/// are probably swapped.
fn no_new_finding(draft: &Draft) -> Ballot {
    let count = |findings: &[Finding]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for finding in findings {
            *counts.entry(finding.rule.clone()).or_default() += 1;
        }
        counts
    };
    let before = count(&draft.findings_before);
    let new: Vec<_> = count(&draft.findings_after)
        .into_iter()
        .filter(|(rule, after)| *after > before.get(rule).copied().unwrap_or(0))
        .map(|(rule, _)| rule)
        .collect();
    if new.is_empty() {
        return ballot(
            "no_new_finding",
            Weight::against(1.0),
            Verdict::Passed,
            "the analyzer sees nothing new",
            None,
        );
    }
    let own_flaw_is_new = !draft.record.cwe.is_empty()
        && about_the_flaw(draft, &draft.findings_before).is_empty()
        && !about_the_flaw(draft, &draft.findings_after).is_empty();
    let (reason, detail) = if own_flaw_is_new {
        (
            RejectReason::SwappedSides,
            "the flaw is found on the repaired side only; the sides may be swapped: ",
        )
    } else {
        (RejectReason::NewWeakness, "new in the repair: ")
    };
    ballot(
        "no_new_finding",
        Weight::against(1.0),
        Verdict::Failed,
        format!("{detail}{}", new.join(", ")),
        Some(reason),
    )
}

/// Changed leaves of both sides over all leaves of both sides.
fn changed_share(draft: &Draft) -> f64 {
    let changed: usize = draft.hunks.iter().map(|hunk| hunk.before.len() + hunk.after.len()).sum();
    let all = draft.before.leaves().len() + draft.after.leaves().len();
    changed as f64 / all.max(1) as f64
}

/// A repair mends; it does not rewrite.
fn small_change(draft: &Draft, config: &RepairConfig) -> Ballot {
    let share = changed_share(draft);
    let detail = format!(
        "{:.0} % of the tokens differ, {:.0} % may",
        share * 100.0,
        config.maximum_changed_share * 100.0
    );
    let verdict = if share <= config.maximum_changed_share { Verdict::Passed } else { Verdict::Failed };
    ballot("small_change", Weight::against(1.0), verdict, detail, Some(RejectReason::ChangeTooLarge))
}

/// Below this share of its tokens a function that was only cut down has lost its job.
const KEPT_SHARE: f64 = 0.5;

/// A flaw is not mended by taking the feature away: the result is still returned, most calls are still made, and the
/// body is more than a refusal. A small repair that only deletes may still be right: its failure is not fatal.
fn not_only_deletion(draft: &Draft) -> Ballot {
    let lost = |detail: String| {
        ballot(
            "not_only_deletion",
            Weight::against(1.0),
            Verdict::Failed,
            detail,
            Some(RejectReason::BehaviourDeleted),
        )
    };
    let (leaves_before, leaves_after) = (draft.before.leaves().len(), draft.after.leaves().len());
    let inserted: usize = draft.hunks.iter().map(|hunk| hunk.after.len()).sum();
    let kept_share = leaves_after as f64 / leaves_before.max(1) as f64;
    if let (Some(before), Some(after)) = (&draft.function_before, &draft.function_after) {
        if before.returns_value && !after.returns_value {
            return lost("the result is no longer returned".into());
        }
        if does_something(&draft.before, before) && !does_something(&draft.after, after) {
            return lost("the body is empty or only refuses".into());
        }
        let lost_calls: Vec<_> =
            before.calls.iter().filter(|call| !after.calls.contains(call)).map(String::as_str).collect();
        let gained = after.calls.iter().any(|call| !before.calls.contains(call));
        if !gained && lost_calls.len() * 2 > before.calls.len() && lost_calls.len() > 1 {
            return lost(format!("most calls are gone and none replaces them: {}", lost_calls.join(", ")));
        }
    }
    if kept_share < KEPT_SHARE && inserted * 4 < leaves_before.saturating_sub(leaves_after) {
        return lost(format!("{:.0} % of the code is left and little is new", kept_share * 100.0));
    }
    if inserted == 0 {
        return ballot(
            "not_only_deletion",
            Weight::against(1.0),
            Verdict::Failed,
            format!("the repair only deletes; {:.0} % of the code is left", kept_share * 100.0),
            None,
        );
    }
    ballot(
        "not_only_deletion",
        Weight::against(1.0),
        Verdict::Passed,
        "result and calls are kept or replaced",
        None,
    )
}

/// Whether the body holds a statement that is more than `pass`, a docstring, or a refusal.
fn does_something(parsed: &Parsed, function: &Function) -> bool {
    function.statements.iter().any(|statement| {
        let text = statement.text(parsed.text()).unwrap_or("").trim();
        let idle = [
            "pass",
            "...",
            "return",
            "return None",
            "raise",
            "\"",
            "'",
            "r\"",
            ";",
            "return;",
            "return NULL;",
        ];
        let is_refusal =
            text.starts_with("raise ") || text.starts_with("raise(") || text.starts_with("throw ");
        let is_docstring = ["\"", "'", "r\"", "u\""].iter().any(|quote| text.starts_with(quote));
        !text.is_empty() && !idle.contains(&text) && !is_refusal && !is_docstring
    })
}
