//! The decoder on a device: its parameters, and the forward pass.

use std::collections::HashMap;
use std::sync::Arc;

use super::array::{Array, View};
use super::driver::Driver;
use super::launch::{HeadCounts, Kernels, Tiles, Turn};
use super::layer::{Activations, Context, Layer};
use super::parameters::Parameters;
use super::sizes::{AdapterSettings, Settings, Sizes, Trained};
use crate::device::{DeviceError, Part, Tensors};

/// A decoder on a device.
///
/// Everything the passes need lies in device memory; what crosses to the host is ids, scores, norms, and what is asked for.
///
/// Several engines may stand on one base, each with an adapter of its own ([`Engine::with_adapter`]).
pub struct Engine<D: Driver> {
    pub(crate) sizes: Sizes,
    pub(crate) settings: Settings,
    pub(crate) kernels: Arc<Kernels<D>>,
    pub(crate) base: Arc<Parameters<D>>,
    pub(crate) adapter: Option<(AdapterSettings, Parameters<D>)>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) head: usize,
    pub(crate) final_norm: usize,
    /// Cosines and sines of every position, `[positions, head width]`.
    pub(crate) table: Arc<Array<D>>,
    pub(crate) steps: u64,
    /// The layers' matrices with the adapter in them.
    pub(crate) merged: Option<Array<D>>,
}

/// How an adapter takes part in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterUse {
    /// Not at all: the frozen model is computed.
    Off,
    /// As two thin products beside each matrix, as in training.
    Apart,
    /// As part of the matrices that [`Engine::merge`] made: fewer products, for generation. In bf16 their rounding is coarser than
    /// the adapter's own.
    Merged,
}

/// How a forward pass is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassOptions {
    /// Keep what the backward pass needs.
    pub keep: bool,
    /// What becomes of the adapter, where there is one.
    pub adapter: AdapterUse,
    /// Seed of the adapter's dropout; none in evaluation. The same seed drops the same numbers.
    pub dropout: Option<u64>,
    /// Keep each layer's input alone and compute the layer again on the way back; none: as the settings have it.
    pub checkpointing: Option<bool>,
}

impl Default for PassOptions {
    /// Keeps nothing, adapter apart, no dropout.
    fn default() -> PassOptions {
        PassOptions { keep: false, adapter: AdapterUse::Apart, dropout: None, checkpointing: None }
    }
}

/// A forward pass over packed sequences, with what its backward pass needs.
pub struct Pass<D: Driver> {
    pub(crate) context: Context<D>,
    pub(crate) ids: Vec<u32>,
    pub(crate) saved: Vec<Saved<D>>,
    /// The residual stream before the final norm.
    pub(crate) last: Array<D>,
    /// After the final norm, `[tokens, hidden]`.
    pub(crate) hidden: Array<D>,
    /// The gradient of `hidden`, f32, once something has been added to it.
    pub(crate) dhidden: Option<Array<D>>,
}

/// What is kept of a layer: its input, and with no checkpointing all the rest.
pub(crate) struct Saved<D: Driver> {
    pub(crate) x: Array<D>,
    pub(crate) activations: Option<Activations<D>>,
}

