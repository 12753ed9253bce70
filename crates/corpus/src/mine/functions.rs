//! Functions before and after a commit, and which belongs to which.

use vul2safe_code::{Language, Parsed, normalised_leaves};

use crate::near::Sketch;

/// Functions of one name in different files are the same one when at least this similar: moved, and changed on the way.
const MOVED: f64 = 0.3;
/// Functions of different names are the same one when at least this similar.
const RENAMED: f64 = 0.6;

/// A function of one file, before or after the commit.
pub(super) struct Definition {
    /// The changed file it stands in, by its place in the commit's list.
    pub(super) file: usize,
    pub(super) language: Language,
    pub(super) name: String,
    /// From the start of its line where nothing but white space stands before it.
    pub(super) text: String,
    /// Line of its first byte, from 1.
    pub(super) line: usize,
    sketch: Sketch,
    /// The same with its own name taken out, so that another name alone is no change.
    nameless: blake3::Hash,
}

/// The functions of a file that stand in no other function.
pub(super) fn definitions(parsed: &Parsed, file: usize) -> Vec<Definition> {
    let text = parsed.text();
    let mut functions = parsed.functions().to_vec();
    functions.sort_by_key(|function| (function.span.start, std::cmp::Reverse(function.span.end)));
    let (mut end, mut line, mut counted) = (0, 1, 0);
    let mut found = Vec::new();
    for function in functions {
        if function.span.start < end || function.name.is_empty() {
            continue;
        }
        end = function.span.end;
        let line_start = text[..function.span.start].rfind('\n').map_or(0, |at| at + 1);
        let indented = text[line_start..function.span.start].bytes().all(|byte| byte.is_ascii_whitespace());
        let start = if indented { line_start } else { function.span.start };
        line += text[counted..function.span.start].matches('\n').count();
        counted = function.span.start;
        let first = parsed.leaves().partition_point(|leaf| leaf.span.start < function.span.start);
        let last = parsed.leaves().partition_point(|leaf| leaf.span.start < function.span.end);
        let tokens: Vec<&str> = normalised_leaves(parsed)[first..last].to_vec();
        // A qualified name is several leaves; its last part is the function's own.
        let own = function.name.rsplit("::").next().unwrap_or(&function.name);
        let nameless: Vec<&str> =
            tokens.iter().map(|token| if *token == own { "" } else { *token }).collect();
        found.push(Definition {
            file,
            language: parsed.language(),
            name: function.name.clone(),
            text: text[start..function.span.end].to_owned(),
            line,
            sketch: Sketch::of_tokens(&tokens),
            nameless: Sketch::of_tokens(&nameless).exact,
        });
    }
    found
}

/// What a commit did to a function.
pub(super) enum Change {
    /// Its code is another.
    Changed(Definition, Definition),
    /// It stands elsewhere or has another name; its code is the same.
    Moved(Definition),
    /// Comments or white space are others.
    Comments(Definition),
    /// It is there on one side only.
    OneSided(Definition),
}

/// Joins the functions before a commit with those after it. Functions that did not change at all are left out.
///
/// First those of one name in one file, the most similar first; then those of one name that moved between files; then
/// those that got another name.
pub(super) fn changes(before: Vec<Definition>, after: Vec<Definition>) -> Vec<Change> {
    let mut matching = Matching {
        before: before.into_iter().map(Some).collect(),
        after: after.into_iter().map(Some).collect(),
        changes: Vec::new(),
    };
    matching.join(0.0, |old, new| old.file == new.file && old.name == new.name);
    matching.join(MOVED, |old, new| old.name == new.name);
    matching.join(RENAMED, |old, new| old.file == new.file);
    matching.join(RENAMED, |_, _| true);
    let Matching { before, after, mut changes } = matching;
    changes.extend(before.into_iter().chain(after).flatten().map(Change::OneSided));
    changes
}

struct Matching {
    before: Vec<Option<Definition>>,
    after: Vec<Option<Definition>>,
    changes: Vec<Change>,
}

impl Matching {
    /// Joins what may be joined and is at least `least` similar, the most similar first.
    fn join(&mut self, least: f64, may: impl Fn(&Definition, &Definition) -> bool) {
        let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
        for (old_index, old) in self.before.iter().enumerate() {
            let Some(old) = old else { continue };
            for (new_index, new) in self.after.iter().enumerate() {
                let Some(new) = new else { continue };
                if old.language != new.language || !may(old, new) {
                    continue;
                }
                // Another name changes much of a short function's shingles, and nothing of its code.
                let same = old.sketch.exact == new.sketch.exact || old.nameless == new.nameless;
                let similarity = if same { 1.0 } else { old.sketch.similarity(&new.sketch) };
                if similarity >= least {
                    candidates.push((similarity, old_index, new_index));
                }
            }
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        for (_, old_index, new_index) in candidates {
            let (Some(_), Some(_)) = (&self.before[old_index], &self.after[new_index]) else { continue };
            if let (Some(old), Some(new)) = (self.before[old_index].take(), self.after[new_index].take()) {
                self.changes.extend(change(old, new));
            }
        }
    }
}

fn change(old: Definition, new: Definition) -> Option<Change> {
    let stayed = old.file == new.file && old.name == new.name;
    if old.text == new.text {
        // The same function in the same file is no change at all.
        return (!stayed).then_some(Change::Moved(new));
    }
    if old.sketch.exact == new.sketch.exact {
        return Some(if stayed { Change::Comments(new) } else { Change::Moved(new) });
    }
    if old.nameless == new.nameless {
        return Some(Change::Moved(new));
    }
    Some(Change::Changed(old, new))
}
