//! Which request runs when, on the processor.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::forward::{Prefix, Run, Sequence, forward, logits};
use super::request::{End, check_request};
use super::sampling::{Finish, Sampler, SamplingOptions};
use super::team::Team;
use super::weights::DecodingWeights;
use super::{Event, GenerateOptions};
use crate::decoder::{Host, Model};
use crate::error::ModelError;

/// Requests of a small model that run on each thread at most: their cached keys and values then stay in the processor's
/// cache, and its weights are there in any case (measured: 64 at a time take a third longer than 16).
pub(crate) const SMALL_RUNNING: usize = 16;
/// Logits that are held at a time at most.
const LOGITS: usize = 1 << 24;

/// The queue of a model on the processor.
pub(super) struct OnHost<'m> {
    model: &'m Model,
    host: &'m Host,
    weights: DecodingWeights,
    together: GenerateOptions,
    submitted: usize,
    /// Groups of requests with the same prompt, in the order in which they came.
    groups: BTreeMap<usize, Group>,
    /// Groups that a request with this prompt may still join.
    open: HashMap<Arc<[u32]>, usize>,
    running: Vec<Member>,
    /// Tokens that the running requests and their prompts may fill.
    reserved: usize,
    /// What the next step has to tell first.
    pending: Vec<Event>,
    /// Requests that failed and have not been reported.
    broken: VecDeque<usize>,
    scratch: Vec<f32>,
}

/// Requests with the same prompt.
struct Group {
    prompt: Arc<[u32]>,
    waiting: VecDeque<Waiting>,
    /// Members that have been admitted and have not ended.
    alive: usize,
    state: State,
}

struct Waiting {
    request: usize,
    options: SamplingOptions,
}

enum State {
    /// No member has been admitted.
    New,
    /// `read` tokens of the prompt are in the cache.
    Reading { sequence: RwLock<Sequence>, read: usize },
    /// The prompt has been read; the logits behind it are kept for members that begin later.
    Shared { prefix: Arc<Prefix>, logits: Arc<[f32]> },
    /// The only member has taken the cache over.
    Alone,
}

/// A request that has been admitted.
struct Member {
    request: usize,
    group: usize,
    /// Ids that it has generated.
    made: usize,
    end: End,
    sampler: Mutex<Sampler>,
    ended: bool,
    /// Absent until the prompt has been read.
    cache: Option<Cached>,
    /// The logits behind the prompt, until the first id has been drawn from them.
    first: Option<Arc<[f32]>>,
}

struct Cached {
    sequence: RwLock<Sequence>,
    /// The id that the next pass reads, and its position.
    last: [u32; 1],
    position: usize,
}

/// What a member drew: its place, and the id with its log-probability, or nothing where the logits are not finite.
type Drawn = (usize, Option<(u32, f32)>);

impl Group {
    /// Gives the cache of the whole prompt to the members that have been admitted, or shares it among them and those that
    /// still wait. Says whether the only member has taken it, so that nobody can join any more.
    fn has_been_read<'a>(
        &mut self,
        layers: usize,
        logits: Arc<[f32]>,
        members: impl Iterator<Item = &'a mut Member>,
    ) -> bool {
        let State::Reading { sequence, .. } = std::mem::replace(&mut self.state, State::Alone) else {
            return false;
        };
        let sequence = sequence.into_inner().unwrap_or_else(PoisonError::into_inner);
        let alone = self.alive == 1 && self.waiting.is_empty();
        let (mut own, prefix) =
            if alone { (Some(sequence), None) } else { (None, Some(Arc::new(sequence.into_prefix()))) };
        for member in members {
            let sequence = own.take().unwrap_or_else(|| Sequence::new(layers, prefix.clone()));
            member.begin(sequence, logits.clone());
        }
        if let Some(prefix) = prefix {
            self.state = State::Shared { prefix, logits };
        }
        alone
    }
}

impl Member {
    /// The prompt has been read, with `logits` behind it.
    fn begin(&mut self, sequence: Sequence, logits: Arc<[f32]>) {
        self.cache = Some(Cached { sequence: RwLock::new(sequence), last: [0], position: 0 });
        self.first = Some(logits);
    }
}