/// What is shown each layer's number, and its queries, keys and values.
pub(crate) type See<'a, D> = &'a mut dyn FnMut(usize, View<'_, D>) -> Result<(), DeviceError>;

impl<D: Driver> Pass<D> {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

impl<D: Driver> Engine<D> {
    /// Loads a decoder onto the driver's device. `tensor` gives the numbers of each parameter that [`Sizes::parameters`] and
    /// [`Sizes::adapter`] name, row by row.
    ///
    /// # Errors
    /// Sizes that the kernels do not compute, a driver made for other sizes or another precision, a tensor of another length,
    /// memory that does not suffice, and what `tensor` says.
    pub fn new(
        driver: D,
        sizes: Sizes,
        settings: Settings,
        tensor: Tensors<'_>,
    ) -> Result<Engine<D>, DeviceError> {
        Engine::on(Arc::new(Kernels::new(driver)), sizes, settings, tensor)
    }

    /// The same on kernels that are there already.
    pub(crate) fn on(
        kernels: Arc<Kernels<D>>,
        sizes: Sizes,
        settings: Settings,
        tensor: Tensors<'_>,
    ) -> Result<Engine<D>, DeviceError> {
        sizes.check()?;
        let driver = &kernels.driver;
        if driver.precision() != settings.precision || driver.head_width() != sizes.head_width {
            return Err(DeviceError::input(format!(
                "the kernels were compiled for {:?} and heads of {}, the engine wants {:?} and {}",
                driver.precision(),
                driver.head_width(),
                settings.precision,
                sizes.head_width
            )));
        }
        let base = Parameters::new(&kernels, sizes.parameters(), settings.trained == Trained::All, tensor)?;
        let table = kernels.floats(sizes.positions * sizes.head_width)?;
        kernels.write(table.view(), &rotary_table(&sizes))?;
        let adapter = match &settings.trained {
            Trained::Adapter(adapter) => Some(adapter_on(&kernels, &sizes, adapter, tensor)?),
            _ => None,
        };
        Engine::assemble(kernels, sizes, settings, Arc::new(base), Arc::new(table), adapter)
    }

    fn assemble(
        kernels: Arc<Kernels<D>>,
        sizes: Sizes,
        settings: Settings,
        base: Arc<Parameters<D>>,
        table: Arc<Array<D>>,
        adapter: Option<(AdapterSettings, Parameters<D>)>,
    ) -> Result<Engine<D>, DeviceError> {
        let layers = (0..sizes.layers)
            .map(|layer| Layer::new(layer, &sizes, &base, adapter.as_ref()))
            .collect::<Result<_, _>>()?;
        let head = base.offset(if sizes.tied { "model.embed_tokens.weight" } else { "lm_head.weight" })?;
        let final_norm = base.offset("model.norm.weight")?;
        Ok(Engine {
            sizes,
            settings,
            kernels,
            base,
            adapter,
            layers,
            head,
            final_norm,
            table,
            steps: 0,
            merged: None,
        })
    }

    /// An engine on the same base, in the same memory, with this adapter (or none) in place of this one's. The base is frozen in
    /// it where there is an adapter.
    ///
    /// # Errors
    /// An adapter that contradicts itself or the sizes; memory that does not suffice; what `tensor` says.
    pub fn with_adapter(
        &self,
        adapter: Option<&AdapterSettings>,
        tensor: Tensors<'_>,
    ) -> Result<Engine<D>, DeviceError> {
        let trained = match adapter {
            Some(adapter) => Trained::Adapter(adapter.clone()),
            None if self.base.is_trained() => Trained::All,
            None => Trained::Nothing,
        };
        let adapter =
            adapter.map(|adapter| adapter_on(&self.kernels, &self.sizes, adapter, tensor)).transpose()?;
        self.sharing(trained, self.base.clone(), adapter)
    }

    /// A copy whose trained numbers are its own: the adapter's on the same base, or all. Gradients and moments are not copied.
    ///
    /// # Errors
    /// Memory that does not suffice; failed calls.
    pub fn duplicate(&self) -> Result<Engine<D>, DeviceError> {
        let trained = self.settings.trained.clone();
        match &self.adapter {
            Some((settings, parameters)) => {
                let adapter = (settings.clone(), parameters.duplicate(&self.kernels)?);
                self.sharing(trained, self.base.clone(), Some(adapter))
            }
            None => self.sharing(trained, Arc::new(self.base.duplicate(&self.kernels)?), None),
        }
    }

    fn sharing(
        &self,
        trained: Trained,
        base: Arc<Parameters<D>>,
        adapter: Option<(AdapterSettings, Parameters<D>)>,
    ) -> Result<Engine<D>, DeviceError> {
        let settings = Settings { trained, ..self.settings.clone() };
        let table = self.table.clone();
        Engine::assemble(self.kernels.clone(), self.sizes.clone(), settings, base, table, adapter)
    }

    /// The sizes it was made with.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The driver it runs on.
    pub fn driver(&self) -> &D {
        &self.kernels.driver
    }

    /// Names and shapes of what is trained: the model's parameters, or the adapter's matrices, or nothing.
    pub fn trained(&self) -> Vec<(&str, &[usize])> {
        let trained = self.trained_parameters().map_or(&[][..], |parameters| &parameters.entries);
        trained.iter().map(|entry| (entry.name.as_str(), entry.shape.as_slice())).collect()
    }

    pub(crate) fn trained_parameters(&self) -> Option<&Parameters<D>> {
        match &self.adapter {
            Some((_, adapter)) => Some(adapter),
            None => self.base.is_trained().then_some(&self.base),
        }
    }

    /// The place of a gradient of the base, if there is one and no adapter is trained instead.
    pub(crate) fn base_gradient(&self, offset: usize, length: usize) -> Option<View<'_, D>> {
        if self.adapter.is_some() { None } else { self.base.gradient(offset, length) }
    }

    /// Copies a part of a parameter to the host. Values that are trained are the f32 masters.
    ///
    /// # Errors
    /// A name that is not there, a part that does not exist yet, a failed copy.
    pub fn read(&self, name: &str, part: Part) -> Result<Vec<f32>, DeviceError> {
        match &self.adapter {
            Some((_, adapter)) if adapter.entry(name).is_ok() => adapter.read(&self.kernels, name, part),
            _ => self.base.read(&self.kernels, name, part),
        }
    }

    /// Overwrites a part of a parameter.
    ///
    /// # Errors
    /// A name that is not there, another number of numbers, a part of a parameter that is not trained, a failed copy.
    pub fn write(&self, name: &str, part: Part, values: &[f32]) -> Result<(), DeviceError> {
        match &self.adapter {
            Some((_, adapter)) if adapter.entry(name).is_ok() => {
                adapter.write(&self.kernels, name, part, values)
            }
            _ => self.base.write(&self.kernels, name, part, values),
        }
    }

    pub(crate) fn heads(&self) -> HeadCounts {
        HeadCounts { queries: self.sizes.heads, keys: self.sizes.key_heads }
    }

    pub(crate) fn turn<'a>(&'a self, layer: &Layer, positions: View<'a, D>) -> Turn<'a, D> {
        let norm =
            |offset: Option<usize>| offset.map(|offset| self.base.value(offset, self.sizes.head_width));
        Turn {
            query_norm: norm(layer.query_norm),
            key_norm: norm(layer.key_norm),
            table: self.table.view(),
            positions,
            heads: self.heads(),
            epsilon: self.sizes.epsilon,
        }
    }

    pub(crate) fn norm(&self, offset: usize) -> View<'_, D> {
        self.base.value(offset, self.sizes.hidden)
    }

    /// Which norm follows layer `layer`.
    pub(crate) fn next_norm(&self, layer: usize) -> View<'_, D> {
        self.norm(self.layers.get(layer + 1).map_or(self.final_norm, |next| next.input_norm))
    }

    fn check(&self, ids: &[u32], offsets: &[u32]) -> Result<(), DeviceError> {
        if ids.is_empty() {
            return Err(DeviceError::input("the batch holds no tokens"));
        }
        let whole = offsets.first() == Some(&0)
            && offsets.last().is_some_and(|&last| last as usize == ids.len())
            && offsets.windows(2).all(|pair| pair[0] < pair[1]);
        if !whole {
            return Err(DeviceError::input(format!("the offsets do not partition {} tokens", ids.len())));
        }
        if let Some(pair) =
            offsets.windows(2).find(|pair| (pair[1] - pair[0]) as usize > self.sizes.positions)
        {
            return Err(DeviceError::input(format!(
                "a sequence has {} tokens, the model {} positions",
                pair[1] - pair[0],
                self.sizes.positions
            )));
        }
        self.check_ids(ids)
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<(), DeviceError> {
        match ids.iter().position(|&id| id as usize >= self.sizes.vocabulary) {
            None => Ok(()),
            Some(place) => Err(DeviceError::input(format!(
                "token id {} at place {place} lies outside the vocabulary of {}",
                ids[place], self.sizes.vocabulary
            ))),
        }
    }

    /// Runs the decoder over sequences laid end to end: `ids`, cut at `offsets` (0, …, number of ids).
    ///
    /// # Errors
    /// Offsets that do not partition the ids, an id outside the vocabulary, a sequence longer than the model's positions;
    /// failed calls.
    pub fn forward(
        &self,
        ids: &[u32],
        offsets: &[u32],
        options: PassOptions,
    ) -> Result<Pass<D>, DeviceError> {
        self.run(ids, offsets, options, &mut |_, _| Ok(()))
    }

    /// [`Engine::forward`], handing each layer's queries, keys and values to `see`.
    pub(crate) fn run(
        &self,
        ids: &[u32],
        offsets: &[u32],
        options: PassOptions,
        see: See<'_, D>,
    ) -> Result<Pass<D>, DeviceError> {
        self.check(ids, offsets)?;
        if options.keep && options.adapter == AdapterUse::Merged {
            return Err(DeviceError::input(
                "a pass that keeps cannot use merged matrices, which have no gradient",
            ));
        }
        let kernels = &self.kernels;
        let (tokens, width) = (ids.len(), self.sizes.hidden);
        let positions: Vec<u32> = offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect();
        let tiles: Tiles<D> = kernels.tiles(offsets)?;
        let context = Context { tokens, positions: kernels.words(&positions)?, tiles, options };

        let mut x = kernels.reals(tokens * width)?;
        let table =
            self.base.value(self.base.offset("model.embed_tokens.weight")?, self.sizes.vocabulary * width);
        kernels.gather(x.view(), table, kernels.words(ids)?.view(), width)?;
        let mut normed = kernels.reals(tokens * width)?;
        kernels.rms_norm(
            normed.view(),
            x.view(),
            self.norm(self.layers[0].input_norm),
            tokens,
            self.sizes.epsilon,
        )?;
        let mut saved = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let activations = self.layer_forward(layer, &context, &x, &normed)?;
            see(index, activations.qkv.view())?;
            let delta = self.down(layer, &context, activations.gate_up.view())?;
            let next = kernels.reals(tokens * width)?;
            kernels.add_rms_norm(
                (next.view(), normed.view()),
                (activations.middle.view(), delta.view()),
                self.next_norm(index),
                tokens,
                self.sizes.epsilon,
            )?;
            let x = std::mem::replace(&mut x, next);
            if options.keep {
                let checkpointing = options.checkpointing.unwrap_or(self.settings.checkpointing);
                let activations = (!checkpointing).then_some(activations);
                saved.push(Saved { x, activations });
            }
        }
        let hidden = std::mem::replace(&mut normed, kernels.reals(0)?);
        Ok(Pass { context, ids: ids.to_vec(), saved, last: x, hidden, dhidden: None })
    }

    /// The hidden states after the final norm, `[tokens, hidden]`.
    ///
    /// # Errors
    /// A failed copy.
    pub fn hidden(&self, pass: &Pass<D>) -> Result<Vec<f32>, DeviceError> {
        self.kernels.read(pass.hidden.view())
    }
}

