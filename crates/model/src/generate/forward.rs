//! One forward pass over new rows of many sequences.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use super::team::Team;
use super::weights::{DecodingLayer, DecodingWeights, Pieces};
use crate::error::ModelError;
use crate::kernels::cache::{Attend, Push, Segment, View};
use crate::kernels::decoding::Disjoint;
use crate::kernels::rows::{Norm, SwiGlu, run};

/// Rows that one piece of attention takes together at most, and scores that it holds at most.
const ATTEND_ROWS: usize = 16;
const ATTEND_SCORES: usize = 1 << 18;
/// Rows that one piece of norm or activation takes.
const ROWS: usize = 8;

/// Keys and values of all layers of a prompt that several sequences share.
pub(super) struct Prefix {
    layers: Vec<Segment>,
}

/// Cached keys and values of one sequence.
pub(super) struct Sequence {
    prefix: Option<Arc<Prefix>>,
    layers: Vec<Segment>,
}

impl Sequence {
    /// A sequence without a token of its own yet.
    pub(super) fn new(layers: usize, prefix: Option<Arc<Prefix>>) -> Sequence {
        Sequence { prefix, layers: (0..layers).map(|_| Segment::default()).collect() }
    }

    /// Makes a prefix of the whole sequence, which itself has none.
    pub(super) fn into_prefix(self) -> Prefix {
        Prefix { layers: self.layers }
    }

    fn view(&self, layer: usize, visible: usize) -> View<'_> {
        View {
            prefix: self.prefix.as_ref().map(|prefix| &prefix.layers[layer]),
            tail: &self.layers[layer],
            visible,
        }
    }
}

/// Consecutive new tokens of one sequence.
pub(super) struct Run<'a> {
    pub(super) sequence: &'a RwLock<Sequence>,
    pub(super) ids: &'a [u32],
    /// Position of the first of them.
    pub(super) position: usize,
    /// Runs with equal numbers stand on the same prefix.
    pub(super) group: usize,
    /// Whether the state after the last token is wanted.
    pub(super) wanted: bool,
}

