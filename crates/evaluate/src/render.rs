//! Summaries and comparisons as text for people.

use std::fmt::Write;

use crate::compare::{Compared, PairedTest};
use crate::summary::{Summary, SummaryRow};

/// Measures that every table shows where anything is known of them.
const ALWAYS: [&str; 10] = [
    "functional",
    "vulnerable",
    "vulnerable_high",
    "vulnerable_medium",
    "both",
    "flagged",
    "flagged_any",
    "unparsable",
    "refused",
    "not_run",
];
/// Measures that are shown where an answer has the property.
const WHERE_SEEN: [&str; 2] = ["truncated", "copied"];

/// The main groups of a summary: parts of the suite, not its weaknesses (those are in the JSON form).
pub fn render_summary(summary: &Summary) -> String {
    let mut text = format!("{}; percent with 95 % intervals, and counts\n", summary.suite);
    let judged = summary.judged_by;
    let mut by = Vec::new();
    for (count, what) in [
        (judged.functional_tests, "by functional tests"),
        (judged.exploit_tests, "by exploit tests"),
        (judged.static_findings_alone, "by static findings alone (no finding does not mean secure)"),
    ] {
        if count > 0 {
            by.push(format!("{count} {what}"));
        }
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "tasks judged: {}", by.join(", "));
    for (reason, count) in &summary.left_out {
        let _ = writeln!(text, "left out: {count} tasks: {reason}");
    }
    for (model, count) in &summary.unanswered {
        let _ = writeln!(text, "`{model}` has no answer to {count} tasks, which are in no figure");
    }
    let mut groups: Vec<&str> = Vec::new();
    for row in &summary.rows {
        if !groups.contains(&row.group.as_str()) && !row.group.starts_with("CWE-") {
            groups.push(&row.group);
        }
    }
    for group in groups {
        let rows: Vec<&SummaryRow> = summary.rows.iter().filter(|row| row.group == group).collect();
        render_group(&mut text, group, &rows);
    }
    text.trim_end().to_owned()
}

fn render_group(text: &mut String, group: &str, rows: &[&SummaryRow]) {
    let titles: Vec<String> = rows
        .iter()
        .map(|row| match row.seed {
            None => row.model.clone(),
            Some(seed) => format!("{} seed {seed}", row.model),
        })
        .collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0).max(30);
    let _ = write!(text, "\n{group:<18}");
    for title in &titles {
        let _ = write!(text, "  {title:<width$}");
    }
    trim_line(text);
    let _ = write!(text, "\n{:<18}", "  answers (tasks)");
    for row in rows {
        let _ = write!(text, "  {:<width$}", format!("{} ({})", row.answers, row.tasks));
    }
    trim_line(text);
    text.push('\n');
    let known = |name: &str| rows.iter().any(|row| row.figures.contains_key(name));
    let seen =
        |name: &str| rows.iter().any(|row| row.figures.get(name).is_some_and(|figure| figure.value > 0.0));
    let mut names: Vec<String> =
        ALWAYS.iter().filter(|name| known(name)).map(|&name| name.to_owned()).collect();
    names.extend(WHERE_SEEN.iter().filter(|name| seen(name)).map(|&name| name.to_owned()));
    let mut at_k: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.figures.keys()).filter(|name| name.contains('@')) {
        if !at_k.contains(&name) {
            at_k.push(name);
        }
    }
    at_k.sort_by_key(|name| {
        let (kind, k) = name.split_once('@').unwrap_or((name, ""));
        (kind.to_owned(), k.parse::<usize>().unwrap_or(0))
    });
    names.extend(at_k.into_iter().cloned());
    for name in names {
        let _ = write!(text, "{:<18}", format!("  {name}"));
        for row in rows {
            let cell = row.figures.get(&name).map_or("–".to_owned(), |figure| {
                let [value, low, high] = [figure.value, figure.low, figure.high].map(|share| 100.0 * share);
                format!("{value:5.1} [{low:.1}, {high:.1}]  {}/{}", figure.count, figure.of)
            });
            let _ = write!(text, "  {cell:<width$}");
        }
        trim_line(text);
        text.push('\n');
    }
}

/// Cells are padded; the last one of a line need not be.
fn trim_line(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
}

/// The paired table of two models.
pub fn render_comparison(suite: &str, compared: &[Compared]) -> String {
    let Some(one) = compared.first() else { return format!("{suite}: no task has answers of both") };
    let mut text = format!(
        "{suite}; A is `{}`, B is `{}`; percent, the difference with its 95 % interval, tasks where only one of them \
         has it (or has it more often)\n",
        one.first, one.second
    );
    let mut group = "";
    for line in compared {
        if line.group.starts_with("CWE-") {
            continue;
        }
        if line.group != group {
            group = &line.group;
            let _ = writeln!(
                text,
                "\n{group:<14} {:>6} {:>7} {:>7} {:>24} {:>7} {:>7} {:>8}",
                "tasks", "A", "B", "A − B", "only A", "only B", "p"
            );
        }
        let [first, second, difference, low, high] =
            [line.first_rate, line.second_rate, line.difference, line.low, line.high]
                .map(|share| 100.0 * share);
        let span = format!("{difference:+.1} [{low:+.1}, {high:+.1}]");
        let p = if line.p_value < 0.001 { "<0.001".to_owned() } else { format!("{:.3}", line.p_value) };
        let _ = writeln!(
            text,
            "  {:<12} {:>6} {first:>7.1} {second:>7.1} {span:>24} {:>7} {:>7} {p:>8}",
            line.measure, line.tasks, line.only_first, line.only_second
        );
    }
    let by_task = compared.iter().any(|line| line.test == PairedTest::ByTask);
    text.push_str(if by_task {
        "\nseveral answers a task: intervals by bootstrap over tasks, p by randomisation of the tasks' differences"
    } else {
        "\none answer a task: Newcombe's paired interval, McNemar's mid-p value"
    });
    text
}
