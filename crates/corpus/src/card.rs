//! The data card: README.md with the front matter that dataset hubs read, counts, and bar charts as SVG.

use std::collections::BTreeMap;

use crate::{RepairPair, Split, license_of};

/// Licences that the Hugging Face Hub knows by an id; any other is `other`.
const HUB_LICENSES: [&str; 13] = [
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "mpl-2.0",
    "unlicense",
    "gpl-2.0",
    "gpl-3.0",
    "lgpl-2.1",
    "lgpl-3.0",
    "agpl-3.0",
    "zlib",
];

/// Rows of a table: what, and how many.
pub type Counts = Vec<(String, usize)>;

/// What a card tells beside the pairs themselves.
#[derive(Clone, Debug, Default)]
pub struct CardFacts {
    /// Name of the data set.
    pub title: String,
    /// Rejected records by reason, where that is known.
    pub rejected: Counts,
    /// Pairs that were left out of this export, by reason (licence, overlap with a benchmark).
    pub left_out: Counts,
}

/// A view of the data as the card names it: `(configuration, files by split)`.
pub type View = (&'static str, Vec<(Split, String)>);

/// A card and its charts, by file name.
pub struct Card {
    /// README.md.
    pub readme: String,
    /// `(file name, SVG)`.
    pub charts: Vec<(String, String)>,
}

/// Makes the card of a data set whose views are laid out as `views` says; the first is the default.
pub fn data_card(pairs: &[RepairPair], facts: &CardFacts, views: &[View]) -> Card {
    let by = |key: &dyn Fn(&RepairPair) -> Vec<String>| counts(pairs.iter().flat_map(key));
    let weaknesses = by(&|pair| match pair.cwe.as_slice() {
        [] => vec!["no CWE".to_owned()],
        cwe => cwe.iter().map(ToString::to_string).collect(),
    });
    let tables: Vec<(&str, &str, Counts)> = vec![
        ("Weakness", "weakness", weaknesses),
        ("Language", "language", by(&|pair| vec![pair.language.to_string()])),
        ("Source", "source", by(&|pair| vec![pair.source.dataset.clone()])),
        ("Licence of the code", "license", by(&|pair| vec![license_of(pair).to_owned()])),
        (
            "Style of the implicit prompts",
            "style",
            by(&|pair| pair.prompts.iter().map(|prompt| prompt.style.clone()).collect()),
        ),
        ("Rejected, by reason", "rejected", facts.rejected.clone()),
        ("Left out of this export", "left-out", facts.left_out.clone()),
    ];
    let mut readme = front_matter(pairs, &facts.title, views);
    readme.push_str(&format!("\n# {}\n\n", escaped(&facts.title)));
    let prompts: usize = pairs.iter().map(|pair| pair.prompts.len()).sum();
    readme.push_str(&format!(
        "{} repair pairs with {prompts} implicit prompts. Each pair is a vulnerable function and its repair, with the bytes \
         in which they differ labelled (`spans`), the checks for which the repair was believed (`evidence`), and requests \
         that ask for the function without a word on security (`prompts`).\n\n",
        pairs.len()
    ));
    readme.push_str("| split | pairs |\n|---|---:|\n");
    for split in SPLITS {
        let count = pairs.iter().filter(|pair| pair.split == split).count();
        readme.push_str(&format!("| {} | {count} |\n", split_name(split)));
    }
    readme.push_str(&usage(views));
    let mut charts = Vec::new();
    for (title, name, rows) in tables {
        if rows.is_empty() {
            continue;
        }
        let file = format!("plots/{name}.svg");
        readme.push_str(&format!(
            "\n## {title}\n\n![{title}]({file})\n\n| {} | count |\n|---|---:|\n",
            title.to_lowercase()
        ));
        for (label, count) in &rows {
            readme.push_str(&format!("| {} | {count} |\n", escaped(label)));
        }
        charts.push((file, bar_chart(title, &rows)));
    }
    readme.push_str(
        "\n## Licences\n\nEvery pair carries the licence of its code in `license` where the source states one; pairs without \
         are of unknown licence, not free of one. What may be done with a model trained on them is for you to decide.\n\n\
         ## Limits\n\nA repair was believed for its evidence, not proven. The labelled spans say where two texts differ, not \
         that everything else is secure.\n",
    );
    Card { readme, charts }
}

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

/// The split's name in files and in `datasets`.
pub fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Validation => "validation",
        Split::Test => "test",
    }
}

