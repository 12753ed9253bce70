//! One function a kernel: checks that the arrays are large enough, chooses the grid, launches.

use super::array::{Array, Grid, View};
use super::driver::{Argument, Driver, Matrix, Number, Product};
use super::error::DeviceError;

/// Threads of a block that works through one row.
const ROW: u32 = 128;
/// Threads of a block that works on single numbers.
const FLAT: u32 = 256;
/// Blocks at most where each goes through many rows or numbers: a few for each multiprocessor of a large GPU. Fixed, so that
/// the order of sums does not depend on the device.
const BLOCKS: usize = 512;
/// Rows that one thread sums at least before a second stage takes over.
const CHUNK: usize = 32;

type Done = Result<(), DeviceError>;

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

/// The numbers of one AdamW step.
pub(crate) struct Update {
    pub(crate) clip: f32,
    pub(crate) keep: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) step_size: f32,
    pub(crate) root2: f32,
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

/// The kernels of a driver.
pub(crate) struct Kernels<D: Driver> {
    pub(crate) driver: D,
    number: Number,
    head: usize,
}

fn word(value: usize) -> Result<u32, DeviceError> {
    u32::try_from(value)
        .map_err(|_| DeviceError::Unsupported { what: format!("{value} does not fit 32 bits") })
}

impl<D: Driver> Kernels<D> {
    pub(crate) fn new(driver: D) -> Kernels<D> {
        let (number, head) = (driver.precision().number(), driver.head_width());
        Kernels { driver, number, head }
    }

    // ---- arrays ----------------------------------------------------------------------------------------------------

    /// Weights or activations.
    pub(crate) fn reals(&self, length: usize) -> Result<Array<D>, DeviceError> {
        Array::new(&self.driver, self.number, length)
    }

    pub(crate) fn floats(&self, length: usize) -> Result<Array<D>, DeviceError> {
        Array::new(&self.driver, Number::F32, length)
    }

    pub(crate) fn zeros(&self, length: usize) -> Result<Array<D>, DeviceError> {
        let array = self.floats(length)?;
        self.clear(array.view())?;
        Ok(array)
    }

    pub(crate) fn words(&self, values: &[u32]) -> Result<Array<D>, DeviceError> {
        let array = Array::new(&self.driver, Number::U32, values.len())?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        self.driver.upload(&bytes, array.view().buffer, 0)?;
        Ok(array)
    }

    pub(crate) fn clear(&self, view: View<'_, D>) -> Done {
        let bytes = view.number.bytes();
        self.driver.clear(view.buffer, view.offset * bytes, view.length * bytes)
    }

    /// Copies numbers from the host, rounding them where the array is bf16.
    pub(crate) fn write(&self, view: View<'_, D>, values: &[f32]) -> Done {
        if values.len() != view.length || view.number == Number::U32 {
            return Err(DeviceError::input(format!("{} numbers for {}", values.len(), view.length)));
        }
        let bytes: Vec<u8> = match view.number {
            Number::Bf16 => {
                values.iter().flat_map(|&value| half::bf16::from_f32(value).to_bits().to_ne_bytes()).collect()
            }
            _ => values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        };
        self.driver.upload(&bytes, view.buffer, view.offset * view.number.bytes())
    }

