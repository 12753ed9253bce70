//! The teacher that needs no network.

use vul2safe_analyze::analyze;
use vul2safe_code::parse_excerpt;
use vul2safe_corpus::{Prompt, VulnerabilityRecord};

use crate::facts::Facts;
use crate::teacher::{Analysis, Criticism, Proposal, Proposals};
use crate::wording::STYLES;
use crate::{Draft, Teacher, Unanswered};

/// Plain code in the place of a language model: the upstream fix is the only proposal, the deterministic checks that
/// the loop makes anyway are all the criticism, and prompts come from the parsed function. It never revises.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfflineTeacher;

impl Teacher for OfflineTeacher {
    fn name(&self) -> &str {
        "offline"
    }

    /// What the analyzer finds, in its words.
    fn analyse(&self, record: &VulnerabilityRecord) -> Result<Analysis, Unanswered> {
        let Ok(parsed) = parse_excerpt(record.language, &record.vulnerable) else {
            return Ok(Analysis::default());
        };
        let findings = analyze(&parsed);
        let mut cwe = Vec::new();
        for finding in &findings {
            if !cwe.contains(&finding.cwe) {
                cwe.push(finding.cwe);
            }
        }
        let explanation =
            findings.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>().join(" ");
        Ok(Analysis { explanation, cwe, quotes: Vec::new() })
    }

    fn propose(&self, record: &VulnerabilityRecord, _analysis: &Analysis) -> Result<Proposals, Unanswered> {
        Ok(Proposals::from(Vec::from_iter(Proposal::upstream(record))))
    }

    fn criticise(&self, _draft: &Draft, _analysis: &Analysis) -> Result<Criticism, Unanswered> {
        Ok(Criticism::default())
    }

    /// One wording of every style, then a second of every style, and so on; where each style starts among its
    /// wordings, and which style comes first, is drawn from the seed and the record's id.
    fn prompts(&self, draft: &Draft, _count: usize, seed: u64) -> Result<Vec<Prompt>, Unanswered> {
        let Some(facts) = Facts::of(draft) else { return Ok(Vec::new()) };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(draft.record.id.as_bytes());
        let drawn = *hasher.finalize().as_bytes();
        let mut styles: Vec<Vec<Prompt>> = STYLES
            .iter()
            .zip(drawn)
            .map(|(style, draw)| {
                let mut wordings = style.prompts(&facts);
                if !wordings.is_empty() {
                    let start = usize::from(draw) % wordings.len();
                    wordings.rotate_left(start);
                }
                wordings
            })
            .collect();
        styles.rotate_left(usize::from(drawn[STYLES.len()]) % STYLES.len());
        let longest = styles.iter().map(Vec::len).max().unwrap_or(0);
        Ok((0..longest)
            .flat_map(|round| styles.iter().filter_map(move |style| style.get(round).cloned()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Fragment;

    #[test]
    fn styles_have_distinct_names_and_several_wordings() {
        let function = Facts {
            language: "Python",
            noun: "function",
            signature: "f(a)".into(),
            header: "def f(a):".into(),
            purpose: "return the row".into(),
            detail: None,
            prefix: Some("def f(a):\n".into()),
            example: None,
            python: true,
            fragment: None,
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let fragment = Fragment { inputs: names(&["db", "name"]), results: names(&["row"]) };
        let code = Facts { fragment: Some(fragment), ..function.clone() };
        for facts in [function, code] {
            for (index, style) in STYLES.iter().enumerate() {
                let wordings = style.prompts(&facts);
                assert!(wordings.len() >= 4, "{}", style.name);
                for prompt in wordings {
                    assert!(prompt.style == style.name && prompt.text.contains("eturn the row"));
                    assert!(facts.fragment.is_none() || prompt.text.contains("`db` and `name`"));
                }
                assert!(STYLES[..index].iter().all(|other| other.name != style.name));
            }
        }
    }
}