impl<'m> OnHost<'m> {
    pub(super) fn new(model: &'m Model, together: GenerateOptions) -> Result<OnHost<'m>, ModelError> {
        let host = model.host("sampling with weights in this process's memory")?;
        let weights = DecodingWeights::read(model, host, together.precision);
        Ok(OnHost {
            model,
            host,
            weights,
            together,
            submitted: 0,
            groups: BTreeMap::new(),
            open: HashMap::new(),
            running: Vec::new(),
            reserved: 0,
            pending: Vec::new(),
            broken: VecDeque::new(),
            scratch: Vec::new(),
        })
    }

    /// See [`super::Generator::submit`].
    pub(super) fn submit(&mut self, prompt: &[u32], options: &SamplingOptions) -> Result<usize, ModelError> {
        let (request, positions) = (self.submitted, self.model.config().max_position_embeddings);
        check_request(self.model.config(), &self.together, request, prompt, options)?;
        self.submitted += 1;
        if options.maximum_new_tokens == 0 {
            self.pending.push(Event::Finished { request, finish: Finish::Length });
            return Ok(request);
        }
        let longest = prompt.len().saturating_add(options.maximum_new_tokens).min(positions);
        if self.weights.rotary.positions() < longest {
            self.weights.rotary = self.host.rotary(self.model.config(), longest);
        }
        let waiting = Waiting { request, options: options.clone() };
        if let Some(group) = self.open.get(prompt).and_then(|group| self.groups.get_mut(group)) {
            group.waiting.push_back(waiting);
            return Ok(request);
        }
        let prompt: Arc<[u32]> = prompt.into();
        self.open.insert(prompt.clone(), request);
        let group = Group { prompt, waiting: VecDeque::from([waiting]), alive: 0, state: State::New };
        self.groups.insert(request, group);
        Ok(request)
    }

    /// See [`super::Generator::is_idle`].
    pub(super) fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.pending.is_empty() && self.broken.is_empty()
    }

    /// See [`super::Generator::cancel`].
    pub(super) fn cancel(&mut self, request: usize) -> Option<Event> {
        if let Some(at) = self.running.iter().position(|member| member.request == request) {
            self.retire(at);
        } else {
            let (&number, group) = self
                .groups
                .iter_mut()
                .find(|(_, group)| group.waiting.iter().any(|waiting| waiting.request == request))?;
            group.waiting.retain(|waiting| waiting.request != request);
            self.close_if_done(number);
        }
        Some(Event::Finished { request, finish: Finish::Cancelled })
    }

