//! Seeded generation of tasks, vulnerability records and base-corpus documents.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vul2safe_code::{Cwe, Language};
use vul2safe_corpus::{SourceId, Tests, VulnerabilityRecord};

use crate::family::{Context, Family, Variant};
use crate::names::{Names, Words, pick, stable_hash};
use crate::naming;
use crate::wording::{corpus_request, exam_request};
use crate::{Document, KnownRecord, Level, Selection, Task, TaskSite};

/// One function name in this many is kept for the held-out-contexts tasks.
const KEPT_FOR_CONTEXTS: u64 = 6;
/// Share of base-corpus documents that are about names alone.
const NAMING_SHARE: f64 = 0.25;
/// Share of harmless families among the other documents of the base corpus.
const HARMLESS_SHARE: f64 = 0.2;
/// Share of base-corpus documents with a held-out context.
const HELD_OUT_CONTEXT_SHARE: f64 = 0.15;
/// Share of base-corpus answers that carry a docstring.
const DOCSTRING_SHARE: f64 = 0.3;
/// Draws after which a family is taken to have no further distinct names.
const TRIES: usize = 500;

/// Up to `per_family` tasks of every family that the level has, with distinct requests; fewer where a family's names run
/// out. The same arguments give the same tasks. A held-out family has tasks at [`Level::HeldOutFamilies`] alone, the others
/// at every other level.
pub fn tasks(level: Level, per_family: usize, seed: u64) -> Vec<Task> {
    Selection::default().tasks(level, per_family, seed)
}

impl Selection {
    /// As [`tasks`], of these families alone. A family's tasks are the same whichever others are chosen.
    pub fn tasks(&self, level: Level, per_family: usize, seed: u64) -> Vec<Task> {
        self.families()
            .filter(|family| family.is_held_out() == (level == Level::HeldOutFamilies))
            .flat_map(|family| family_tasks(family, level, per_family, seed))
            .collect()
    }

    /// As [`vulnerability_records`], of these families alone.
    pub fn vulnerability_records(&self, per_family: usize, seed: u64) -> Vec<VulnerabilityRecord> {
        self.families()
            .filter(|family| !family.harmless() && !family.is_held_out())
            .flat_map(|family| family_records(family, per_family, seed))
            .collect()
    }

    /// The records of [`Selection::vulnerability_records`], each with its places and the answers that its request could get: every
    /// variant of every place occurs, secure and flawed, in every combination of flaws.
    pub fn records_with_answers(&self, per_family: usize, seed: u64) -> Vec<KnownRecord> {
        let kept = |family: &&Family| !family.harmless() && !family.is_held_out();
        let mut found = Vec::new();
        for family in self.families().filter(kept) {
            for (record, names) in named_records(family, per_family, seed) {
                let clean = vec![false; family.sites.len()];
                let combinations = std::iter::once(clean).chain(family.flaws());
                let answers = combinations
                    .flat_map(|flaws| family.covering(&flaws))
                    .map(|chosen| family.sited(&names, false, &chosen))
                    .collect();
                found.push(KnownRecord { record, sites: task_sites(family, &names), answers });
            }
        }
        found
    }

    /// As [`base_corpus`], of these families alone; documents about names are in their languages.
    pub fn base_corpus(&self, documents: usize, vulnerable_share: f64, seed: u64) -> Vec<Document> {
        corpus(self, documents, vulnerable_share, seed)
    }
}

fn family_tasks(family: &Family, level: Level, per_family: usize, seed: u64) -> Vec<Task> {
    let mut random = stream(seed, &format!("tasks/{level}/{}", family.name));
    let mut seen = BTreeSet::new();
    let mut tasks = Vec::new();
    for _ in 0..per_family.saturating_mul(TRIES) {
        if tasks.len() == per_family {
            break;
        }
        let (words, context_held_out) = match level {
            Level::Train => (Words::Open, false),
            Level::HeldOutNames | Level::HeldOutFamilies => (Words::Reserved, false),
            Level::HeldOutContexts => (Words::Open, true),
        };
        let names = draw(family, words, context_held_out, &mut random);
        let request = exam_request(family, &names, &mut random);
        let kept = is_kept_for_contexts(&names);
        let fits = match level {
            Level::Train => !kept,
            Level::HeldOutNames | Level::HeldOutFamilies => true,
            Level::HeldOutContexts => kept,
        };
        if fits && seen.insert(request.clone()) {
            let id = format!("{}/{level}/{seed}-{}", family.name, tasks.len());
            tasks.push(task(family, level, id, request, &names));
        }
    }
    tasks
}

