//! Norms, and what is done to rows and single numbers.

use super::{BLOCKS, Done, FLAT, Kernels, ROW, word};
use crate::cuda::array::View;
use crate::cuda::driver::{Argument, Driver, Number};
use crate::device::DeviceError;

/// Rows that one thread sums at least before a second stage takes over.
const CHUNK: usize = 32;

impl<D: Driver> Kernels<D> {
    pub(crate) fn rms_norm(
        &self,
        out: View<'_, D>,
        x: View<'_, D>,
        weight: View<'_, D>,
        rows: usize,
        epsilon: f32,
    ) -> Done {
        let (width, all) = (weight.length, rows * weight.length);
        let arguments = [
            self.real(out, all)?,
            self.real(x, all)?,
            self.real(weight, width)?,
            Argument::U32(word(width)?),
            Argument::F32(epsilon),
        ];
        self.run("rms_norm", [rows, 1, 1], ROW, 0, &arguments)
    }

    /// `sum = x + delta`, `out` = its norm.
    pub(crate) fn add_rms_norm(
        &self,
        (sum, out): (View<'_, D>, View<'_, D>),
        (x, delta): (View<'_, D>, View<'_, D>),
        weight: View<'_, D>,
        rows: usize,
        epsilon: f32,
    ) -> Done {
        let (width, all) = (weight.length, rows * weight.length);
        let arguments = [
            self.real(sum, all)?,
            self.real(out, all)?,
            self.real(x, all)?,
            self.real(delta, all)?,
            self.real(weight, width)?,
            Argument::U32(word(width)?),
            Argument::F32(epsilon),
        ];
        self.run("add_rms_norm", [rows, 1, 1], ROW, 0, &arguments)
    }