    /// See [`super::Generator::step`].
    pub(super) fn step(&mut self) -> Result<Vec<Event>, ModelError> {
        if let Some(request) = self.broken.pop_front() {
            return Err(ModelError::NotFiniteLogits { request });
        }
        let mut events = std::mem::take(&mut self.pending);
        self.admit();
        if self.running.is_empty() {
            return Ok(events);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = Team::gather(|team| self.pass(team, &mut scratch));
        self.scratch = scratch;
        for (at, chosen) in outcome? {
            let member = &mut self.running[at];
            let request = member.request;
            let Some((id, log_prob)) = chosen else {
                self.broken.push_back(request);
                member.ended = true;
                continue;
            };
            events.push(Event::Token { request, id, log_prob });
            let prompt = self.groups.get(&member.group).map_or(0, |group| group.prompt.len());
            if let Some(cached) = &mut member.cache {
                (cached.last, cached.position) = ([id], prompt + member.made);
            }
            member.made += 1;
            let Some(finish) = member.end.after(id, member.made, &self.together) else { continue };
            events.push(Event::Finished { request, finish });
            member.ended = true;
        }
        for at in (0..self.running.len()).rev() {
            if self.running[at].ended {
                self.retire(at);
            }
        }
        let Some(request) = self.broken.pop_front() else { return Ok(events) };
        // What happened to the others is told by the next step.
        self.pending = events;
        Err(ModelError::NotFiniteLogits { request })
    }

    /// Lets waiting requests in, in order, while there is room.
    fn admit(&mut self) {
        let small = SMALL_RUNNING * rayon::current_num_threads().max(1);
        let most =
            if self.weights.is_small() { small } else { usize::MAX }.min(self.together.maximum_running);
        for (&number, group) in &mut self.groups {
            while let Some(waiting) = group.waiting.front() {
                let room = self.model.config().max_position_embeddings - group.prompt.len();
                let limit = waiting.options.maximum_new_tokens.min(room);
                // The first member makes room for the prompt as well.
                let new = matches!(group.state, State::New);
                let needed = limit + if new { group.prompt.len() } else { 0 };
                let fits = self.running.len() < most
                    && self.reserved + needed <= self.together.maximum_cached_tokens;
                if !fits && !self.running.is_empty() {
                    return;
                }
                let Some(Waiting { request, options }) = group.waiting.pop_front() else { break };
                self.reserved += needed;
                group.alive += 1;
                if new {
                    let sequence = RwLock::new(Sequence::new(self.weights.layers.len(), None));
                    group.state = State::Reading { sequence, read: 0 };
                }
                // Members of one group stand side by side, so that attention reads their prefix once for all of them.
                let at = self.running.partition_point(|member| member.group <= number);
                let mut member = Member {
                    request,
                    group: number,
                    made: 0,
                    end: End::new(&options, limit),
                    sampler: Mutex::new(Sampler::new(&options, &group.prompt)),
                    ended: false,
                    cache: None,
                    first: None,
                };
                if let State::Shared { prefix, logits } = &group.state {
                    member.begin(
                        Sequence::new(self.weights.layers.len(), Some(prefix.clone())),
                        logits.clone(),
                    );
                }
                self.running.insert(at, member);
            }
        }
    }

    /// Runs the model once. Gives for each member that got an id: its place, the id, and the log-probability, which is
    /// absent where the logits are not finite.
    fn pass(&mut self, team: &Team, scratch: &mut Vec<f32>) -> Result<Vec<Drawn>, ModelError> {
        let (hidden, vocabulary) = (self.weights.hidden, self.weights.vocabulary);
        // One row of every member that is on its way, then as much of the prompts as one pass may read.
        let mut runs: Vec<Run<'_>> = Vec::new();
        let mut decoding: Vec<usize> = Vec::new();
        for (at, member) in self.running.iter().enumerate() {
            if let (Some(cached), None) = (&member.cache, &member.first) {
                decoding.push(at);
                runs.push(Run {
                    sequence: &cached.sequence,
                    ids: &cached.last,
                    position: cached.position,
                    group: member.group,
                    wanted: true,
                });
            }
        }
        let mut budget = self.together.prefill_tokens;
        let mut reading: Vec<(usize, usize, bool)> = Vec::new();
        for (&number, group) in &self.groups {
            let State::Reading { sequence, read } = &group.state else { continue };
            let end = group.prompt.len().min(read + budget);
            if end == *read {
                break;
            }
            budget -= end - read;
            let wanted = end == group.prompt.len();
            reading.push((number, end, wanted));
            runs.push(Run {
                sequence,
                ids: &group.prompt[*read..end],
                position: *read,
                group: number,
                wanted,
            });
        }
        let states = if runs.is_empty() { Vec::new() } else { forward(&self.weights, &runs, team)? };

        let mut drawn = Vec::new();
        let mut after_prompts: VecDeque<Arc<[f32]>> = VecDeque::new();
        let most = (LOGITS / vocabulary).max(1);
        for (part, states) in states.chunks(most * hidden).enumerate() {
            logits(&self.weights, states, team, scratch);
            let mut rows = Vec::new();
            for (at, row) in scratch.chunks_exact_mut(vocabulary).enumerate() {
                match decoding.get(part * most + at) {
                    Some(&place) => rows.push((place, row)),
                    None => after_prompts.push_back((&*row).into()),
                }
            }
            drawn.extend(self.draw(rows, team));
        }

        for (number, end, wanted) in reading {
            let Some(group) = self.groups.get_mut(&number) else { continue };
            if let State::Reading { read, .. } = &mut group.state {
                *read = end;
            }
            if let (true, Some(logits)) = (wanted, after_prompts.pop_front()) {
                let layers = self.weights.layers.len();
                let members = self.running.iter_mut().filter(|member| member.group == number);
                if group.has_been_read(layers, logits, members) {
                    self.open.remove(&group.prompt);
                }
            }
        }
        let mut firsts: Vec<(usize, Vec<f32>)> = Vec::new();
        for (at, member) in self.running.iter_mut().enumerate() {
            if let Some(logits) = member.first.take() {
                firsts.push((at, logits.to_vec()));
            }
        }
        drawn.extend(self.draw(firsts.iter_mut().map(|(at, logits)| (*at, &mut logits[..])).collect(), team));
        Ok(drawn)
    }

    /// Draws an id from each row of logits, for the member at each place.
    fn draw(&mut self, rows: Vec<(usize, &mut [f32])>, team: &Team) -> Vec<Drawn> {
        let running = &self.running;
        let draws: Vec<_> = rows.into_iter().map(|(place, row)| Mutex::new((place, row, None))).collect();
        team.each(draws.len(), |at| {
            let mut draw = draws[at].lock().unwrap_or_else(PoisonError::into_inner);
            let (place, row, chosen) = &mut *draw;
            let mut sampler = running[*place].sampler.lock().unwrap_or_else(PoisonError::into_inner);
            *chosen = sampler.choose(row);
        });
        draws
            .into_iter()
            .map(|draw| {
                let (place, _, chosen) = draw.into_inner().unwrap_or_else(PoisonError::into_inner);
                (place, chosen)
            })
            .collect()
    }

    /// Takes a member out, and its group where nobody is left in it.
    fn retire(&mut self, at: usize) {
        let member = self.running.remove(at);
        self.reserved -= member.end.limit();
        if let Some(group) = self.groups.get_mut(&member.group) {
            group.alive -= 1;
        }
        self.close_if_done(member.group);
    }

    fn close_if_done(&mut self, number: usize) {
        let Some(group) = self.groups.get(&number) else { return };
        if group.alive > 0 || !group.waiting.is_empty() {
            return;
        }
        if !matches!(group.state, State::New) {
            self.reserved -= group.prompt.len();
        }
        if self.open.get(&group.prompt) == Some(&number) {
            self.open.remove(&group.prompt);
        }
        self.groups.remove(&number);
    }
}