/// Cosines of a position's angles, then their sines, for every position.
fn rotary_table(sizes: &Sizes) -> Vec<f32> {
    let mut table = Vec::with_capacity(sizes.positions * sizes.head_width);
    for position in 0..sizes.positions {
        let angles = || sizes.inverse_frequencies.iter().map(|frequency| position as f32 * frequency);
        table.extend(angles().map(|angle| sizes.rotary_factor * angle.cos()));
        table.extend(angles().map(|angle| sizes.rotary_factor * angle.sin()));
    }
    table
}

/// An adapter's matrices on the device.
fn adapter_on<D: Driver>(
    kernels: &Kernels<D>,
    sizes: &Sizes,
    adapter: &AdapterSettings,
    tensor: Tensors<'_>,
) -> Result<(AdapterSettings, Parameters<D>), DeviceError> {
    if adapter.rank == 0 || !(0.0..1.0).contains(&adapter.dropout) {
        return Err(DeviceError::input(format!(
            "an adapter of rank {} with dropout {}",
            adapter.rank, adapter.dropout
        )));
    }
    let matrices = (sizes.adapter(adapter), Vec::new());
    Ok((adapter.clone(), Parameters::new(kernels, matrices, true, tensor)?))
}

/// Parameters read from a map, which is how tests and callers with everything in memory load an engine.
///
/// # Errors
/// The returned function says which name is absent.
pub fn from_map(
    tensors: &HashMap<String, Vec<f32>>,
) -> impl FnMut(&str) -> Result<Vec<f32>, DeviceError> + '_ {
    |name| tensors.get(name).cloned().ok_or_else(|| DeviceError::input(format!("tensor {name} is missing")))
}
