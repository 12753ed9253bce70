//! Stage 2: Vul2Safe turns records into PrimeVul+.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vul2safe_corpus::{
    Dropped, RepairPair, SourceId, Split, SplitConfig, VulnerabilityRecord, assign_splits,
    read_primevul_plus, write_primevul_plus,
};
use vul2safe_judge::Judge;
use vul2safe_llm::Client;
use vul2safe_repair::{Decision, OfflineTeacher, OpenRecord, Rejection, RepairConfig, Teacher, repair};
use vul2safe_reward::Patterns;

use super::{Context, import};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::recipe::{SourceKind, TeacherConfig};
use crate::words::word;

/// PrimeVul+ of this run.
pub const PAIRS: &str = "data/primevul-plus.jsonl";
/// What was rejected, with reasons and checks.
pub const REJECTED: &str = "data/rejected.jsonl";
/// What became of every record that was read.
pub const FATES: &str = "data/fates.jsonl";

/// Answers of language models that were paid for.
const ANSWERS: &str = "data/answers.sqlite";
/// What was said about each record.
const DIALOGUE: &str = "data/dialogue";

/// What became of one record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fate {
    /// Where it came from.
    pub source: SourceId,
    /// `dropped` at import, `rejected` by Vul2Safe, or `accepted`.
    pub outcome: String,
    /// Why, in one word, for what was dropped or rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Part of the data that an accepted pair belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Number of implicit prompts of an accepted pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<usize>,
}

/// Accepted pairs with their splits, and what was rejected.
pub struct Built {
    /// Accepted, in the order of the records.
    pub pairs: Vec<RepairPair>,
    /// Rejected, in the order of the records.
    pub rejected: Vec<Rejection>,
    /// Not decided, since the teacher could not be asked.
    pub open: Vec<OpenRecord>,
}

/// Who repairs: plain code, or language models and the client that reaches them.
pub enum Author {
    /// The offline teacher.
    Offline,
    /// Language models.
    Models(Box<vul2safe_repair::LanguageTeacher>, Client),
}

impl Author {
    /// The recipe's teacher. Its paid answers and dialogues go into these places, unless the recipe names others.
    ///
    /// # Errors
    /// A teacher that cannot be used.
    pub fn open(teacher: Option<&TeacherConfig>, answers: &Path, dialogue: &Path) -> Result<Author> {
        let Some(teacher) = teacher else { return Ok(Author::Offline) };
        let (teacher, client) = teacher.open(answers, dialogue).map_err(|failure| failure.at("[teacher]"))?;
        Ok(Author::Models(Box::new(teacher), client))
    }

    fn teacher(&self) -> &dyn Teacher {
        match self {
            Author::Offline => &OfflineTeacher,
            Author::Models(teacher, _) => teacher.as_ref(),
        }
    }

    /// What asking has come to so far; nothing for plain code.
    pub fn spending(&self) -> Option<String> {
        match self {
            Author::Offline => None,
            Author::Models(_, client) => Some(client.stats().to_string()),
        }
    }
}

/// Says that records are open, with what can be done about the first.
///
/// # Errors
/// When any is.
pub fn check_none_open(built: &Built) -> Result<()> {
    let Some(first) = built.open.first() else { return Ok(()) };
    let all = built.pairs.len() + built.rejected.len() + built.open.len();
    let failure = Failure::user(format!(
        "{} of {all} records are not decided; `{}`: {}",
        built.open.len(),
        first.id,
        first.detail
    ));
    Err(failure.with_hint(first.hint.clone().unwrap_or_else(|| {
        "start the same command again: what was answered is kept and costs nothing".to_owned()
    })))
}

/// Runs Vul2Safe over `records`.
pub fn build(
    records: &[VulnerabilityRecord],
    author: &Author,
    judge: &Judge,
    config: &RepairConfig,
    split: &SplitConfig,
    progress: &Progress,
) -> Built {
    let total = records.len() as u64;
    let decisions = repair(records, author.teacher(), Some(judge), config, &|done| {
        let note = author.spending().unwrap_or_else(|| "records decided".to_owned());
        progress.update(done as u64, total, &note);
    });
    let mut pairs = Vec::new();
    let mut rejected = Vec::new();
    let mut open = Vec::new();
    for decision in decisions {
        match decision {
            Decision::Accepted(pair) => pairs.push(*pair),
            Decision::Rejected(rejection) => rejected.push(rejection),
            Decision::Open(record) => open.push(record),
        }
    }
    assign_splits(&mut pairs, split);
    Built { pairs, rejected, open }
}