    /// `dx = base + gradient`, and adds to `dweight` where it is given.
    pub(crate) fn rms_norm_backward(
        &self,
        dx: View<'_, D>,
        base: Option<View<'_, D>>,
        dweight: Option<View<'_, D>>,
        (x, weight, dy): (View<'_, D>, View<'_, D>, View<'_, D>),
        epsilon: f32,
    ) -> Done {
        let width = weight.length;
        let (all, rows) = (x.length, x.length / width);
        let blocks = rows.min(BLOCKS);
        let partial = dweight.map(|_| self.floats(blocks * width)).transpose()?;
        let arguments = [
            self.real(dx, all)?,
            self.maybe(base, all)?,
            match &partial {
                Some(partial) => partial.view().argument(Number::F32, blocks * width)?,
                None => Argument::Null,
            },
            self.real(x, all)?,
            self.real(weight, width)?,
            self.real(dy, all)?,
            Argument::U32(word(rows)?),
            Argument::U32(word(width)?),
            Argument::F32(epsilon),
        ];
        self.run("rms_norm_backward", [blocks, 1, 1], ROW, width * 4, &arguments)?;
        match (&partial, dweight) {
            (Some(partial), Some(dweight)) => self.add_columns(dweight, partial.view(), blocks, width),
            _ => Ok(()),
        }
    }

    /// `out [ids, width] = table[ids]`; every id lies in the table.
    pub(crate) fn gather(
        &self,
        out: View<'_, D>,
        table: View<'_, D>,
        ids: View<'_, D>,
        width: usize,
    ) -> Done {
        let arguments = [
            self.real(out, ids.length * width)?,
            self.real(table, width)?,
            ids.argument(Number::U32, ids.length)?,
            Argument::U32(word(width)?),
        ];
        self.run("gather", [ids.length, 1, 1], ROW, 0, &arguments)
    }

    /// `target[ids[i]] += rows[i]` for all i, in an order that depends on `ids` alone. `rows` is f32 or of the activations' type;
    /// every id is a row of `target`.
    pub(crate) fn scatter_add(
        &self,
        target: View<'_, D>,
        rows: View<'_, D>,
        ids: &[u32],
        width: usize,
    ) -> Done {
        /// Rows that one thread adds at most.
        const PIECE: usize = 32;
        let mut order: Vec<u32> = (0..word(ids.len())?).collect();
        order.sort_by_key(|&at| ids[at as usize]);
        let (mut pieces, mut segments, mut unique) = (vec![0u32], vec![0u32], Vec::new());
        let mut at = 0;
        while at < order.len() {
            let id = ids[order[at] as usize];
            let end = at + order[at..].iter().take_while(|&&other| ids[other as usize] == id).count();
            while at < end {
                at = (at + PIECE).min(end);
                pieces.push(word(at)?);
            }
            unique.push(id);
            segments.push(word(pieces.len() - 1)?);
        }
        if let Some(&most) = unique.last()
            && (most as usize + 1) * width > target.length
        {
            return Err(DeviceError::input(format!("row {most} of {}", target.length / width)));
        }
        let (count, columns) = (pieces.len() - 1, width.div_ceil(FLAT as usize));
        let partial = self.floats(count * width)?;
        let (order, pieces) = (self.words(&order)?, self.words(&pieces)?);
        let (kernel, number) = match rows.number {
            Number::F32 => ("sum_pieces_float", Number::F32),
            number => ("sum_pieces", number),
        };
        let arguments = [
            partial.view().argument(Number::F32, count * width)?,
            rows.argument(number, ids.len() * width)?,
            order.view().argument(Number::U32, ids.len())?,
            pieces.view().argument(Number::U32, count + 1)?,
            Argument::U32(word(width)?),
        ];
        self.run(kernel, [count, columns, 1], FLAT, 0, &arguments)?;
        let (segments, unique) = (self.words(&segments)?, self.words(&unique)?);
        let arguments = [
            target.argument(Number::F32, target.length)?,
            partial.view().argument(Number::F32, count * width)?,
            unique.view().argument(Number::U32, unique.length())?,
            segments.view().argument(Number::U32, unique.length() + 1)?,
            Argument::U32(word(width)?),
        ];
        self.run("add_segments", [unique.length(), columns, 1], FLAT, 0, &arguments)
    }

    pub(super) fn add_columns(
        &self,
        target: View<'_, D>,
        partial: View<'_, D>,
        rows: usize,
        stride: usize,
    ) -> Done {
        let width = target.length;
        let arguments = [
            target.argument(Number::F32, width)?,
            partial.argument(Number::F32, rows.saturating_sub(1) * stride + width)?,
            Argument::U32(word(rows)?),
            Argument::U32(word(width)?),
            Argument::U32(word(stride)?),
        ];
        self.run("add_columns", [width.div_ceil(FLAT as usize), 1, 1], FLAT, 0, &arguments)
    }

    /// Adds the sum over the rows of `x [rows, target]` to `target`.
    pub(crate) fn sum_columns(&self, target: View<'_, D>, x: View<'_, D>, rows: usize) -> Done {
        let width = target.length;
        let per_chunk = rows.div_ceil(BLOCKS).max(CHUNK);
        let chunks = rows.div_ceil(per_chunk);
        let partial = self.floats(chunks * width)?;
        let arguments = [
            partial.view().argument(Number::F32, chunks * width)?,
            self.real(x, rows * width)?,
            Argument::U32(word(rows)?),
            Argument::U32(word(width)?),
            Argument::U32(word(width)?),
            Argument::U32(word(per_chunk)?),
        ];
        self.run("column_partials", [width.div_ceil(FLAT as usize), chunks, 1], FLAT, 0, &arguments)?;
        self.add_columns(target, partial.view(), chunks, width)
    }

    pub(crate) fn swiglu(&self, out: View<'_, D>, gate_up: View<'_, D>, rows: usize, width: usize) -> Done {
        let arguments = [
            self.real(out, rows * width)?,
            self.real(gate_up, 2 * rows * width)?,
            Argument::U32(word(width)?),
        ];
        self.run("swiglu", [rows, self.pack_blocks(width), 1], ROW, 0, &arguments)
    }

    /// `gate_up` becomes its gradient, from that of the activation.
    pub(crate) fn swiglu_backward(
        &self,
        gate_up: View<'_, D>,
        dout: View<'_, D>,
        rows: usize,
        width: usize,
    ) -> Done {
        let arguments = [
            self.real(gate_up, 2 * rows * width)?,
            self.real(dout, rows * width)?,
            Argument::U32(word(width)?),
        ];
        self.run("swiglu_backward", [rows, self.pack_blocks(width), 1], ROW, 0, &arguments)
    }

    fn pack_blocks(&self, width: usize) -> usize {
        width.div_ceil(ROW as usize * 16 / self.number.bytes())
    }

    pub(super) fn flat_blocks(&self, length: usize) -> [usize; 3] {
        [length.div_ceil(FLAT as usize).min(8 * BLOCKS), 1, 1]
    }

    /// `out = base + x`, where a share `rate` of x is left out and the rest is scaled up.
    pub(crate) fn dropout(
        &self,
        out: View<'_, D>,
        base: Option<View<'_, D>>,
        x: View<'_, D>,
        (seed, rate): (u64, f32),
    ) -> Done {
        let length = out.length;
        let arguments = [
            self.real(out, length)?,
            self.maybe(base, length)?,
            self.real(x, length)?,
            Argument::U64(length as u64),
            Argument::U64(seed),
            Argument::F32(rate),
        ];
        self.run("dropout", self.flat_blocks(length), FLAT, 0, &arguments)
    }

    /// Rounds f32 numbers to the type of the activations.
    pub(crate) fn narrow(&self, out: View<'_, D>, x: View<'_, D>) -> Done {
        let length = out.length;
        let arguments =
            [self.real(out, length)?, x.argument(Number::F32, length)?, Argument::U64(length as u64)];
        self.run("narrow_all", self.flat_blocks(length), FLAT, 0, &arguments)
    }

    pub(crate) fn add(&self, target: View<'_, D>, x: View<'_, D>) -> Done {
        let length = target.length;
        let arguments = [
            target.argument(Number::F32, length)?,
            x.argument(Number::F32, length)?,
            Argument::U64(length as u64),
        ];
        self.run("add_all", self.flat_blocks(length), FLAT, 0, &arguments)
    }
}