/// The final hidden states after the wanted runs, `[wanted, hidden]`, normed; the caches are longer afterwards.
pub(super) fn forward(
    weights: &DecodingWeights,
    runs: &[Run<'_>],
    team: &Team,
) -> Result<Vec<f32>, ModelError> {
    let mut x = Vec::with_capacity(runs.iter().map(|run| run.ids.len()).sum::<usize>() * weights.hidden);
    weights.embed(runs.iter().flat_map(|run| run.ids.iter().copied()), &mut x);
    let blocks = blocks(weights, runs, team.threads());
    if blocks.len() > 1 {
        // Small weights: every thread takes some of the rows through all layers, and no phase waits for another.
        let shared = Disjoint::new(&mut x);
        let starts: Vec<usize> = runs
            .iter()
            .scan(0, |rows, run| Some(std::mem::replace(rows, *rows + run.ids.len()) * weights.hidden))
            .collect();
        team.each(blocks.len(), |block| {
            let runs = &runs[blocks[block].clone()];
            let numbers = runs.iter().map(|run| run.ids.len()).sum::<usize>() * weights.hidden;
            // SAFETY: the blocks are consecutive runs without overlap, and so are their rows.
            let x = unsafe { shared.part(starts[blocks[block].start], numbers) };
            layers(weights, runs, &Team::alone(), x);
        });
    } else {
        layers(weights, runs, team, &mut x);
    }
    let mut states = Vec::new();
    let mut last = 0;
    for run in runs {
        last += run.ids.len();
        if run.wanted {
            states.extend_from_slice(&x[(last - 1) * weights.hidden..last * weights.hidden]);
        }
    }
    let mut normed = vec![0.0; states.len()];
    run(Norm { x: &states, weight: &weights.norm, epsilon: weights.epsilon, out: &mut normed });
    Ok(normed)
}

/// Consecutive runs that go through all layers apart from the others; one block where splitting the weights is better.
fn blocks(weights: &DecodingWeights, runs: &[Run<'_>], threads: usize) -> Vec<Range<usize>> {
    let rows: usize = runs.iter().map(|run| run.ids.len()).sum();
    let longest = runs.iter().map(|run| run.ids.len()).max().unwrap_or(0);
    let share = rows.div_ceil(2 * threads).max(6);
    // One long prompt would keep one thread busy while the others wait.
    if !weights.is_small() || threads == 1 || longest > 2 * share || rows < 12 {
        return std::iter::once(0..runs.len()).collect();
    }
    let mut blocks = Vec::new();
    let (mut first, mut count) = (0, 0);
    for (index, run) in runs.iter().enumerate() {
        count += run.ids.len();
        if count >= share || index + 1 == runs.len() {
            blocks.push(first..index + 1);
            (first, count) = (index + 1, 0);
        }
    }
    blocks
}

/// One piece of attention: rows that share a prefix or a whole sequence.
struct Task {
    /// Of the runs.
    runs: Range<usize>,
    /// Of the rows; of one run where there is only one.
    rows: Range<usize>,
    /// Row of the first run's first token.
    start: usize,
}

/// Groups rows so that keys are read once for many of them.
fn tasks(runs: &[Run<'_>], group: usize) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut row = 0;
    for (index, run) in runs.iter().enumerate() {
        let visible = run.position + run.ids.len();
        let most = (ATTEND_SCORES / (group * visible).max(1)).clamp(1, ATTEND_ROWS);
        if run.ids.len() > 1 {
            for first in (0..run.ids.len()).step_by(most) {
                let end = (first + most).min(run.ids.len());
                tasks.push(Task { runs: index..index + 1, rows: row + first..row + end, start: row });
            }
        } else {
            match tasks.last_mut() {
                Some(task)
                    if runs[task.runs.start].group == run.group
                        && runs[task.runs.start].ids.len() == 1
                        && task.rows.len() < most =>
                {
                    task.runs.end = index + 1;
                    task.rows.end = row + 1;
                }
                _ => tasks.push(Task { runs: index..index + 1, rows: row..row + 1, start: row }),
            }
        }
        row += run.ids.len();
    }
    tasks
}

/// Takes the rows of `x` (`[rows, hidden]`) through all layers.
fn layers(weights: &DecodingWeights, runs: &[Run<'_>], team: &Team, x: &mut [f32]) {
    let (hidden, heads, feed) = (weights.hidden, weights.heads, weights.feed);
    let rows = x.len() / hidden;
    let tasks = tasks(runs, heads.group());
    let starts: Vec<usize> =
        runs.iter().scan(0, |row, run| Some(std::mem::replace(row, *row + run.ids.len()))).collect();
    let mut normed = vec![0.0; rows * hidden];
    let mut qkv = vec![0.0; rows * heads.row()];
    let mut attended = vec![0.0; rows * heads.out()];
    let mut gate_up = vec![0.0; rows * 2 * feed];
    let mut active = vec![0.0; rows * feed];
    for (index, layer) in weights.layers.iter().enumerate() {
        norm(weights, team, x, &layer.attention_norm, &mut normed);
        Pieces::new(&layer.qkv, team.threads()).multiply(team, &normed, false, &mut qkv, heads.row());
        push(weights, layer, index, runs, &starts, team, &mut qkv);
        attend(weights, index, runs, &tasks, team, &qkv, &mut attended);
        Pieces::new([&layer.out], team.threads()).multiply(team, &attended, true, x, hidden);
        norm(weights, team, x, &layer.feed_forward_norm, &mut normed);
        Pieces::new([&layer.gate, &layer.up], team.threads()).multiply(
            team,
            &normed,
            false,
            &mut gate_up,
            2 * feed,
        );
        let target = Disjoint::new(&mut active);
        by_rows(team, rows, |range| {
            // SAFETY: the ranges do not overlap.
            let out = unsafe { target.part(range.start * feed, range.len() * feed) };
            run(SwiGlu { gate_up: &gate_up[range.start * 2 * feed..range.end * 2 * feed], width: feed, out });
        });
        Pieces::new([&layer.down], team.threads()).multiply(team, &active, true, x, hidden);
    }
}

/// Calls `piece` with ranges that make up all rows.
fn by_rows(team: &Team, rows: usize, piece: impl Fn(Range<usize>) + Sync) {
    if team.threads() == 1 {
        return piece(0..rows);
    }
    team.each(rows.div_ceil(ROWS), |index| piece(index * ROWS..((index + 1) * ROWS).min(rows)));
}

fn norm(weights: &DecodingWeights, team: &Team, x: &[f32], weight: &[f32], out: &mut [f32]) {
    let width = weights.hidden;
    let target = Disjoint::new(out);
    by_rows(team, x.len() / width, |range| {
        // SAFETY: the ranges do not overlap.
        let out = unsafe { target.part(range.start * width, range.len() * width) };
        run(Norm { x: &x[range.start * width..range.end * width], weight, epsilon: weights.epsilon, out });
    });
}

/// Turns queries and keys, and puts keys and values into the caches.
fn push(
    weights: &DecodingWeights,
    layer: &DecodingLayer,
    index: usize,
    runs: &[Run<'_>],
    starts: &[usize],
    team: &Team,
    qkv: &mut [f32],
) {
    let row = weights.heads.row();
    let shared = Disjoint::new(qkv);
    let one = |at: usize| {
        let run = &runs[at];
        // SAFETY: the runs' rows do not overlap, and each run is pushed once.
        let qkv = unsafe { shared.part(starts[at] * row, run.ids.len() * row) };
        let mut sequence = run.sequence.write().unwrap_or_else(PoisonError::into_inner);
        Push {
            heads: weights.heads,
            rotary: &weights.rotary,
            query_norm: layer.query_norm.as_deref(),
            key_norm: layer.key_norm.as_deref(),
            epsilon: weights.epsilon,
            qkv,
            position: run.position,
            segment: &mut sequence.layers[index],
        }
        .compute();
    };
    team.each(runs.len().div_ceil(ROWS), |piece| {
        (piece * ROWS..((piece + 1) * ROWS).min(runs.len())).for_each(one);
    });
}

fn attend(
    weights: &DecodingWeights,
    layer: usize,
    runs: &[Run<'_>],
    tasks: &[Task],
    team: &Team,
    qkv: &[f32],
    out: &mut [f32],
) {
    let heads = weights.heads;
    let row = heads.row();
    let out = Disjoint::new(out);
    team.each(tasks.len() * heads.key, |piece| {
        let (task, head) = (&tasks[piece / heads.key], piece % heads.key);
        let together = task.runs.len() == 1;
        let guards: Vec<_> = runs[task.runs.clone()]
            .iter()
            .map(|run| run.sequence.read().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let views: Vec<View<'_>> = task
            .rows
            .clone()
            .enumerate()
            .map(|(at, row)| {
                let of = if together { 0 } else { at };
                let run = &runs[task.runs.start + of];
                // A run of several rows sees what stands before each of them.
                let within = if together { row - task.start } else { 0 };
                guards[of].view(layer, run.position + within + 1)
            })
            .collect();
        let attend = Attend {
            heads,
            head,
            qkv: &qkv[task.rows.start * row..task.rows.end * row],
            views: &views,
            together,
            out,
            first: task.rows.start,
        };
        // SAFETY: each task has rows of its own, and each piece a head of its own of them.
        unsafe { attend.compute() };
    });
}

/// Logits `[states, vocabulary]` of normed states.
pub(super) fn logits(weights: &DecodingWeights, states: &[f32], team: &Team, out: &mut Vec<f32>) {
    out.resize(states.len() / weights.hidden * weights.vocabulary, 0.0);
    Pieces::new([&weights.head], team.threads()).multiply(team, states, false, out, weights.vocabulary);
}
