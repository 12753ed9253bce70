//! Which request runs when, on a device.
//!
//! The device's cache has a slot for each request that runs. A prompt is read into the slot of the first request that has it and
//! copied to those of the others. Ids are drawn on the device; where a request asks for more than temperature, the logits are copied
//! to the host and its sampler draws.

use std::collections::VecDeque;
use std::sync::Arc;

use super::request::{End, check_request};
use super::sampling::{Finish, Sampler, SamplingOptions};
use super::{Event, GenerateOptions};
use crate::config::Config;
use crate::device::{DeviceCache, DeviceError, DeviceModel, Draw};
use crate::error::ModelError;

/// Prompt tokens that one pass reads at most, unless one prompt alone has more: enough to fill a GPU.
const PREFILL: usize = 8192;
/// Tokens of a slot are a multiple of this, so that a few more do not ask for another cache.
const CAPACITY: usize = 64;

/// The queue of a model on a device.
pub(super) struct OnDevice<'m> {
    config: &'m Config,
    model: &'m dyn DeviceModel,
    together: GenerateOptions,
    submitted: usize,
    waiting: VecDeque<Waiting>,
    /// In no order of slots.
    running: Vec<Member>,
    /// Made when the first request begins, and anew when one needs longer slots.
    cache: Option<Slots>,
    /// What the next step has to tell first.
    pending: Vec<Event>,
    /// Requests that failed and have not been reported.
    broken: VecDeque<usize>,
}

struct Slots {
    cache: Box<dyn DeviceCache>,
    capacity: usize,
    free: Vec<usize>,
}

struct Waiting {
    request: usize,
    prompt: Arc<[u32]>,
    options: SamplingOptions,
    /// Ids that it may generate.
    limit: usize,
}

impl Waiting {
    fn tokens(&self) -> usize {
        self.prompt.len() + self.limit
    }
}

/// A request that runs.
struct Member {
    request: usize,
    prompt: Arc<[u32]>,
    slot: usize,
    /// Ids that it has generated.
    made: usize,
    /// The id that the next pass reads.
    last: u32,
    end: End,
    choice: Choice,
    ended: bool,
}

/// Who chooses a request's ids.
enum Choice {
    Device { temperature: f32, seed: u64 },
    Host(Box<Sampler>),
}

/// What a member drew: its place, and the id with its log-probability, or nothing where the logits are not finite.
type Drawn = (usize, Option<(u32, f32)>);

impl Choice {
    fn of(options: &SamplingOptions, prompt: &[u32], vocabulary: usize) -> Choice {
        let plain = options.repetition_penalty == 1.0
            && (options.temperature == 0.0
                || options.top_p >= 1.0
                    && options.min_p <= 0.0
                    && (options.top_k == 0 || options.top_k >= vocabulary));
        if plain {
            Choice::Device { temperature: options.temperature, seed: options.seed }
        } else {
            Choice::Host(Box::new(Sampler::new(options, prompt)))
        }
    }
}

