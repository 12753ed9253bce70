//! Generation: a cache of keys and values on the device, prompts in one pass, then one token a text and step.

use super::array::{Array, View};
use super::driver::Driver;
use super::engine::{AdapterUse, Engine, Pass, PassOptions};
use super::launch::CacheRows;
use crate::device::DeviceError;
use crate::device::Draw;

/// Keys and values of many texts; each has a slot.
pub struct Cache<D: Driver> {
    /// One array of keys and one of values a layer, `[slots, capacity, key heads × head width]`.
    layers: Vec<(Array<D>, Array<D>)>,
    /// Tokens that each slot holds.
    lengths: Vec<usize>,
    capacity: usize,
}

/// Logits of each text's next token, on the device.
pub struct Logits<D: Driver> {
    numbers: Array<D>,
    rows: usize,
}

impl<D: Driver> Logits<D> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl<D: Driver> Cache<D> {
    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens in a slot.
    pub fn length(&self, slot: usize) -> usize {
        self.lengths.get(slot).copied().unwrap_or(0)
    }

    /// Empties a slot, or shortens it to its first `length` tokens.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        if let Some(held) = self.lengths.get_mut(slot) {
            *held = length.min(*held);
        }
    }
}

impl<D: Driver> Engine<D> {
    /// A cache for `slots` texts of up to `capacity` tokens.
    ///
    /// # Errors
    /// A capacity of nothing or beyond the model's positions; memory that does not suffice.
    pub fn cache(&self, slots: usize, capacity: usize) -> Result<Cache<D>, DeviceError> {
        if slots == 0 || capacity == 0 || capacity > self.sizes.positions {
            return Err(DeviceError::input(format!(
                "a cache for {slots} texts of {capacity} tokens; the model has {} positions",
                self.sizes.positions
            )));
        }
        let length = slots * capacity * self.sizes.keys();
        let layers = (0..self.sizes.layers)
            .map(|_| Ok((self.kernels.reals(length)?, self.kernels.reals(length)?)))
            .collect::<Result<_, DeviceError>>()?;
        Ok(Cache { layers, lengths: vec![0; slots], capacity })
    }