/// The stage.
pub fn run(context: &Context<'_>) -> Result<Value> {
    let recipe = context.recipe;
    let dropped: Vec<Dropped> = context.read_lines(import::DROPPED)?;
    let built = if recipe.data.source == SourceKind::PrimevulPlus {
        let path = recipe.data.path.as_deref().unwrap_or(std::path::Path::new(""));
        let pairs = read_primevul_plus(path)?;
        check_usable(&pairs).map_err(|failure| failure.at(path.display()))?;
        Built { pairs, rejected: Vec::new(), open: Vec::new() }
    } else {
        let records: Vec<VulnerabilityRecord> = context.read_lines(import::RECORDS)?;
        let config =
            RepairConfig { seed: context.seed_for("prompts", recipe.repair.seed), ..recipe.repair.clone() };
        let split = SplitConfig {
            seed: context.seed_for("split", recipe.data.split.seed),
            ..recipe.data.split.clone()
        };
        let author =
            Author::open(recipe.teacher.as_ref(), &context.run.file(ANSWERS), &context.run.file(DIALOGUE))?;
        let built = build(&records, &author, &context.judge, &config, &split, context.progress);
        if let Some(spending) = author.spending() {
            context.progress.say(&spending);
        }
        built
    };
    check_none_open(&built)?;
    if built.pairs.iter().all(|pair| pair.split != Split::Train) {
        return Err(Failure::user(format!(
            "no repair pair is left to train on: {} accepted, {} rejected {:?}",
            built.pairs.len(),
            built.rejected.len(),
            rejected_by_reason(&built.rejected)
        ))
        .with_hint(format!(
            "{REJECTED} says why each was rejected; `repair.threshold` sets how sure it must be"
        )));
    }
    let path = context.run.file(PAIRS);
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    write_primevul_plus(&path, &built.pairs)?;
    context.write_lines(REJECTED, &built.rejected)?;
    context.write_lines(FATES, &fates(&dropped, &built))?;

    let rejected = rejected_by_reason(&built.rejected);
    let prompts: usize = built.pairs.iter().map(|pair| pair.prompts.len()).sum();
    write_data_summary(context, &dropped, &built)?;
    Ok(json!({
        "line": format!(
            "{} pairs with {prompts} implicit prompts accepted, {} rejected{}",
            built.pairs.len(),
            built.rejected.len(),
            import::reasons(&rejected)
        ),
        "accepted": built.pairs.len(),
        "prompts": prompts,
        "rejected": rejected,
    }))
}

/// Refuses pairs that PPO would stumble over hours later: ids that do not tell two pairs apart (answers would be scored
/// against the wrong one), and labelled spans without any code.
fn check_usable(pairs: &[RepairPair]) -> Result<()> {
    let mut ids = BTreeSet::new();
    if let Some(twice) = pairs.iter().find(|pair| !ids.insert(pair.id.as_str())) {
        return Err(Failure::user(format!("the id `{}` stands there twice", twice.id))
            .with_hint("give every pair an id of its own"));
    }
    pairs.par_iter().try_for_each(|pair| {
        Patterns::of_pair(pair)?;
        Ok(())
    })
}

fn fates(dropped: &[Dropped], built: &Built) -> Vec<Fate> {
    let dropped = dropped.iter().map(|dropped| Fate {
        source: dropped.source.clone(),
        outcome: "dropped".to_owned(),
        reason: Some(dropped.reason.to_string()),
        detail: Some(format!("{}: {}", dropped.place, dropped.detail)),
        split: None,
        prompts: None,
    });
    let rejected = built.rejected.iter().map(|rejection| Fate {
        source: rejection.source.clone(),
        outcome: "rejected".to_owned(),
        reason: Some(rejection.reason.to_string()),
        detail: Some(rejection.detail.clone()),
        split: None,
        prompts: None,
    });
    let accepted = built.pairs.iter().map(|pair| Fate {
        source: pair.source.clone(),
        outcome: "accepted".to_owned(),
        reason: None,
        detail: None,
        split: Some(pair.split),
        prompts: Some(pair.prompts.len()),
    });
    dropped.chain(rejected).chain(accepted).collect()
}

