//! The rotary embedding and attention: packed, backward, and against a cache.

use super::{BLOCKS, Done, Kernels, ROW, word};
use crate::cuda::array::{Array, View};
use crate::cuda::driver::{Argument, Driver, Number};
use crate::device::DeviceError;

/// Tiles of 64 places into which the attention kernels cut packed sequences.
pub(crate) struct Tiles<D: Driver> {
    pub(crate) list: Array<D>,
    pub(crate) count: usize,
}

/// Heads of a row of qkv.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadCounts {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
}

impl HeadCounts {
    fn all(self) -> usize {
        self.queries + 2 * self.keys
    }
}

/// What `rope` needs beside the rows.
pub(crate) struct Turn<'a, D: Driver> {
    pub(crate) query_norm: Option<View<'a, D>>,
    pub(crate) key_norm: Option<View<'a, D>>,
    pub(crate) table: View<'a, D>,
    pub(crate) positions: View<'a, D>,
    pub(crate) heads: HeadCounts,
    pub(crate) epsilon: f32,
}

/// What the attention kernels of the backward pass share.
pub(crate) struct AttentionGradient<'a, D: Driver> {
    pub(crate) qkv: View<'a, D>,
    pub(crate) out: View<'a, D>,
    pub(crate) dout: View<'a, D>,
    pub(crate) log_sum: View<'a, D>,
    pub(crate) tiles: &'a Tiles<D>,
    pub(crate) tokens: usize,
    pub(crate) heads: HeadCounts,
}

/// A cache of one layer, as kernels see it.
pub(crate) struct CacheRows<'a, D: Driver> {
    pub(crate) keys: View<'a, D>,
    pub(crate) values: View<'a, D>,
    pub(crate) slots: View<'a, D>,
    pub(crate) positions: View<'a, D>,
    pub(crate) capacity: usize,
    pub(crate) heads: HeadCounts,
    pub(crate) rows: usize,
}

impl<D: Driver> Kernels<D> {
    /// Tiles of packed sequences, longest work first, so that no block starts late with much to do.
    pub(crate) fn tiles(&self, offsets: &[u32]) -> Result<Tiles<D>, DeviceError> {
        let mut tiles: Vec<[u32; 3]> = Vec::new();
        for pair in offsets.windows(2) {
            let length = pair[1] - pair[0];
            tiles.extend((0..length).step_by(64).map(|first| [pair[0], length, first]));
        }
        tiles.sort_by_key(|&[start, _, first]| (std::cmp::Reverse(first), start));
        Ok(Tiles { list: self.words(tiles.as_flattened())?, count: tiles.len() })
    }

    /// Numbers that `rows` rows of a tile take in shared memory (STRIDE of attention.cu).
    fn tile_bytes(&self, rows: usize) -> usize {
        let size = self.number.bytes();
        rows * (self.head.next_multiple_of(16) + 16 / size) * size
    }

    /// COLUMNS of attention.cu.
    fn tile_columns(&self) -> usize {
        if self.number == Number::Bf16 { 64 } else { 32 }
    }

    /// The factor of a score in powers of two, and as it is.
    fn scales(&self) -> (f32, f32) {
        let linear = 1.0 / (self.head as f32).sqrt();
        (linear * std::f32::consts::LOG2_E, linear)
    }

    /// Bias, norms of heads and the rotary embedding; `out` may be `x`.
    pub(crate) fn rope(
        &self,
        out: View<'_, D>,
        x: View<'_, D>,
        bias: Option<View<'_, D>>,
        turn: &Turn<'_, D>,
    ) -> Done {
        let tokens = turn.positions.length;
        let row = turn.heads.all() * self.head;
        let arguments = [
            self.real(out, tokens * row)?,
            self.real(x, tokens * row)?,
            self.maybe(bias, row)?,
            self.maybe(turn.query_norm, self.head)?,
            self.maybe(turn.key_norm, self.head)?,
            turn.table.argument(Number::F32, self.head)?,
            turn.positions.argument(Number::U32, tokens)?,
            Argument::U32(word(turn.heads.queries)?),
            Argument::U32(word(turn.heads.keys)?),
            Argument::F32(turn.epsilon),
        ];
        self.run("rope", [tokens, 1, 1], ROW, 0, &arguments)
    }