    fn rows<'a>(
        &self,
        cache: &'a Cache<D>,
        layer: usize,
        (slots, positions): (&'a Array<D>, &'a Array<D>),
    ) -> CacheRows<'a, D> {
        let (keys, values) = &cache.layers[layer];
        CacheRows {
            keys: keys.view(),
            values: values.view(),
            slots: slots.view(),
            positions: positions.view(),
            capacity: cache.capacity,
            heads: self.heads(),
            rows: slots.length(),
        }
    }

    fn check_slots(&self, cache: &Cache<D>, slots: &[usize]) -> Result<(), DeviceError> {
        let mut seen = vec![false; cache.slots()];
        for &slot in slots {
            match seen.get_mut(slot) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(DeviceError::input(format!("slot {slot} is named twice"))),
                None => return Err(DeviceError::input(format!("slot {slot} of {}", cache.slots()))),
            }
        }
        let numbers = cache.slots() * cache.capacity * self.sizes.keys();
        let fits =
            |(keys, values): &(Array<D>, Array<D>)| keys.length() == numbers && values.length() == numbers;
        if slots.is_empty()
            || cache.layers.len() != self.layers.len()
            || cache.capacity > self.sizes.positions
            || !cache.layers.iter().all(fits)
        {
            return Err(DeviceError::input("no slots, or a cache of another model"));
        }
        Ok(())
    }

    /// Reads whole prompts into empty slots; returns the logits of each prompt's next token.
    ///
    /// # Errors
    /// A slot that is out of range, named twice or not empty, a prompt that is empty or longer than the cache, and what
    /// [`Engine::forward`] refuses; failed calls.
    pub fn prefill(
        &self,
        cache: &mut Cache<D>,
        slots: &[usize],
        prompts: &[&[u32]],
        adapter: AdapterUse,
    ) -> Result<Logits<D>, DeviceError> {
        self.check_slots(cache, slots)?;
        if slots.len() != prompts.len() {
            return Err(DeviceError::input(format!("{} prompts for {} slots", prompts.len(), slots.len())));
        }
        let (mut ids, mut offsets, mut rows, mut positions) =
            (Vec::new(), vec![0u32], Vec::new(), Vec::new());
        for (&slot, prompt) in slots.iter().zip(prompts) {
            if cache.lengths[slot] != 0 || prompt.len() > cache.capacity || prompt.is_empty() {
                return Err(DeviceError::input(format!(
                    "a prompt of {} tokens for slot {slot}, which holds {} of {}",
                    prompt.len(),
                    cache.lengths[slot],
                    cache.capacity
                )));
            }
            ids.extend_from_slice(prompt);
            offsets.push(ids.len() as u32);
            rows.extend(std::iter::repeat_n(slot as u32, prompt.len()));
            positions.extend(0..prompt.len() as u32);
        }
        let places = (self.kernels.words(&rows)?, self.kernels.words(&positions)?);
        let options = PassOptions { adapter, ..PassOptions::default() };
        let held: &Cache<D> = cache;
        let pass: Pass<D> = self.run(&ids, &offsets, options, &mut |layer, qkv| {
            self.kernels.store_cache(&self.rows(held, layer, (&places.0, &places.1)), qkv)
        })?;
        for (&slot, prompt) in slots.iter().zip(prompts) {
            cache.lengths[slot] = prompt.len();
        }
        let last: Vec<u32> = offsets[1..].iter().map(|end| end - 1).collect();
        let width = self.sizes.hidden;
        let hidden = self.kernels.reals(last.len() * width)?;
        self.kernels.gather(hidden.view(), pass.hidden.view(), self.kernels.words(&last)?.view(), width)?;
        self.next_logits(hidden.view(), last.len())
    }

    /// Copies the first `length` tokens of one slot into others, which hold nothing else then: a prompt is read once for many samples.
    ///
    /// # Errors
    /// A slot that is out of range, named twice, or the source itself; more tokens than it holds; failed calls.
    pub fn share(
        &self,
        cache: &mut Cache<D>,
        from: usize,
        to: &[usize],
        length: usize,
    ) -> Result<(), DeviceError> {
        self.check_slots(cache, to)?;
        if length > cache.length(from) || to.contains(&from) {
            return Err(DeviceError::input(format!(
                "{length} tokens of slot {from}, which holds {}, for other slots",
                cache.length(from)
            )));
        }
        let (numbers, per_slot) = (length * self.sizes.keys(), cache.capacity * self.sizes.keys());
        for (keys, values) in &cache.layers {
            for &slot in to {
                for array in [keys, values] {
                    self.kernels
                        .copy(array.part(from * per_slot, numbers), array.part(slot * per_slot, numbers))?;
                }
            }
        }
        for &slot in to {
            cache.lengths[slot] = length;
        }
        Ok(())
    }

    /// Appends one token to each of the slots; returns the logits of the next.
    ///
    /// # Errors
    /// A slot that is out of range, named twice, empty or full, an id outside the vocabulary; failed calls.
    pub fn decode(
        &self,
        cache: &mut Cache<D>,
        slots: &[usize],
        ids: &[u32],
        adapter: AdapterUse,
    ) -> Result<Logits<D>, DeviceError> {
        self.check_slots(cache, slots)?;
        self.check_ids(ids)?;
        if slots.len() != ids.len() {
            return Err(DeviceError::input(format!("{} tokens for {} slots", ids.len(), slots.len())));
        }
        if let Some(&slot) =
            slots.iter().find(|&&slot| cache.lengths[slot] == 0 || cache.lengths[slot] >= cache.capacity)
        {
            return Err(DeviceError::input(format!(
                "slot {slot} holds {} of {} tokens and cannot take the next",
                cache.lengths[slot], cache.capacity
            )));
        }
        let (kernels, sizes, count) = (&self.kernels, &self.sizes, slots.len());
        let positions: Vec<u32> = slots.iter().map(|&slot| cache.lengths[slot] as u32).collect();
        let longest = positions.iter().max().map_or(0, |&most| most as usize + 1);
        let places = (
            kernels.words(&slots.iter().map(|&slot| slot as u32).collect::<Vec<_>>())?,
            kernels.words(&positions)?,
        );
        let options = PassOptions { adapter, ..PassOptions::default() };
        let width = sizes.hidden;
        let x = kernels.reals(count * width)?;
        let normed = kernels.reals(count * width)?;
        let table = self.base.value(self.base.offset("model.embed_tokens.weight")?, sizes.vocabulary * width);
        kernels.gather(x.view(), table, kernels.words(ids)?.view(), width)?;
        kernels.rms_norm(
            normed.view(),
            x.view(),
            self.norm(self.layers[0].input_norm),
            count,
            sizes.epsilon,
        )?;
        let attended = kernels.reals(count * sizes.queries())?;
        let activated = kernels.reals(count * sizes.feed_forward)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let qkv = self.linear(&layer.qkv, normed.view(), count, options)?;
            let bias = layer.bias.map(|bias| self.base.value(bias, sizes.qkv()));
            kernels.rope(qkv.view(), qkv.view(), bias, &self.turn(layer, places.1.view()))?;
            let rows = self.rows(cache, index, (&places.0, &places.1));
            kernels.store_cache(&rows, qkv.view())?;
            kernels.decode_attention(attended.view(), &rows, qkv.view(), longest)?;
            let delta = self.linear(&layer.out, attended.view(), count, options)?;
            let both = (x.view(), normed.view());
            kernels.add_rms_norm(
                both,
                (x.view(), delta.view()),
                self.norm(layer.post_norm),
                count,
                sizes.epsilon,
            )?;
            let gate_up = self.linear(&layer.gate_up, normed.view(), count, options)?;
            kernels.swiglu(activated.view(), gate_up.view(), count, sizes.feed_forward)?;
            let delta = self.linear(&layer.down, activated.view(), count, options)?;
            kernels.add_rms_norm(
                both,
                (x.view(), delta.view()),
                self.next_norm(index),
                count,
                sizes.epsilon,
            )?;
        }
        for &slot in slots {
            cache.lengths[slot] += 1;
        }
        self.next_logits(normed.view(), count)
    }

    fn next_logits(&self, hidden: View<'_, D>, rows: usize) -> Result<Logits<D>, DeviceError> {
        let numbers = self.kernels.floats(rows * self.sizes.vocabulary)?;
        self.logits_into(numbers.view(), hidden, rows, 1.0)?;
        Ok(Logits { numbers, rows })
    }

    /// Copies logits to the host, `[rows, vocabulary]`, for samplers that look at all of them.
    ///
    /// # Errors
    /// Failed calls.
    pub fn read_logits(&self, logits: &Logits<D>) -> Result<Vec<f32>, DeviceError> {
        self.kernels.read(logits.numbers.view())
    }

    /// Draws the next id of each row on the device; returns it with its ln p under the softmax of the logits themselves. The same
    /// seed draws the same id. Nothing of the size of the vocabulary crosses to the host.
    ///
    /// # Errors
    /// Another number of draws than of rows, a temperature below 0 or not finite; failed calls.
    pub fn sample(&self, logits: &Logits<D>, draws: &[Draw]) -> Result<Vec<(u32, f32)>, DeviceError> {
        if draws.len() != logits.rows {
            return Err(DeviceError::input(format!("{} draws from {} rows", draws.len(), logits.rows)));
        }
        if let Some(draw) =
            draws.iter().find(|draw| !(draw.temperature >= 0.0 && draw.temperature.is_finite()))
        {
            return Err(DeviceError::input(format!("a temperature of {}", draw.temperature)));
        }
        let settings: Vec<u32> = draws
            .iter()
            .flat_map(|draw| {
                let inverse = if draw.temperature > 0.0 { 1.0 / draw.temperature } else { 0.0f32 };
                [inverse.to_bits(), draw.seed as u32, (draw.seed >> 32) as u32]
            })
            .collect();
        let kernels = &self.kernels;
        let drawn = kernels.words(&vec![0; logits.rows])?;
        let log_prob = kernels.floats(logits.rows)?;
        let out = (drawn.view(), log_prob.view());
        kernels.sample(
            out,
            logits.numbers.view(),
            kernels.words(&settings)?.view(),
            self.sizes.vocabulary,
        )?;
        let ids = kernels.read_words(drawn.view())?;
        Ok(ids.into_iter().zip(kernels.read(log_prob.view())?).collect())
    }
}