/// How many were rejected for which reason.
pub fn rejected_by_reason(rejected: &[Rejection]) -> BTreeMap<String, usize> {
    count(rejected.iter().map(|rejection| rejection.reason.to_string()))
}

/// Counts equal words.
pub fn count(words: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

/// `data.json`, from which the report shows what became of the records.
fn write_data_summary(context: &Context<'_>, dropped: &[Dropped], built: &Built) -> Result<()> {
    let rows = |counts: BTreeMap<String, usize>| -> Vec<Value> {
        counts.into_iter().map(|(label, count)| json!([label, count])).collect()
    };
    let read = dropped.len() + built.pairs.len() + built.rejected.len();
    let summary = json!({ "sections": [
        { "title": "What became of the records", "rows": [
            ["read", read],
            ["dropped at import", dropped.len()],
            ["rejected by Vul2Safe", built.rejected.len()],
            ["accepted into PrimeVul+", built.pairs.len()],
        ]},
        { "title": "Dropped at import, by reason", "rows": rows(count(dropped.iter().map(|d| d.reason.to_string()))) },
        { "title": "Rejected by Vul2Safe, by reason", "rows": rows(rejected_by_reason(&built.rejected)) },
        { "title": "Pairs by weakness", "rows": rows(count(built.pairs.iter().map(|pair| {
            pair.cwe.first().map_or_else(|| "no CWE".to_owned(), ToString::to_string)
        }))) },
        { "title": "Pairs by part of the data", "rows": rows(count(built.pairs.iter().map(|pair| word(&pair.split)))) },
        { "title": "Implicit prompts by style", "rows": rows(count(
            built.pairs.iter().flat_map(|pair| pair.prompts.iter().map(|prompt| prompt.style.clone()))
        )) },
    ]});
    let mut bytes = serde_json::to_vec_pretty(&summary)
        .map_err(|error| Failure::program(format!("the data summary cannot be written as JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(vul2safe_run::write_atomic(&context.run.file("data.json"), &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vul2safe_code::Language;
    use vul2safe_corpus::{Repair, diff_spans};

    fn pair(id: &str) -> RepairPair {
        let (vulnerable, secure) =
            ("def f(x):\n    return eval(x)  # quick\n", "def f(x):\n    return int(x)\n");
        RepairPair {
            id: id.to_owned(),
            language: Language::Python,
            cwe: Vec::new(),
            cve: None,
            project: None,
            commit: None,
            date: None,
            file_name: None,
            license: None,
            vulnerable: vulnerable.to_owned(),
            secure: secure.to_owned(),
            repair: Repair { by: "upstream".to_owned(), rounds: 1 },
            confidence: 1.0,
            evidence: Vec::new(),
            spans: diff_spans(Language::Python, vulnerable, secure).expect("the sides differ"),
            prompts: Vec::new(),
            tests: None,
            split: Split::Train,
            source: SourceId { dataset: "test".to_owned(), id: id.to_owned() },
            hash: String::new(),
        }
    }

    #[test]
    fn pairs_that_training_would_stumble_over_are_refused() {
        check_usable(&[pair("a"), pair("b")]).expect("sound pairs");
        let twice = check_usable(&[pair("a"), pair("b"), pair("a")]).expect_err("the same id twice");
        assert!(twice.message.contains("`a`"), "{twice}");
        let mut comment = pair("c");
        let start = comment.vulnerable.find('#').expect("a comment");
        (comment.spans[0].start, comment.spans[0].end) = (start, start + 7);
        let refused = check_usable(&[comment]).expect_err("a span without code");
        assert!(refused.message.contains('c'), "{refused}");
    }
}
