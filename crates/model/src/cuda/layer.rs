//! One decoder layer, forward and backward.

use super::array::{Array, Grid, View};
use super::driver::Driver;
use super::engine::{AdapterUse, Engine, PassOptions};
use super::launch::{AttentionGradient, Tiles};
use super::parameters::Parameters;
use super::sizes::{AdapterSettings, Module, Sizes};
use crate::device::DeviceError;

/// Where a layer's parameters lie.
pub(crate) struct Layer {
    pub(crate) input_norm: usize,
    pub(crate) post_norm: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) query_norm: Option<usize>,
    pub(crate) key_norm: Option<usize>,
    pub(crate) qkv: Linear,
    pub(crate) out: Linear,
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

/// A matrix, or several that share their input, and the adapters on it.
pub(crate) struct Linear {
    offset: usize,
    rows: usize,
    columns: usize,
    adapters: Vec<Adapter>,
}

/// An adapter's matrices, and which outputs it adds to.
struct Adapter {
    a: usize,
    b: usize,
    first: usize,
    rows: usize,
    /// Distinguishes its dropout from that of others.
    number: u64,
}

/// What all layers of a pass share.
pub(crate) struct Context<D: Driver> {
    pub(crate) tokens: usize,
    pub(crate) positions: Array<D>,
    pub(crate) tiles: Tiles<D>,
    pub(crate) options: PassOptions,
}

/// What a layer's backward pass needs beside its input.
pub(crate) struct Activations<D: Driver> {
    /// Queries, keys and values as attention read them.
    pub(crate) qkv: Array<D>,
    /// The same before norm and rotation, where heads have norms.
    raw: Option<Array<D>>,
    attended: Array<D>,
    log_sum: Array<D>,
    /// The residual stream between the two halves.
    pub(crate) middle: Array<D>,
    pub(crate) gate_up: Array<D>,
}

impl Layer {
    pub(crate) fn new<D: Driver>(
        index: usize,
        sizes: &Sizes,
        base: &Parameters<D>,
        adapter: Option<&(AdapterSettings, Parameters<D>)>,
    ) -> Result<Layer, DeviceError> {
        let name = |rest: &str| format!("model.layers.{index}.{rest}");
        let place = |rest: &str| base.offset(&name(rest));
        let linear = |modules: &[Module]| -> Result<Linear, DeviceError> {
            let mut linear = Linear {
                offset: place(&format!("{}.weight", modules[0].name()))?,
                rows: 0,
                columns: sizes.module(modules[0]).1,
                adapters: Vec::new(),
            };
            for &module in modules {
                let (rows, _) = sizes.module(module);
                if let Some((settings, parameters)) = adapter
                    && settings.modules.contains(&module)
                {
                    let matrix =
                        |which| parameters.offset(&name(&format!("{}.lora_{which}.weight", module.name())));
                    let number = (index * Module::ALL.len() + module as usize) as u64;
                    linear.adapters.push(Adapter {
                        a: matrix("A")?,
                        b: matrix("B")?,
                        first: linear.rows,
                        rows,
                        number,
                    });
                }
                linear.rows += rows;
            }
            Ok(linear)
        };
        Ok(Layer {
            input_norm: place("input_layernorm.weight")?,
            post_norm: place("post_attention_layernorm.weight")?,
            bias: sizes.bias.then(|| place("self_attn.q_proj.bias")).transpose()?,
            query_norm: sizes.head_norms.then(|| place("self_attn.q_norm.weight")).transpose()?,
            key_norm: sizes.head_norms.then(|| place("self_attn.k_norm.weight")).transpose()?,
            qkv: linear(&[Module::Query, Module::Key, Module::Value])?,
            out: linear(&[Module::Out])?,
            gate_up: linear(&[Module::Gate, Module::Up])?,
            down: linear(&[Module::Down])?,
        })
    }
}

