//! The report as a reader, a browser and an attacker meet it.

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vul2safe_report::{ReportError, render, write};
use vul2safe_run::{RunError, RunFolder};

/// A made-up run in a folder that goes away with the first value.
fn made_up(hostile: bool) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("first-run");
    fixture::make_run(&path, hostile);
    (place, path)
}

/// What stands between tags, outside of style, script and drawings, with one space between words.
fn text_of(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        let between = unescaped(rest[..open].split_whitespace().collect::<Vec<_>>().join(" "));
        if !between.is_empty() {
            text.push_str(&between);
            text.push('\n');
        }
        rest = &rest[open..];
        for skipped in ["style", "script", "svg"] {
            if rest.starts_with(&format!("<{skipped}")) {
                rest = &rest[rest.find(&format!("</{skipped}>")).unwrap()..];
            }
        }
        rest = &rest[rest.find('>').unwrap() + 1..];
    }
    text
}

fn unescaped(text: String) -> String {
    let mut text = text;
    for (entity, plain) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&#x2f;", "/"), ("&amp;", "&")]
    {
        text = text.replace(entity, plain);
    }
    text
}

/// Every tag with its attributes, as a browser splits them; style and script are taken as a whole.
fn tags(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        rest = &rest[open + 1..];
        let end = rest.find(|c: char| c.is_whitespace() || c == '>').unwrap();
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('>') {
                rest = after;
                break;
            }
            let end = rest.find(|c: char| c.is_whitespace() || c == '>' || c == '=').unwrap();
            let attribute = rest[..end].to_owned();
            rest = &rest[end..];
            let mut value = String::new();
            if let Some(after) = rest.strip_prefix("=\"") {
                let end = after.find('"').unwrap();
                value = unescaped(after[..end].to_owned());
                rest = &after[end + 1..];
            }
            attributes.push((attribute, value));
        }
        if name == "style" || name == "script" {
            rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
        }
        tags.push((name, attributes));
    }
    tags
}

#[test]
fn the_page_reads_as_expected() {
    let (_place, path) = made_up(false);
    insta::assert_snapshot!(text_of(&render(&path).unwrap()));
}

#[test]
fn the_same_files_give_the_same_page() {
    let (_place, path) = made_up(false);
    assert_eq!(render(&path).unwrap(), render(&path).unwrap());
}

/// Rates, ends of intervals, differences and p-values stand in the page as the file has them, counts as well.
#[test]
fn every_figure_of_the_evaluation_is_in_the_page_unchanged() {
    let (_place, path) = made_up(false);
    let page = render(&path).unwrap();
    // The project's JSON keeps the digits of a number as they stand in the file.
    let table: Value = serde_json::from_slice(&fs::read(path.join("evaluation.json")).unwrap()).unwrap();
    let mut checked = 0;
    for row in table["rows"].as_array().unwrap() {
        for rate in row["rates"].as_object().unwrap().values() {
            let attributes = format!(
                "data-value=\"{}\" data-low=\"{}\" data-high=\"{}\"",
                rate["value"], rate["low"], rate["high"]
            );
            let cell = &page[page.find(&attributes).unwrap_or_else(|| panic!("{attributes} is missing"))..];
            let cell = &cell[..cell.find("</td>").unwrap()];
            assert!(cell.contains(&format!("{} / {}", rate["count"], rate["of"])), "{rate} against {cell}");
            checked += 1;
        }
        assert!(page.contains(&format!("<td class=\"number\">{}</td>", row["answers"])));
    }
    for comparison in table["comparisons"].as_array().unwrap() {
        let Value::Object(figures) = comparison else { panic!("{comparison}") };
        let attributes = format!(
            "data-value=\"{}\" data-low=\"{}\" data-high=\"{}\" data-p=\"{}\"",
            figures["difference"], figures["low"], figures["high"], figures["p_value"]
        );
        assert!(page.contains(&attributes), "{attributes} is missing");
        checked += 1;
    }
    assert!(checked > 100, "{checked} figures");
}