    /// Turns the gradient of what [`Kernels::rope`] wrote into that of what it read (`x`, needed where there are norms), and adds to
    /// the gradients of the two norms where they are given.
    pub(crate) fn rope_backward(
        &self,
        dx: View<'_, D>,
        x: Option<View<'_, D>>,
        dnorms: Option<(View<'_, D>, View<'_, D>)>,
        turn: &Turn<'_, D>,
    ) -> Done {
        let tokens = turn.positions.length;
        let row = turn.heads.all() * self.head;
        let blocks = tokens.min(BLOCKS);
        let partial = dnorms.map(|_| self.floats(blocks * 2 * self.head)).transpose()?;
        let arguments = [
            self.real(dx, tokens * row)?,
            match &partial {
                Some(partial) => partial.view().argument(Number::F32, blocks * 2 * self.head)?,
                None => Argument::Null,
            },
            self.maybe(x, tokens * row)?,
            self.maybe(turn.query_norm, self.head)?,
            self.maybe(turn.key_norm, self.head)?,
            turn.table.argument(Number::F32, self.head)?,
            turn.positions.argument(Number::U32, tokens)?,
            Argument::U32(word(tokens)?),
            Argument::U32(word(turn.heads.queries)?),
            Argument::U32(word(turn.heads.keys)?),
            Argument::F32(turn.epsilon),
        ];
        let shared = ROW as usize / 32 * 2 * self.head * 4;
        self.run("rope_backward", [blocks, 1, 1], ROW, shared, &arguments)?;
        if let (Some(partial), Some((queries, keys))) = (&partial, dnorms) {
            self.add_columns(queries, partial.view(), blocks, 2 * self.head)?;
            let rest = partial.part(self.head, partial.length() - self.head);
            self.add_columns(keys, rest, blocks, 2 * self.head)?;
        }
        Ok(())
    }

    pub(crate) fn attention(
        &self,
        out: View<'_, D>,
        log_sum: View<'_, D>,
        qkv: View<'_, D>,
        tiles: &Tiles<D>,
        (tokens, heads): (usize, HeadCounts),
    ) -> Done {
        let arguments = [
            self.real(out, tokens * heads.queries * self.head)?,
            log_sum.argument(Number::F32, tokens * heads.queries)?,
            self.real(qkv, tokens * heads.all() * self.head)?,
            tiles.list.view().argument(Number::U32, 3 * tiles.count)?,
            Argument::U32(word(tokens)?),
            Argument::U32(word(heads.queries)?),
            Argument::U32(word(heads.keys)?),
            Argument::F32(self.scales().0),
        ];
        let shared = self.tile_bytes(64 + 2 * self.tile_columns());
        self.run("attention", [tiles.count, heads.queries, 1], ROW, shared, &arguments)
    }

    /// The gradient `dqkv` of attention.
    pub(crate) fn attention_backward(&self, dqkv: View<'_, D>, given: &AttentionGradient<'_, D>) -> Done {
        let AttentionGradient { tokens, heads, tiles, .. } = *given;
        let (width, row) = (heads.queries * self.head, heads.all() * self.head);
        let product = self.floats(tokens * heads.queries)?;
        let arguments = [
            product.view().argument(Number::F32, tokens * heads.queries)?,
            self.real(given.out, tokens * width)?,
            self.real(given.dout, tokens * width)?,
            Argument::U32(word(tokens)?),
            Argument::U32(word(heads.queries)?),
        ];
        self.run("attention_product", [tokens, 1, 1], ROW, 0, &arguments)?;
        let (scale, linear) = self.scales();
        let shared = self.tile_bytes(128 + 2 * self.tile_columns());
        for (kernel, count, more) in [
            ("attention_queries", heads.queries, 0),
            ("attention_keys", heads.keys, 2 * self.tile_columns() * 4),
        ] {
            let arguments = [
                self.real(dqkv, tokens * row)?,
                self.real(given.qkv, tokens * row)?,
                self.real(given.dout, tokens * width)?,
                given.log_sum.argument(Number::F32, tokens * heads.queries)?,
                product.view().argument(Number::F32, tokens * heads.queries)?,
                tiles.list.view().argument(Number::U32, 3 * tiles.count)?,
                Argument::U32(word(tokens)?),
                Argument::U32(word(heads.queries)?),
                Argument::U32(word(heads.keys)?),
                Argument::F32(scale),
                Argument::F32(linear),
            ];
            self.run(kernel, [tiles.count, count, 1], ROW, shared + more, &arguments)?;
        }
        Ok(())
    }