impl<D: Driver> Engine<D> {
    /// `x Wᵀ` of `rows` rows, with the adapters where the options ask for them.
    pub(crate) fn linear(
        &self,
        linear: &Linear,
        x: View<'_, D>,
        rows: usize,
        options: PassOptions,
    ) -> Result<Array<D>, DeviceError> {
        let out = self.kernels.reals(rows * linear.rows)?;
        let length = linear.rows * linear.columns;
        let weight = match (options.adapter, &self.adapter) {
            (AdapterUse::Merged, Some(_)) => {
                let merged = self
                    .merged
                    .as_ref()
                    .ok_or_else(|| DeviceError::input("nothing is merged (Engine::merge)"))?;
                merged.part(linear.offset - self.layers[0].qkv.offset, length)
            }
            _ => self.base.value(linear.offset, length),
        };
        let (y, input) = (out.view().matrix(rows, linear.rows), x.matrix(rows, linear.columns));
        self.kernels.product(y, input, weight.matrix(linear.rows, linear.columns).transposed(), 1.0, 0.0)?;
        if let Some((settings, parameters)) = &self.adapter
            && options.adapter == AdapterUse::Apart
        {
            for adapter in &linear.adapters {
                let (_, low) = self.lowered((settings, parameters), (linear, adapter), x, rows, options)?;
                let b = parameters.value(adapter.b, adapter.rows * settings.rank);
                self.kernels.product(
                    y.some_columns(adapter.first, adapter.rows),
                    low.view().matrix(rows, settings.rank),
                    b.matrix(adapter.rows, settings.rank).transposed(),
                    settings.scale,
                    1.0,
                )?;
            }
        }
        Ok(out)
    }

    /// Copies the layers' matrices and adds the adapter to the copies, for [`AdapterUse::Merged`]; again after each step that should
    /// be seen. Takes as much memory as the matrices.
    ///
    /// # Errors
    /// No adapter; memory that does not suffice; failed calls.
    pub fn merge(&mut self) -> Result<(), DeviceError> {
        let Some((settings, parameters)) = &self.adapter else {
            return Err(DeviceError::input("there is no adapter to merge"));
        };
        let (Some(first), Some(last)) = (self.layers.first(), self.layers.last()) else {
            return Err(DeviceError::input("there are no layers"));
        };
        let (start, end) = (first.qkv.offset, last.down.offset + last.down.rows * last.down.columns);
        let merged = match self.merged.take() {
            Some(merged) => merged,
            None => self.kernels.reals(end - start)?,
        };
        self.kernels.copy(self.base.value(start, end - start), merged.view())?;
        for layer in &self.layers {
            for linear in [&layer.qkv, &layer.out, &layer.gate_up, &layer.down] {
                for adapter in &linear.adapters {
                    let (rows, columns, rank) = (adapter.rows, linear.columns, settings.rank);
                    let place = linear.offset - start + adapter.first * columns;
                    let weight = merged.part(place, rows * columns).matrix(rows, columns);
                    let a = parameters.value(adapter.a, rank * columns).matrix(rank, columns);
                    let b = parameters.value(adapter.b, rows * rank).matrix(rows, rank);
                    self.kernels.product(weight, b, a, settings.scale, 1.0)?;
                }
            }
        }
        self.merged = Some(merged);
        Ok(())
    }

    /// Gives back what [`Engine::merge`] took.
    pub fn unmerge(&mut self) {
        self.merged = None;
    }

    /// The adapter's input after dropout, where there is dropout, and that times Aᵀ.
    fn lowered(
        &self,
        (settings, parameters): (&AdapterSettings, &Parameters<D>),
        (linear, adapter): (&Linear, &Adapter),
        x: View<'_, D>,
        rows: usize,
        options: PassOptions,
    ) -> Result<(Option<Array<D>>, Array<D>), DeviceError> {
        let dropped = match dropout(settings, adapter, options) {
            None => None,
            Some(dropout) => {
                let dropped = self.kernels.reals(rows * linear.columns)?;
                self.kernels.dropout(dropped.view(), None, x, dropout)?;
                Some(dropped)
            }
        };
        let low = self.kernels.reals(rows * settings.rank)?;
        let input = dropped.as_ref().map_or(x, |dropped| dropped.view());
        let a = parameters.value(adapter.a, settings.rank * linear.columns);
        self.kernels.product(
            low.view().matrix(rows, settings.rank),
            input.matrix(rows, linear.columns),
            a.matrix(settings.rank, linear.columns).transposed(),
            1.0,
            0.0,
        )?;
        Ok((dropped, low))
    }

    /// From the gradient of `x Wᵀ`: adds to the gradients of W or of its adapters, and gives that of x.
    fn linear_backward(
        &self,
        linear: &Linear,
        x: View<'_, D>,
        dy: View<'_, D>,
        context: &Context<D>,
    ) -> Result<Array<D>, DeviceError> {
        let rows = context.tokens;
        let dx = self.kernels.reals(rows * linear.columns)?;
        let length = linear.rows * linear.columns;
        let weight = self.base.value(linear.offset, length).matrix(linear.rows, linear.columns);
        let (dout, input) = (dy.matrix(rows, linear.rows), x.matrix(rows, linear.columns));
        let din = dx.view().matrix(rows, linear.columns);
        self.kernels.product(din, dout, weight, 1.0, 0.0)?;
        if let Some(gradient) = self.base_gradient(linear.offset, length) {
            let gradient = gradient.matrix(linear.rows, linear.columns);
            self.kernels.product(gradient, dout.transposed(), input, 1.0, 1.0)?;
        }
        if let Some((settings, parameters)) = &self.adapter
            && context.options.adapter == AdapterUse::Apart
        {
            for adapter in &linear.adapters {
                self.adapter_backward((settings, parameters), (linear, adapter), x, dout, din, context)?;
            }
        }
        Ok(dx)
    }