#[test]
fn hostile_text_is_inert_wherever_it_stands() {
    let (_place, path) = made_up(true);
    let page = render(&path).unwrap();
    let known = [
        "!DOCTYPE",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "a",
        "header",
        "p",
        "span",
        "h1",
        "h2",
        "h3",
        "dl",
        "dt",
        "dd",
        "div",
        "nav",
        "main",
        "section",
        "small",
        "br",
        "em",
        "b",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "svg",
        "rect",
        "line",
        "details",
        "summary",
        "figure",
        "figcaption",
        "desc",
        "text",
        "g",
        "polyline",
        "circle",
        "ul",
        "li",
        "i",
        "form",
        "label",
        "select",
        "option",
        "output",
        "article",
        "pre",
        "code",
        "footer",
        "script",
    ];
    let mut scripts = 0;
    for (name, attributes) in tags(&page) {
        let plain = name.trim_start_matches('/').trim_end_matches('/');
        assert!(known.contains(&plain), "the tag {name} is none of the page's own");
        scripts += usize::from(name == "script");
        for (attribute, value) in attributes {
            assert!(!attribute.starts_with("on"), "{name} has {attribute}");
            let links = attribute == "href" || attribute == "src";
            assert!(!links || value.starts_with('#'), "{name} leads to {value}");
        }
    }
    assert_eq!(scripts, 1, "the page's own script and no other");
    let hostile = "<script>alert('x')</script><img src=x onerror=alert(1)>\" onclick=\"a⟨U+202E⟩{{ 7*7 }}";
    let places = page.matches("&lt;img src=x onerror=alert(1)&gt;").count();
    assert!(places > 100, "the text is shown, not removed: {places} places");
    assert!(text_of(&page).contains(hostile), "and it is shown as it is");
}

#[test]
fn an_answer_keeps_its_white_space_and_every_token_its_reward() {
    let (_place, path) = made_up(false);
    let page = render(&path).unwrap();
    let start = page.find("<pre class=\"tokens\"><code>").unwrap() + "<pre class=\"tokens\"><code>".len();
    let first = &page[start..start + page[start..].find("</code>").unwrap()];
    let samples = vul2safe_run::read_samples(&path.join("samples/evaluation-base.jsonl")).unwrap();
    let mut shown = String::new();
    let mut rest = first;
    while let Some(open) = rest.find('<') {
        shown.push_str(&rest[..open]);
        rest = &rest[rest.find('>').unwrap() + 1..];
    }
    shown.push_str(rest);
    assert_eq!(unescaped(shown), samples[0].answer);
    let rewarded = samples[0].tokens.iter().filter(|token| !token.reasons.is_empty()).count();
    let focusable: Vec<_> = tags(first)
        .into_iter()
        .filter(|(_, attributes)| attributes.iter().any(|(name, _)| name == "tabindex"))
        .collect();
    assert_eq!(focusable.len(), rewarded);
    for (_, attributes) in focusable {
        let value = |wanted: &str| {
            attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        assert!(value("title").unwrap().starts_with("reward −0."), "{attributes:?}");
        assert_eq!(value("title"), value("data-reason"));
    }
}

#[test]
fn what_is_missing_is_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("begun");
    drop(RunFolder::create_or_resume(&path, "seed = 3\n", serde_json::json!({})).unwrap());
    let page = render(&path).unwrap();
    for missing in [
        "evaluation.json is not there yet",
        "metrics.jsonl has no line yet",
        "data.json is not there yet",
        "journal.jsonl has no entry yet",
        "samples/ has no file yet",
    ] {
        assert!(page.contains(missing), "{missing}");
    }
    assert!(page.contains("This run has not been evaluated yet."));
    fs::remove_file(path.join("environment.json")).unwrap();
    render(&path).expect("the environment may be missing as well");
}

#[test]
fn what_is_broken_is_an_error_with_place_and_hint() {
    let check = |file: &str, contents: &[u8], line: usize| {
        let (_place, path) = made_up(false);
        fs::write(path.join(file), contents).unwrap();
        let error = render(&path).unwrap_err();
        let ReportError::Run(RunError::Broken { path: broken, line: found, .. }) = &error else {
            panic!("{file}: {error}")
        };
        assert_eq!((broken.as_path(), *found), (path.join(file).as_path(), line), "{error}");
        assert!(error.hint().is_some(), "{file}");
    };
    check("evaluation.json", b"{\n  \"suite\": 1\n}", 2);
    check("data.json", b"{\"sections\": [", 1);
    check("environment.json", b"{\n\n", 3);
    check("config.toml", b"seed = 1\nname = \"\xff\"\n", 2);
    check("journal.jsonl", b"{}\n", 1);
    check("metrics.jsonl", b"{\"stage\":\"sft\",\"step\":1,\"time\":0,\"loss\":\"high\"}\n", 1);
    check("samples/evaluation-sft.jsonl", b"{\"arm\":\"sft\"}\n", 1);
    let error = render(Path::new("/no/such/run")).unwrap_err();
    assert!(matches!(error, ReportError::Run(RunError::Missing { .. })), "{error}");
}

