//! `data report`: one HTML file that needs nothing else, to browse pairs, what was said about them, and what was rejected.
//!
//! Everything from the data is escaped, and the page's own policy forbids it to load anything.

use std::path::Path;

use vul2safe_corpus::{LabelledSpan, RepairPair, Side, bar_chart, counts, license_of, read_primevul_plus};
use vul2safe_llm::TranscriptLine;
use vul2safe_repair::Rejection;
use vul2safe_run::write_atomic;

use super::beside::{self, Dialogues, headline};
use super::show::spans_of;
use super::{check_output, println};
use crate::cli::DataReportArguments;
use crate::failure::Result;
use crate::words::{visible, word};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
<style>\n\
:root { color-scheme: light dark; --line: #8886; --bad: #d1242f33; --good: #1a7f3733; }\n\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }\n\
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem; }\n\
summary { cursor: pointer; } summary span { opacity: .75; margin-left: .8rem; }\n\
pre { overflow-x: auto; font-size: 13px; border: 1px solid var(--line); border-radius: 6px; padding: .6rem; tab-size: 4; } pre.words { white-space: pre-wrap; }\n\
mark { color: inherit; } mark.vulnerable { background: var(--bad); } mark.secure { background: var(--good); }\n\
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1rem; }\n\
.sides > div { min-width: 0; } table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }\n\
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1rem; } .plots svg { width: 100%; }\n\
input { font: inherit; width: 100%; padding: .4rem; margin: 1rem 0; box-sizing: border-box; }\n\
</style>\n";

const SCRIPT: &str = "<script>\n\
const field = document.getElementById('search');\n\
field.addEventListener('input', () => {\n\
  const wanted = field.value.toLowerCase();\n\
  for (const item of document.querySelectorAll('details.item')) {\n\
    item.hidden = !item.textContent.toLowerCase().includes(wanted);\n\
  }\n\
});\n\
</script>\n";

pub(super) fn run(arguments: &DataReportArguments) -> Result<()> {
    let pairs = read_primevul_plus(&arguments.data)?;
    let rejected = beside::rejected(&arguments.data)?.unwrap_or_default();
    let out = arguments.out.clone().unwrap_or_else(|| arguments.data.with_extension("html"));
    check_output(&out, &arguments.data)?;
    let dialogues = Dialogues::beside(&arguments.data);
    write_atomic(&out, page(&arguments.data, &pairs, &rejected, &dialogues, arguments.limit)?.as_bytes())?;
    println(&out.display().to_string())
}

fn page(
    data: &Path,
    pairs: &[RepairPair],
    rejected: &[Rejection],
    dialogues: &Dialogues,
    limit: usize,
) -> Result<String> {
    let title = data.file_name().unwrap_or_default().to_string_lossy();
    let mut page = format!("{HEAD}<title>{0}</title>\n</head>\n<body>\n<h1>{0}</h1>\n", escaped(&title));
    let prompts: usize = pairs.iter().map(|pair| pair.prompts.len()).sum();
    page.push_str(&format!(
        "<p>{} repair pairs with {prompts} implicit prompts; {} rejected.</p>\n<div class=\"plots\">\n",
        pairs.len(),
        rejected.len()
    ));
    let weaknesses = pairs.iter().flat_map(|pair| match pair.cwe.as_slice() {
        [] => vec!["no CWE".to_owned()],
        cwe => cwe.iter().map(ToString::to_string).collect(),
    });
    let charts = [
        ("Weakness", counts(weaknesses)),
        ("Language", counts(pairs.iter().map(|pair| pair.language.to_string()))),
        ("Source", counts(pairs.iter().map(|pair| pair.source.dataset.clone()))),
        ("Licence of the code", counts(pairs.iter().map(|pair| license_of(pair).to_owned()))),
        ("Part of the data", counts(pairs.iter().map(|pair| word(&pair.split)))),
        ("Rejected, by reason", counts(rejected.iter().map(|rejection| rejection.reason.to_string()))),
    ];
    for (title, rows) in charts.iter().filter(|(_, rows)| !rows.is_empty()) {
        page.push_str(&bar_chart(title, rows));
    }
    page.push_str("</div>\n<input id=\"search\" type=\"search\" placeholder=\"Search: id, CWE, code, reason\" aria-label=\"Search\">\n");
    page.push_str(&heading("Pairs", pairs.len(), limit));
    for pair in pairs.iter().take(limit) {
        page.push_str(&pair_item(pair, &dialogues.about(&pair.id)?));
    }
    page.push_str(&heading("Rejected", rejected.len(), limit));
    for rejection in rejected.iter().take(limit) {
        page.push_str(&rejected_item(rejection, &dialogues.about(&rejection.id)?));
    }
    page.push_str(SCRIPT);
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn heading(title: &str, all: usize, limit: usize) -> String {
    let shown = if all > limit { format!(", the first {limit} shown (--limit)") } else { String::new() };
    format!("<h2>{title}: {all}{shown}</h2>\n")
}

fn pair_item(pair: &RepairPair, exchanges: &[TranscriptLine]) -> String {
    let cwe: Vec<String> = pair
        .cwe
        .iter()
        .map(|cwe| cwe.name().map_or_else(|| cwe.to_string(), |name| format!("{cwe} {name}")))
        .collect();
    let mut item = format!(
        "<details class=\"item\"><summary><b>{}</b><span>{} · {} · confidence {:.3}</span></summary>\n",
        escaped(&pair.id),
        pair.language,
        escaped(&cwe.join(", ")),
        pair.confidence
    );
    let facts = [
        ("source", Some(format!("{}/{}", pair.source.dataset, pair.source.id))),
        ("CVE", pair.cve.clone()),
        ("project", pair.project.clone()),
        ("commit", pair.commit.clone()),
        ("date", pair.date.clone()),
        ("file", pair.file_name.clone()),
        ("licence", Some(license_of(pair).to_owned())),
        ("split", Some(word(&pair.split))),
        ("repaired by", Some(format!("{}, round {}", pair.repair.by, pair.repair.rounds))),
    ];
    item.push_str("<table>\n");
    for (name, value) in facts {
        if let Some(value) = value {
            item.push_str(&format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(&value)));
        }
    }
    item.push_str("</table>\n<div class=\"sides\">\n");
    item.push_str(&side("vulnerable", &pair.vulnerable, Side::Vulnerable, &pair.spans));
    item.push_str(&side("secure", &pair.secure, Side::Secure, &pair.spans));
    item.push_str("</div>\n");
    item.push_str(&evidence(&pair.evidence));
    item.push_str("<h4>implicit prompts</h4>\n");
    for prompt in &pair.prompts {
        item.push_str(&format!(
            "<p><b>{}</b></p><pre class=\"words\">{}</pre>\n",
            escaped(&prompt.style),
            escaped(&prompt.request())
        ));
    }
    item.push_str(&dialogue(exchanges));
    item.push_str("</details>\n");
    item
}