/// A seed for each token of a request (SplitMix64's finaliser).
fn token_seed(seed: u64, made: usize) -> u64 {
    let mut mixed = seed.wrapping_add((made as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl<'m> OnDevice<'m> {
    pub(super) fn new(
        config: &'m Config,
        model: &'m dyn DeviceModel,
        together: GenerateOptions,
    ) -> OnDevice<'m> {
        OnDevice {
            config,
            model,
            together,
            submitted: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache: None,
            pending: Vec::new(),
            broken: VecDeque::new(),
        }
    }

    /// See [`super::Generator::submit`].
    pub(super) fn submit(&mut self, prompt: &[u32], options: &SamplingOptions) -> Result<usize, ModelError> {
        let request = self.submitted;
        check_request(self.config, &self.together, request, prompt, options)?;
        self.submitted += 1;
        if options.maximum_new_tokens == 0 {
            self.pending.push(Event::Finished { request, finish: Finish::Length });
            return Ok(request);
        }
        let limit = options.maximum_new_tokens.min(self.config.max_position_embeddings - prompt.len());
        let shared = self.waiting.iter().rev().find(|other| *other.prompt == *prompt);
        let prompt = shared.map_or_else(|| prompt.into(), |other| other.prompt.clone());
        self.waiting.push_back(Waiting { request, prompt, options: options.clone(), limit });
        Ok(request)
    }

    /// See [`super::Generator::is_idle`].
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.running.is_empty()
            && self.pending.is_empty()
            && self.broken.is_empty()
    }

    /// See [`super::Generator::cancel`].
    pub(super) fn cancel(&mut self, request: usize) -> Option<Event> {
        if let Some(at) = self.running.iter().position(|member| member.request == request) {
            self.retire(at);
        } else {
            let at = self.waiting.iter().position(|waiting| waiting.request == request)?;
            self.waiting.remove(at);
        }
        Some(Event::Finished { request, finish: Finish::Cancelled })
    }

    /// See [`super::Generator::step`].
    pub(super) fn step(&mut self) -> Result<Vec<Event>, ModelError> {
        if let Some(request) = self.broken.pop_front() {
            return Err(ModelError::NotFiniteLogits { request });
        }
        let mut events = std::mem::take(&mut self.pending);
        let decoding = self.running.len();
        self.admit()?;
        if decoding > 0 {
            let Some(slots) = &mut self.cache else { return Ok(events) };
            let members = &mut self.running[..decoding];
            let places: Vec<usize> = members.iter().map(|member| member.slot).collect();
            let ids: Vec<u32> = members.iter().map(|member| member.last).collect();
            slots.cache.decode(&places, &ids)?;
            let each: Vec<Vec<usize>> = (0..decoding).map(|at| vec![at]).collect();
            let drawn = draw(&*slots.cache, members, &each, self.config.vocab_size)?;
            self.take(drawn, &mut events);
        }
        self.begin(decoding, &mut events)?;
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

    /// Lets waiting requests in, in order, while there are slots and prompts may be read.
    fn admit(&mut self) -> Result<(), DeviceError> {
        let Some(first) = self.waiting.front() else { return Ok(()) };
        let fits = self.cache.as_ref().is_some_and(|slots| first.tokens() <= slots.capacity);
        if !fits {
            if !self.running.is_empty() {
                return Ok(());
            }
            // Long enough for all that wait now: those that come later are most often like them.
            let longest = self.waiting.iter().map(Waiting::tokens).max().unwrap_or(1);
            let capacity = longest.next_multiple_of(CAPACITY).min(self.config.max_position_embeddings);
            let most = (self.together.maximum_cached_tokens / capacity).max(1);
            let mut slots = self.waiting.len().max(1).min(self.together.maximum_running).min(most);
            // The old one is given back first.
            self.cache = None;
            let cache = loop {
                match self.model.cache(slots, capacity) {
                    // Fewer at a time give the same answers.
                    Err(DeviceError::OutOfMemory { .. }) if slots > 1 => slots /= 2,
                    cache => break cache?,
                }
            };
            self.cache = Some(Slots { cache, capacity, free: (0..slots).rev().collect() });
        } else if self.running.is_empty()
            && let Some(slots) = &self.cache
            && slots.free.len() < self.waiting.len().min(self.together.maximum_running)
            && (slots.free.len() + 1) * slots.capacity <= self.together.maximum_cached_tokens
        {
            // More wait than the cache has slots for, and nothing in it is needed.
            self.cache = None;
            return self.admit();
        }
        let Some(slots) = &mut self.cache else { return Ok(()) };
        let (mut read, begun) = (0, self.running.len());
        while let Some(next) = self.waiting.front() {
            let known = self.running[begun..].iter().any(|member| member.prompt == next.prompt);
            let tokens = if known { 0 } else { next.prompt.len() };
            let room = read == 0 || read + tokens <= PREFILL;
            if next.tokens() > slots.capacity || slots.free.is_empty() || !room {
                break;
            }
            let (Some(slot), Some(waiting)) = (slots.free.pop(), self.waiting.pop_front()) else { break };
            read += tokens;
            let Waiting { request, prompt, options, limit } = waiting;
            self.running.push(Member {
                request,
                slot,
                made: 0,
                last: 0,
                end: End::new(&options, limit),
                choice: Choice::of(&options, &prompt, self.config.vocab_size),
                prompt,
                ended: false,
            });
        }
        Ok(())
    }

    /// Reads the prompts of the members from `first` on, each prompt once, and draws their first ids.
    fn begin(&mut self, first: usize, events: &mut Vec<Event>) -> Result<(), DeviceError> {
        let Some(slots) = &mut self.cache else { return Ok(()) };
        let members = &mut self.running[first..];
        if members.is_empty() {
            return Ok(());
        }
        // Members with the same prompt, by their places; the first of them reads it.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (place, member) in members.iter().enumerate() {
            match groups.iter_mut().find(|group| members[group[0]].prompt == member.prompt) {
                Some(group) => group.push(place),
                None => groups.push(vec![place]),
            }
        }
        let places: Vec<usize> = groups.iter().map(|group| members[group[0]].slot).collect();
        let prompts: Vec<&[u32]> = groups.iter().map(|group| &*members[group[0]].prompt).collect();
        slots.cache.prefill(&places, &prompts)?;
        for group in groups.iter().filter(|group| group.len() > 1) {
            let others: Vec<usize> = group[1..].iter().map(|&place| members[place].slot).collect();
            let reader = &members[group[0]];
            slots.cache.share(reader.slot, &others, reader.prompt.len())?;
        }
        let mut drawn = draw(&*slots.cache, members, &groups, self.config.vocab_size)?;
        for (place, _) in &mut drawn {
            *place += first;
        }
        self.take(drawn, events);
        Ok(())
    }

    /// Notes the ids that were drawn.
    fn take(&mut self, drawn: Vec<Drawn>, events: &mut Vec<Event>) {
        for (place, chosen) in drawn {
            let member = &mut self.running[place];
            let request = member.request;
            let Some((id, log_prob)) = chosen else {
                self.broken.push_back(request);
                member.ended = true;
                continue;
            };
            events.push(Event::Token { request, id, log_prob });
            member.last = id;
            member.made += 1;
            if let Some(finish) = member.end.after(id, member.made, &self.together) {
                events.push(Event::Finished { request, finish });
                member.ended = true;
            }
        }
    }

    /// Takes a member out and empties its slot.
    fn retire(&mut self, at: usize) {
        let member = self.running.remove(at);
        if let Some(slots) = &mut self.cache {
            slots.cache.clear(member.slot);
            slots.free.push(member.slot);
        }
    }
}

/// Draws an id for every member from the cache's logits, whose row `r` belongs to the members `rows[r]`. Nothing stands where the
/// logits are not finite.
fn draw(
    cache: &dyn DeviceCache,
    members: &mut [Member],
    rows: &[Vec<usize>],
    vocabulary: usize,
) -> Result<Vec<Drawn>, DeviceError> {
    let mut drawn = Vec::with_capacity(members.len());
    let host = |member: &Member| matches!(member.choice, Choice::Host(_));
    let logits = if members.iter().any(host) { cache.logits()? } else { Vec::new() };
    for (row, places) in rows.iter().enumerate() {
        for &place in places {
            if let Choice::Host(sampler) = &mut members[place].choice {
                // The sampler overwrites what it reads, and other members may share the row.
                let mut own = logits[row * vocabulary..(row + 1) * vocabulary].to_vec();
                drawn.push((place, sampler.choose(&mut own)));
            }
        }
    }
    // The device draws once from each row at a time: in each round for the next member of every row.
    let rounds = rows.iter().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        let member = |row: usize| {
            let place = *rows[row].get(round)?;
            match members[place].choice {
                Choice::Device { temperature, seed } => Some((place, temperature, seed)),
                Choice::Host(_) => None,
            }
        };
        let wanted: Vec<_> = (0..rows.len()).map(member).collect();
        if wanted.iter().all(Option::is_none) {
            continue;
        }
        let draws: Vec<Draw> = wanted
            .iter()
            .map(|wanted| match *wanted {
                Some((place, temperature, seed)) => {
                    Draw { temperature, seed: token_seed(seed, members[place].made) }
                }
                None => Draw { temperature: 0.0, seed: 0 },
            })
            .collect();
        for (wanted, (id, log_prob)) in wanted.iter().zip(cache.sample(&draws)?) {
            if let Some((place, ..)) = *wanted {
                // A logit that is not finite makes their sum NaN.
                drawn.push((place, log_prob.is_finite().then_some((id, log_prob))));
            }
        }
    }
    Ok(drawn)
}