#[test]
fn the_report_is_written_into_the_run_folder() {
    let (_place, path) = made_up(false);
    let report = write(&path).unwrap();
    assert_eq!(report, path.join("report.html"));
    assert_eq!(fs::read_to_string(&report).unwrap(), render(&path).unwrap());
}

/// No part of the page comes from elsewhere.
#[test]
fn the_page_needs_no_network() {
    let (_place, path) = made_up(false);
    let page = render(&path).unwrap();
    for word in ["http://", "https://", "@import", "url(", "<link", "<iframe", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(word), "the page contains {word}");
    }
}

#[test]
fn an_experiment_is_drawn_from_its_file_and_none_of_its_texts_is_markup() {
    use std::collections::BTreeMap;
    use vul2safe_run::{
        ArmResult, CollapsedArm, CurvePoint, Estimate, ExperimentTable, SearchedSetting, SeedDifference,
    };
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tokens");
    let run = RunFolder::create_or_resume(&path, "name = \"tokens\"\n", serde_json::json!({})).unwrap();
    let estimate = |mean: f64| Estimate { mean, low: mean - 0.05, high: mean + 0.05, values: vec![mean; 3] };
    let figures = |mean| BTreeMap::from([("vulnerable".to_owned(), estimate(mean))]);
    let arm = |name: &str, mean: f64| ArmResult {
        arm: name.to_owned(),
        description: "<b>rewards</b>".to_owned(),
        seeds: vec![0, 1, 2],
        groups: BTreeMap::from([("all".to_owned(), figures(mean)), ("one place".to_owned(), figures(mean))]),
        curves: BTreeMap::from([(
            "vulnerable".to_owned(),
            vec![
                CurvePoint { rollouts: 0, mean: 0.4, low: 0.3, high: 0.5 },
                CurvePoint { rollouts: 64, mean, low: f64::NAN, high: f64::NAN },
            ],
        )]),
    };
    let table = ExperimentTable {
        name: "tokens".to_owned(),
        endpoints: vec!["<script>alert(1)</script>".to_owned()],
        seeds: vec![0, 1, 2],
        seconds: 4_000.0,
        measures: vec![("vulnerable".to_owned(), "an attack worked".to_owned())],
        arms: vec![arm("token", 0.1), arm("last<img>", 0.2)],
        differences: vec![SeedDifference {
            first: "token".to_owned(),
            second: "last<img>".to_owned(),
            group: "all".to_owned(),
            measure: "vulnerable".to_owned(),
            difference: -0.1,
            low: -0.15,
            high: -0.05,
            p_value: 0.0078,
            seeds: 3,
        }],
        search: vec![SearchedSetting {
            arm: "token".to_owned(),
            setting: "lambda = 0.95".to_owned(),
            both: 0.5,
            vulnerable: 0.2,
            functional_change: 0.03,
            chosen: true,
            collapsed: vec![],
        }],
        collapsed: vec![CollapsedArm {
            arm: "last<img>".to_owned(),
            seed: 7,
            why: "the mean entropy is <b>0</b>".to_owned(),
        }],
    };
    table.write(&run).unwrap();
    assert_eq!(vul2safe_run::read_experiment(&path).unwrap().map(|read| read.arms.len()), Some(2));
    let page = render(&path).unwrap();
    assert!(!page.contains("<script>") && !page.contains("last<img>") && !page.contains("<b>rewards</b>"));
    let text = text_of(&page);
    for words in [
        "token, less each other",
        "−10.0",
        "−15.0 to −5.0",
        "p 0.008",
        "lambda = 0.95",
        "+3.0",
        "1 h 06 min",
        "seed 7: the mean entropy",
    ] {
        assert!(text.contains(words), "`{words}` is missing:\n{text}");
    }
    assert!(page.contains("<polyline"), "the curves are drawn");
    assert_eq!(render(&path).unwrap(), page, "the same file gives the same bytes");
}