fn side(title: &str, code: &str, wanted: Side, spans: &[LabelledSpan]) -> String {
    format!("<div><h4>{title}</h4><pre>{}</pre></div>\n", marked(spans, wanted, code))
}

/// What was said about a record, folded up.
fn dialogue(exchanges: &[TranscriptLine]) -> String {
    if exchanges.is_empty() {
        return String::new();
    }
    let mut section = "<h4>dialogue</h4>\n".to_owned();
    for exchange in exchanges {
        section.push_str(&format!("<details><summary>{}</summary>\n", escaped(&headline(exchange))));
        let said = exchange.messages.iter().map(|message| (word(&message.role), &message.content));
        let reasoning = exchange.reasoning.iter().map(|reasoning| ("reasoning".to_owned(), reasoning));
        for (who, words) in said.chain(reasoning).chain([("answer".to_owned(), &exchange.answer)]) {
            section.push_str(&format!("<p><b>{who}</b></p><pre class=\"words\">{}</pre>\n", escaped(words)));
        }
        section.push_str("</details>\n");
    }
    section
}

/// The code with its spans marked; hovering shows the reason. Of spans that overlap the first goes on.
fn marked(spans: &[LabelledSpan], side: Side, code: &str) -> String {
    let mut spans: Vec<_> = spans.iter().filter(|span| span.side == side).collect();
    spans.sort_by_key(|span| (span.start, span.end));
    let (mut out, mut position) = (String::new(), 0);
    for span in spans {
        let start = span.start.max(position);
        let (Some(before), Some(inside)) = (code.get(position..start), code.get(start..span.end)) else {
            continue;
        };
        out.push_str(&escaped(before));
        out.push_str(&format!(
            "<mark class=\"{}\" title=\"{} ({})\">{}</mark>",
            word(&span.kind),
            escaped(&span.reason),
            word(&span.by),
            escaped(inside)
        ));
        position = span.end;
    }
    out.push_str(&escaped(code.get(position..).unwrap_or_default()));
    out
}

fn rejected_item(rejection: &Rejection, exchanges: &[TranscriptLine]) -> String {
    let mut words = vec![rejection.reason.to_string()];
    words.extend(rejection.language.map(|language| language.to_string()));
    words.extend(rejection.cwe.iter().map(ToString::to_string));
    words.extend(rejection.confidence.map(|value| format!("confidence {value:.3}")));
    let mut item = format!(
        "<details class=\"item\"><summary><b>{}</b><span>{}</span></summary>\n<p>{}</p>\n",
        escaped(&rejection.id),
        escaped(&words.join(" · ")),
        escaped(&rejection.detail)
    );
    let spans = spans_of(rejection);
    if !rejection.vulnerable.is_empty() {
        item.push_str("<div class=\"sides\">\n");
        item.push_str(&side("vulnerable", &rejection.vulnerable, Side::Vulnerable, &spans));
        if let Some(proposal) = &rejection.proposal {
            let title = format!("proposed by {}", escaped(&proposal.by));
            item.push_str(&side(&title, &proposal.secure, Side::Secure, &spans));
        }
        item.push_str("</div>\n");
    }
    item.push_str(&evidence(&rejection.evidence));
    item.push_str(&dialogue(exchanges));
    item.push_str("</details>\n");
    item
}

fn evidence(checks: &[vul2safe_corpus::Evidence]) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let rows: String = checks
        .iter()
        .map(|check| {
            let cells = [check.check.clone(), word(&check.verdict), check.detail.clone()];
            format!("<tr>{}</tr>\n", cells.map(|cell| format!("<td>{}</td>", escaped(&cell))).concat())
        })
        .collect();
    format!("<h4>checks</h4>\n<table>\n{rows}</table>\n")
}

/// Text for HTML, in elements and in quoted attributes; what turns the direction of text round is written out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}