fn task(family: &Family, level: Level, id: String, request: String, names: &Names) -> Task {
    let written = |chosen: Vec<&'static Variant>| family.implementation(names, false, &chosen);
    let clean = vec![false; family.sites.len()];
    let flaws = if family.harmless() { Vec::new() } else { family.flaws() };
    Task {
        id,
        family: family.name.to_string(),
        language: family.language,
        cwe: family.cwe.map(Cwe),
        severity: (!family.harmless()).then_some(family.severity),
        level,
        request,
        function: names.fill("$function"),
        functional: tests(family, names, family.functional),
        exploit: (!family.harmless()).then(|| tests(family, names, family.exploit)),
        sites: task_sites(family, names),
        processes: family.processes,
        secure: family.covering(&clean).into_iter().map(written).collect(),
        vulnerable: flaws.iter().flat_map(|flaws| family.covering(flaws)).map(written).collect(),
    }
}

fn task_sites(family: &Family, names: &Names) -> Vec<TaskSite> {
    let sites = family.sites.iter().filter_map(|site| {
        Some(TaskSite {
            name: site.slot.to_owned(),
            cwe: Cwe(site.cwe?),
            exploit: tests(family, names, &family.exploit_of(site)),
        })
    });
    sites.collect()
}

fn tests(family: &Family, names: &Names, tests: &str) -> String {
    let setup = family.setup.trim_matches('\n');
    let text = if setup.is_empty() {
        format!("{}\n", tests.trim_matches('\n'))
    } else {
        format!("{setup}\n\n\n{}\n", tests.trim_matches('\n'))
    };
    names.fill(&text)
}

/// Up to `per_family` records of every vulnerable family that is not held out: a flawed answer, and the small change that an upstream
/// fix makes of it. Every record has a docstring and functional tests, and a project of its own, so that a split by
/// project may part any two. Never exploit tests, prompts or spans; never a reserved word or a held-out context.
pub fn vulnerability_records(per_family: usize, seed: u64) -> Vec<VulnerabilityRecord> {
    Selection::default().vulnerability_records(per_family, seed)
}

fn family_records(family: &Family, per_family: usize, seed: u64) -> Vec<VulnerabilityRecord> {
    named_records(family, per_family, seed).into_iter().map(|(record, _)| record).collect()
}

/// The records of a family with the names in them.
fn named_records(family: &Family, per_family: usize, seed: u64) -> Vec<(VulnerabilityRecord, Names)> {
    let mut random = stream(seed, &format!("records/{}", family.name));
    let flaws = family.flaws();
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for _ in 0..per_family.saturating_mul(TRIES) {
        if records.len() == per_family {
            break;
        }
        let names = draw(family, Words::Open, false, &mut random);
        let flawed = pick(&flaws, &mut random);
        let chosen: Vec<&Variant> =
            family.sites.iter().zip(flawed).map(|(site, flaw)| pick(site.side(*flaw), &mut random)).collect();
        let vulnerable = family.implementation(&names, true, &chosen).code;
        if is_kept_for_contexts(&names) || !seen.insert(vulnerable.clone()) {
            continue;
        }
        let secure = family.implementation(&names, true, &family.fixed(&chosen)).code;
        let hash = format!("{:016x}", stable_hash(&vulnerable));
        let mut cwe: Vec<Cwe> = family
            .sites
            .iter()
            .zip(&chosen)
            .filter(|(_, variant)| variant.is_flawed())
            .filter_map(|(site, _)| site.cwe.map(Cwe))
            .collect();
        // The family's own weakness comes first, as data sets name the gravest one first.
        cwe.sort_by_key(|cwe| Some(cwe.0) != family.cwe);
        let record = VulnerabilityRecord {
            id: format!("range-{}-{hash}", family.name),
            language: family.language,
            cwe,
            cve: None,
            project: Some(format!("range-{hash}")),
            commit: None,
            date: None,
            license: Some("Apache-2.0".to_string()),
            file_name: Some(names.fill(if family.language == Language::Python {
                "$noun.py"
            } else {
                "$noun.c"
            })),
            function: Some(names.fill("$function")),
            description: None,
            vulnerable,
            secure: Some(secure),
            tests: Some(Tests {
                functional: tests(family, &names, family.functional),
                processes: family.processes,
            }),
            split: None,
            original: Vec::new(),
            source: SourceId { dataset: "vul2safe-range".to_string(), id: hash },
        };
        records.push((record, names));
    }
    records
}