    fn adapter_backward(
        &self,
        (settings, parameters): (&AdapterSettings, &Parameters<D>),
        (linear, adapter): (&Linear, &Adapter),
        x: View<'_, D>,
        dy: Grid<'_, D>,
        dx: Grid<'_, D>,
        context: &Context<D>,
    ) -> Result<(), DeviceError> {
        let (rows, rank) = (context.tokens, settings.rank);
        let (dropped, low) =
            self.lowered((settings, parameters), (linear, adapter), x, rows, context.options)?;
        let (a, b) = (rank * linear.columns, adapter.rows * rank);
        let dy = dy.some_columns(adapter.first, adapter.rows);
        let dlow = self.kernels.reals(rows * rank)?;
        let dlow = dlow.view().matrix(rows, rank);
        let b_matrix = parameters.value(adapter.b, b).matrix(adapter.rows, rank);
        self.kernels.product(dlow, dy, b_matrix, settings.scale, 0.0)?;
        if let (Some(da), Some(db)) = (parameters.gradient(adapter.a, a), parameters.gradient(adapter.b, b)) {
            let low = low.view().matrix(rows, rank);
            self.kernels.product(db.matrix(adapter.rows, rank), dy.transposed(), low, settings.scale, 1.0)?;
            let input = dropped.as_ref().map_or(x, |dropped| dropped.view()).matrix(rows, linear.columns);
            self.kernels.product(da.matrix(rank, linear.columns), dlow.transposed(), input, 1.0, 1.0)?;
        }
        let a_matrix = parameters.value(adapter.a, a).matrix(rank, linear.columns);
        match dropout(settings, adapter, context.options) {
            None => self.kernels.product(dx, dlow, a_matrix, 1.0, 1.0),
            Some(dropout) => {
                let part = self.kernels.reals(rows * linear.columns)?;
                self.kernels.product(part.view().matrix(rows, linear.columns), dlow, a_matrix, 1.0, 0.0)?;
                self.kernels.dropout(dx.view, Some(dx.view), part.view(), dropout)
            }
        }
    }

    /// The layer up to its gate and up parts, from its input `x` and that normed. `normed` is used up: afterwards it holds
    /// the second norm's output.
    pub(crate) fn layer_forward(
        &self,
        layer: &Layer,
        context: &Context<D>,
        x: &Array<D>,
        normed: &Array<D>,
    ) -> Result<Activations<D>, DeviceError> {
        let (kernels, sizes, tokens) = (&self.kernels, &self.sizes, context.tokens);
        let read = self.linear(&layer.qkv, normed.view(), tokens, context.options)?;
        let turn = self.turn(layer, context.positions.view());
        let bias = layer.bias.map(|bias| self.base.value(bias, sizes.qkv()));
        // Without norms the rotation is undone from its result, and what it read need not stay.
        let (qkv, raw) = if sizes.head_norms {
            let qkv = kernels.reals(tokens * sizes.qkv())?;
            kernels.rope(qkv.view(), read.view(), bias, &turn)?;
            (qkv, Some(read))
        } else {
            kernels.rope(read.view(), read.view(), bias, &turn)?;
            (read, None)
        };
        let attended = kernels.reals(tokens * sizes.queries())?;
        let log_sum = kernels.floats(tokens * sizes.heads)?;
        let heads = (tokens, self.heads());
        kernels.attention(attended.view(), log_sum.view(), qkv.view(), &context.tiles, heads)?;
        let delta = self.linear(&layer.out, attended.view(), tokens, context.options)?;
        let middle = kernels.reals(tokens * sizes.hidden)?;
        kernels.add_rms_norm(
            (middle.view(), normed.view()),
            (x.view(), delta.view()),
            self.norm(layer.post_norm),
            tokens,
            sizes.epsilon,
        )?;
        let gate_up = self.linear(&layer.gate_up, normed.view(), tokens, context.options)?;
        Ok(Activations { qkv, raw, attended, log_sum, middle, gate_up })
    }