    /// Copies numbers to the host, widened.
    pub(crate) fn read(&self, view: View<'_, D>) -> Result<Vec<f32>, DeviceError> {
        let mut bytes = vec![0u8; view.length * view.number.bytes()];
        self.driver.download(view.buffer, view.offset * view.number.bytes(), &mut bytes)?;
        Ok(match view.number {
            Number::Bf16 => bytes
                .chunks_exact(2)
                .map(|pair| half::bf16::from_bits(u16::from_ne_bytes([pair[0], pair[1]])).to_f32())
                .collect(),
            _ => bytes
                .chunks_exact(4)
                .map(|four| f32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
        })
    }

    pub(crate) fn copy(&self, source: View<'_, D>, target: View<'_, D>) -> Done {
        if source.number != target.number || source.length != target.length {
            return Err(DeviceError::input("a copy between different arrays"));
        }
        let bytes = source.number.bytes();
        self.driver.copy(
            (source.buffer, source.offset * bytes),
            (target.buffer, target.offset * bytes),
            source.length * bytes,
        )
    }

    // ---- launching -------------------------------------------------------------------------------------------------

    fn real<'a>(&self, view: View<'a, D>, length: usize) -> Result<Argument<'a, D::Buffer>, DeviceError> {
        view.argument(self.number, length)
    }

    fn maybe<'a>(
        &self,
        view: Option<View<'a, D>>,
        length: usize,
    ) -> Result<Argument<'a, D::Buffer>, DeviceError> {
        view.map_or(Ok(Argument::Null), |view| self.real(view, length))
    }

    fn run(
        &self,
        kernel: &'static str,
        grid: [usize; 3],
        block: u32,
        shared: usize,
        arguments: &[Argument<'_, D::Buffer>],
    ) -> Done {
        if grid.contains(&0) {
            return Ok(());
        }
        let grid = [word(grid[0])?, word(grid[1])?, word(grid[2])?];
        // SAFETY: the functions below give each kernel its own arguments, after checking that every array is as long as the
        // kernel reads or writes; lists of rows, ids and places are checked where the host makes them.
        unsafe { self.driver.launch(kernel, grid, block, word(shared)?, arguments) }
    }

    /// `out = alpha · left · right + beta · out`.
    pub(crate) fn product(
        &self,
        out: Grid<'_, D>,
        left: Grid<'_, D>,
        right: Grid<'_, D>,
        alpha: f32,
        beta: f32,
    ) -> Done {
        let (rows, columns, depth) = (left.rows(), right.columns(), left.columns());
        let fits = out.rows() == rows
            && out.columns() == columns
            && right.rows() == depth
            && !out.transposed
            && left.view.number == right.view.number
            && [out, left, right].iter().all(Grid::inside);
        if !fits {
            return Err(DeviceError::input(format!(
                "a product of {rows} × {depth} and {} × {columns} into {} × {}",
                right.rows(),
                out.rows(),
                out.columns()
            )));
        }
        if rows == 0 || columns == 0 {
            return Ok(());
        }
        // SAFETY: all three lie inside their arrays, as was checked; the engine never gives one array twice.
        unsafe {
            self.driver.product(&Product {
                rows,
                columns,
                depth,
                left: matrix(left),
                right: matrix(right),
                out: matrix(out),
                alpha,
                beta,
            })
        }
    }

    // ---- norms and rows --------------------------------------------------------------------------------------------

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

    fn add_columns(&self, target: View<'_, D>, partial: View<'_, D>, rows: usize, stride: usize) -> Done {
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

    fn flat_blocks(&self, length: usize) -> [usize; 3] {
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

    // ---- attention -------------------------------------------------------------------------------------------------

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

    // ---- head and optimiser ----------------------------------------------------------------------------------------

    /// `scores [rows, 3]` of `logits [rows, vocabulary]`; every target lies in the vocabulary.
    pub(crate) fn score(
        &self,
        scores: View<'_, D>,
        logits: View<'_, D>,
        targets: View<'_, D>,
        vocabulary: usize,
    ) -> Done {
        let rows = targets.length;
        let arguments = [
            scores.argument(Number::F32, 3 * rows)?,
            logits.argument(Number::F32, rows * vocabulary)?,
            targets.argument(Number::U32, rows)?,
            Argument::U32(word(vocabulary)?),
        ];
        self.run("score", [rows, 1, 1], FLAT, 0, &arguments)
    }

    pub(crate) fn score_backward(
        &self,
        out: View<'_, D>,
        logits: View<'_, D>,
        (scores, slopes, targets): (View<'_, D>, View<'_, D>, View<'_, D>),
        vocabulary: usize,
        inverse_temperature: f32,
    ) -> Done {
        let rows = targets.length;
        let arguments = [
            self.real(out, rows * vocabulary)?,
            logits.argument(Number::F32, rows * vocabulary)?,
            scores.argument(Number::F32, 3 * rows)?,
            slopes.argument(Number::F32, 2 * rows)?,
            targets.argument(Number::U32, rows)?,
            Argument::U32(word(vocabulary)?),
            Argument::F32(inverse_temperature),
        ];
        self.run("score_backward", [rows, vocabulary.div_ceil(FLAT as usize), 1], FLAT, 0, &arguments)
    }

    /// Σ x², added up in f64 over blocks of a fixed grid.
    pub(crate) fn sum_squares(&self, x: View<'_, D>) -> Result<f64, DeviceError> {
        let blocks = x.length.div_ceil(FLAT as usize).min(8 * BLOCKS);
        let partial = self.floats(blocks)?;
        let arguments = [
            partial.view().argument(Number::F32, blocks)?,
            x.argument(Number::F32, x.length)?,
            Argument::U64(x.length as u64),
        ];
        self.run("sum_squares", [blocks, 1, 1], FLAT, 0, &arguments)?;
        Ok(self.read(partial.view())?.iter().map(|&sum| f64::from(sum)).sum())
    }

    /// One step on the numbers `first..first + length` of arrays that lie side by side.
    pub(crate) fn adamw(
        &self,
        (master, working): (View<'_, D>, Option<View<'_, D>>),
        (gradient, mean, square): (View<'_, D>, View<'_, D>, View<'_, D>),
        (first, length): (usize, usize),
        update: &Update,
    ) -> Done {
        let end = first + length;
        let arguments = [
            master.argument(Number::F32, end)?,
            self.maybe(working, end)?,
            gradient.argument(Number::F32, end)?,
            mean.argument(Number::F32, end)?,
            square.argument(Number::F32, end)?,
            Argument::U64(first as u64),
            Argument::U64(length as u64),
            Argument::F32(update.clip),
            Argument::F32(update.keep),
            Argument::F32(update.beta1),
            Argument::F32(update.beta2),
            Argument::F32(update.step_size),
            Argument::F32(update.root2),
            Argument::F32(update.epsilon),
        ];
        self.run("adamw", self.flat_blocks(length), FLAT, 0, &arguments)
    }
}

fn matrix<'a, D: Driver>(grid: Grid<'a, D>) -> Matrix<'a, D::Buffer> {
    Matrix {
        buffer: grid.view.buffer,
        number: grid.view.number,
        offset: grid.view.offset,
        stride: grid.stride,
        transposed: grid.transposed,
    }
}