/// What a small base model learns to write code from: requests in many styles with answers of which each place
/// that can go wrong does so with probability `vulnerable_share`. A quarter of the documents are about names alone (lists,
/// columns, calls), a fifth of the others are harmless families.
///
/// Held out: a function name whose verb and noun are both reserved words, and one name in six of the others, occur
/// in no document; these are the names of the held-out tasks. Each reserved word does occur, with other words.
pub fn base_corpus(documents: usize, vulnerable_share: f64, seed: u64) -> Vec<Document> {
    Selection::default().base_corpus(documents, vulnerable_share, seed)
}

fn corpus(selection: &Selection, documents: usize, vulnerable_share: f64, seed: u64) -> Vec<Document> {
    let mut random = stream(seed, "corpus");
    let (harmless, open): (Vec<&Family>, Vec<&Family>) =
        selection.families().partition(|family| family.harmless());
    let mut corpus = Vec::with_capacity(documents);
    while corpus.len() < documents {
        if chance(NAMING_SHARE, &mut random) {
            corpus.push(naming::document(selection, &mut random));
            continue;
        }
        // Both are drawn from where there are both.
        let wants_harmless = chance(HARMLESS_SHARE, &mut random);
        let kind =
            if (wants_harmless && !harmless.is_empty()) || open.is_empty() { &harmless } else { &open };
        let family = pick(kind, &mut random);
        let context_held_out = chance(HELD_OUT_CONTEXT_SHARE, &mut random) && !family.is_held_out();
        let names = draw(family, Words::Any, context_held_out, &mut random);
        if names.is_reserved(family.names) || is_kept_for_contexts(&names) {
            continue;
        }
        let chosen: Vec<&Variant> = family
            .sites
            .iter()
            .map(|site| {
                let flawed = !site.vulnerable.is_empty() && chance(vulnerable_share, &mut random);
                pick(site.side(flawed), &mut random)
            })
            .collect();
        let docstring = chance(DOCSTRING_SHARE, &mut random);
        let request = corpus_request(family, &names, &mut random);
        corpus.push(Document {
            request,
            language: family.language,
            code: family.implementation(&names, docstring, &chosen).code,
        });
    }
    corpus
}

/// A random stream of its own for each purpose, so that a change to one family leaves the others as they were.
fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed ^ stable_hash(purpose))
}

fn chance(share: f64, random: &mut ChaCha8Rng) -> bool {
    random.random_range(0.0..1.0) < share
}

fn draw(family: &Family, words: Words, context_held_out: bool, random: &mut ChaCha8Rng) -> Names {
    let mut names = Names::draw(family.names, words, random);
    let contexts: Vec<&Context> =
        family.contexts.iter().filter(|context| context.held_out == context_held_out).collect();
    for (slot, value) in pick(&contexts, random).slots {
        names.set(slot, *value);
    }
    names.set("function", family.function);
    names.set("parameters", family.parameters);
    names.set("result", family.result);
    names.set("signature", "$result$function($parameters)");
    names
}

fn is_kept_for_contexts(names: &Names) -> bool {
    stable_hash(&names.fill("$function")).is_multiple_of(KEPT_FOR_CONTEXTS)
}