    /// The rest of the layer: what is added to the residual stream's middle.
    pub(crate) fn down(
        &self,
        layer: &Layer,
        context: &Context<D>,
        gate_up: View<'_, D>,
    ) -> Result<Array<D>, DeviceError> {
        let width = self.sizes.feed_forward;
        let activated = self.kernels.reals(context.tokens * width)?;
        self.kernels.swiglu(activated.view(), gate_up, context.tokens, width)?;
        self.linear(&layer.down, activated.view(), context.tokens, context.options)
    }

    /// Turns `dx`, the gradient of the layer's output, into that of its input, and adds to the parameters' gradients.
    pub(crate) fn layer_backward(
        &self,
        layer: &Layer,
        context: &Context<D>,
        x: &Array<D>,
        activations: Option<Activations<D>>,
        dx: &Array<D>,
    ) -> Result<(), DeviceError> {
        let (kernels, sizes, tokens) = (&self.kernels, &self.sizes, context.tokens);
        let gradient = |offset: usize, length: usize| self.base_gradient(offset, length);
        let normed = kernels.reals(tokens * sizes.hidden)?;
        let input_norm = self.norm(layer.input_norm);
        let post_norm = self.norm(layer.post_norm);
        let activations = match activations {
            Some(activations) => {
                let middle = activations.middle.view();
                kernels.rms_norm(normed.view(), middle, post_norm, tokens, sizes.epsilon)?;
                activations
            }
            None => {
                kernels.rms_norm(normed.view(), x.view(), input_norm, tokens, sizes.epsilon)?;
                self.layer_forward(layer, context, x, &normed)?
            }
        };
        // `normed` is the second norm's output here.
        let Activations { qkv, raw, attended, log_sum, middle, gate_up } = activations;

        let activated = kernels.reals(tokens * sizes.feed_forward)?;
        kernels.swiglu(activated.view(), gate_up.view(), tokens, sizes.feed_forward)?;
        let dactivated = self.linear_backward(&layer.down, activated.view(), dx.view(), context)?;
        drop(activated);
        kernels.swiglu_backward(gate_up.view(), dactivated.view(), tokens, sizes.feed_forward)?;
        drop(dactivated);
        let dnormed = self.linear_backward(&layer.gate_up, normed.view(), gate_up.view(), context)?;
        drop(gate_up);
        kernels.rms_norm_backward(
            dx.view(),
            Some(dx.view()),
            gradient(layer.post_norm, sizes.hidden),
            (middle.view(), post_norm, dnormed.view()),
            sizes.epsilon,
        )?;
        drop(dnormed);

        let dattended = self.linear_backward(&layer.out, attended.view(), dx.view(), context)?;
        let dqkv = kernels.reals(tokens * sizes.qkv())?;
        let given = AttentionGradient {
            qkv: qkv.view(),
            out: attended.view(),
            dout: dattended.view(),
            log_sum: log_sum.view(),
            tiles: &context.tiles,
            tokens,
            heads: self.heads(),
        };
        kernels.attention_backward(dqkv.view(), &given)?;
        let norms = match (layer.query_norm, layer.key_norm) {
            (Some(queries), Some(keys)) => {
                gradient(queries, sizes.head_width).zip(gradient(keys, sizes.head_width))
            }
            _ => None,
        };
        let turn = self.turn(layer, context.positions.view());
        kernels.rope_backward(dqkv.view(), raw.as_ref().map(Array::view), norms, &turn)?;
        if let Some(dbias) = layer.bias.and_then(|bias| gradient(bias, sizes.qkv())) {
            kernels.sum_columns(dbias, dqkv.view(), tokens)?;
        }
        kernels.rms_norm(normed.view(), x.view(), input_norm, tokens, sizes.epsilon)?;
        let dnormed = self.linear_backward(&layer.qkv, normed.view(), dqkv.view(), context)?;
        kernels.rms_norm_backward(
            dx.view(),
            Some(dx.view()),
            gradient(layer.input_norm, sizes.hidden),
            (x.view(), input_norm, dnormed.view()),
            sizes.epsilon,
        )
    }
}

/// Seed and rate of an adapter's dropout in this pass.
fn dropout(settings: &AdapterSettings, adapter: &Adapter, options: PassOptions) -> Option<(u64, f32)> {
    let seed = options.dropout.filter(|_| settings.dropout > 0.0)?;
    Some((seed ^ (adapter.number + 1).wrapping_mul(0xd6e8_feb8_6659_fd93), settings.dropout))
}