fn front_matter(pairs: &[RepairPair], title: &str, views: &[View]) -> String {
    let licenses = counts(pairs.iter().map(|pair| license_of(pair).to_ascii_lowercase()));
    let license = match licenses.as_slice() {
        [(one, _)] if HUB_LICENSES.contains(&one.as_str()) => one,
        _ => "other",
    };
    let size = match pairs.len() {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        _ => "100K<n<1M",
    };
    // A JSON string is a YAML string too.
    let title = serde_json::Value::from(title);
    let mut text = format!(
        "---\npretty_name: {title}\nlicense: {license}\ntask_categories:\n- text-generation\ntags:\n- code\n- security\n\
         - vulnerability-repair\nsize_categories:\n- {size}\nconfigs:\n"
    );
    for (index, (name, files)) in views.iter().enumerate() {
        text.push_str(&format!("- config_name: {name}\n"));
        if index == 0 {
            text.push_str("  default: true\n");
        }
        text.push_str("  data_files:\n");
        for (split, file) in files {
            text.push_str(&format!("  - split: {}\n    path: {file}\n", split_name(*split)));
        }
    }
    text.push_str("---\n");
    text
}

fn usage(views: &[View]) -> String {
    let mut text = "\n## Views\n\n| configuration | rows |\n|---|---|\n".to_owned();
    for (name, _) in views {
        let rows = match *name {
            "pairs" => "PrimeVul+, one pair a row, every field",
            "sft" => {
                "`prompt` and `completion`, each a list of messages; the completion is the secure function"
            }
            "chat" => "`messages`: request and secure function",
            "rl" => "`prompt`, and for the reward both sides, their spans and functional tests",
            _ => "",
        };
        text.push_str(&format!("| `{name}` | {rows} |\n"));
    }
    text.push_str("\n```python\nfrom datasets import load_dataset\n\npairs = load_dataset(\"path/to/this/folder\", \"pairs\")\n```\n");
    text
}

/// Counts equal words; the most frequent first, equals by their name.
pub fn counts(words: impl Iterator<Item = String>) -> Counts {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_insert(0) += 1;
    }
    let mut counts: Counts = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// Bars of a chart; what is less frequent is one bar together.
const MOST_BARS: usize = 20;

/// Horizontal bars, one a row, as SVG with text that can be read on light and dark pages.
pub fn bar_chart(title: &str, rows: &[(String, usize)]) -> String {
    const ROW: usize = 22;
    const LABEL: usize = 230;
    const BAR: usize = 400;
    let mut bars: Counts = rows.iter().take(MOST_BARS).cloned().collect();
    let others = rows.iter().skip(MOST_BARS);
    if rows.len() > MOST_BARS {
        bars.push((format!("{} others", rows.len() - MOST_BARS), others.map(|(_, count)| count).sum()));
    }
    let longest = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let height = 34 + ROW * bars.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\">\n\
         <title>{0}</title>\n<rect width=\"720\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"20\" font-weight=\"bold\" fill=\"#1f2328\">{0}</text>\n",
        escaped(title)
    );
    for (index, (label, count)) in bars.iter().enumerate() {
        let top = 34 + ROW * index;
        let width = (BAR * count).div_ceil(longest);
        let short: String = match label.chars().count() {
            0..=32 => label.clone(),
            _ => label.chars().take(31).chain(['…']).collect(),
        };
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#1f2328\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{}\" width=\"{width}\" height=\"14\" fill=\"#2f6fb2\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"#57606a\">{count}</text>\n",
            LABEL - 8,
            top + 12,
            escaped(&short),
            top,
            LABEL + width + 6,
            top + 12,
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text for SVG, and for a cell of a Markdown table: marks and line ends lose their meaning.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '|' => out.push_str("&#124;"),
            character if character.is_control() => out.push(' '),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_escapes_its_labels_and_sums_the_rest() {
        let mut rows: Counts = (0..25).map(|index| (format!("r{index}"), 25 - index)).collect();
        rows[0].0 = "<script>&\"\n".into();
        let svg = bar_chart("A & B", &rows);
        assert!(
            svg.contains("&lt;script&gt;&amp;&quot; ")
                && svg.contains("A &amp; B")
                && !svg.contains("<script")
        );
        assert!(svg.contains("5 others") && svg.contains(">15</text>"));
        assert_eq!(svg.matches("<rect x").count(), 21);
        assert!(bar_chart("nothing", &[]).ends_with("</svg>\n"));
    }
}