    fn check_cache(&self, rows: &CacheRows<'_, D>) -> Done {
        let per_slot = rows.capacity * rows.heads.keys * self.head;
        if rows.keys.length != rows.values.length || !rows.keys.length.is_multiple_of(per_slot.max(1)) {
            return Err(DeviceError::input("a cache of another shape"));
        }
        Ok(())
    }

    /// Stores keys and values of rows of qkv.
    pub(crate) fn store_cache(&self, rows: &CacheRows<'_, D>, qkv: View<'_, D>) -> Done {
        self.check_cache(rows)?;
        let arguments = [
            self.real(rows.keys, rows.keys.length)?,
            self.real(rows.values, rows.values.length)?,
            self.real(qkv, rows.rows * rows.heads.all() * self.head)?,
            rows.slots.argument(Number::U32, rows.rows)?,
            rows.positions.argument(Number::U32, rows.rows)?,
            Argument::U32(word(rows.capacity)?),
            Argument::U32(word(rows.heads.queries)?),
            Argument::U32(word(rows.heads.keys)?),
        ];
        self.run("store_cache", [rows.rows, 1, 1], ROW, 0, &arguments)
    }

    /// Attention of one token a row over what its slot holds; `longest` is the largest of the positions, plus one.
    pub(crate) fn decode_attention(
        &self,
        out: View<'_, D>,
        rows: &CacheRows<'_, D>,
        qkv: View<'_, D>,
        longest: usize,
    ) -> Done {
        self.check_cache(rows)?;
        let (count, heads) = (rows.rows, rows.heads);
        // Enough blocks to fill a large GPU, but at least 128 keys each, so that merging them stays small.
        let splits = (BLOCKS / (count * heads.queries).max(1)).clamp(1, longest.div_ceil(128).max(1));
        let per_split = longest.div_ceil(splits);
        let partial = self.floats(count * heads.queries * splits * (self.head + 2))?;
        let arguments = [
            partial.view().argument(Number::F32, partial.length())?,
            self.real(qkv, count * heads.all() * self.head)?,
            self.real(rows.keys, rows.keys.length)?,
            self.real(rows.values, rows.values.length)?,
            rows.slots.argument(Number::U32, count)?,
            rows.positions.argument(Number::U32, count)?,
            Argument::U32(word(rows.capacity)?),
            Argument::U32(word(heads.queries)?),
            Argument::U32(word(heads.keys)?),
            Argument::U32(word(per_split)?),
            Argument::F32(self.scales().0),
        ];
        let lanes = (self.head.div_ceil(8)).next_power_of_two().min(32);
        let shared = ROW as usize / lanes * (self.head + 2) * 4;
        self.run("decode_attention", [count, heads.queries, splits], ROW, shared, &arguments)?;
        let arguments = [
            self.real(out, count * heads.queries * self.head)?,
            partial.view().argument(Number::F32, partial.length())?,
            Argument::U32(word(heads.queries)?),
            Argument::U32(word(splits)?),
        ];
        self.run("combine_splits", [count, heads.queries, 1], 64, 0, &arguments)
    }
}
