//! A driver that runs the kernels on the processor: `kernels/*.cu` behind `shim.hpp`, compiled by the C++ compiler at hand.

use std::alloc::Layout;
use std::collections::HashMap;
use std::ffi::c_void;
use std::path::PathBuf;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Library;

use crate::cuda::driver::{Argument, Driver, Matrix, Number, Precision, Product};
use crate::cuda::source;
use crate::device::DeviceError;

/// Bytes before and after every buffer that nothing may touch; also the alignment that CUDA gives.
const GUARD: usize = 256;
const UNTOUCHED: u8 = 0xa5;

type Launch = unsafe extern "C" fn(*const u32, u32, u32, *const *mut c_void, i32);

/// The kernels for one precision and head width, run on this processor.
pub(crate) struct Emulator {
    library: Arc<Library>,
    precision: Precision,
    head_width: usize,
    /// Whether blocks and threads run in descending order.
    pub(crate) descending: bool,
    held: Arc<Held>,
}

/// Bytes that are held now, and the most that ever were.
#[derive(Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Libraries that this process has compiled, by what they were compiled with.
static COMPILED: Mutex<Option<HashMap<Vec<String>, Arc<Library>>>> = Mutex::new(None);

/// Memory between two guards. New memory is full of NaN, so that a read before a write shows.
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    held: Arc<Held>,
}

impl Memory {
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes + 2 * GUARD, GUARD).expect("a size that fits")
    }

    fn new(bytes: usize, held: Arc<Held>) -> Memory {
        let now = held.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        held.most.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the layout is not empty; all of the memory is written at once.
        let start = unsafe {
            let start = NonNull::new(std::alloc::alloc(Memory::layout(bytes))).expect("memory");
            start.write_bytes(UNTOUCHED, bytes + 2 * GUARD);
            start.add(GUARD).write_bytes(0xff, bytes);
            start
        };
        Memory { start, bytes, held }
    }

    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset + bytes <= self.bytes, "{offset} + {bytes} of {} bytes", self.bytes);
        // SAFETY: the place lies inside the allocation, as was just checked.
        unsafe { self.start.as_ptr().add(GUARD + offset) }
    }
}

// SAFETY: the memory belongs to this value alone, whichever thread holds it.
unsafe impl Send for Memory {}
// SAFETY: it is read and written through copies and kernels, which happen in the order of the calls on a real device and here in
// the thread that makes them; like a stream's calls, those of one model are made by one thread at a time.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        self.held.now.fetch_sub(self.bytes, Ordering::Relaxed);
        // SAFETY: the allocation is `bytes + 2 · GUARD` long, and was written when it was made.
        let intact = unsafe {
            let guard = |at: usize| std::slice::from_raw_parts(self.start.as_ptr().add(at), GUARD);
            guard(0).iter().chain(guard(GUARD + self.bytes)).all(|&byte| byte == UNTOUCHED)
        };
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), Memory::layout(self.bytes)) };
        if !intact && !std::thread::panicking() {
            panic!("something was written beside a buffer of {} bytes", self.bytes);
        }
    }
}

/// The first C++ compiler that answers.
pub(super) fn compiler() -> Option<String> {
    let named = std::env::var("CXX").ok();
    named
        .into_iter()
        .chain(["c++", "g++", "clang++"].map(String::from))
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
}

impl Emulator {
    /// The kernels compiled for the processor, or the reason why not, printed.
    pub(crate) fn new(precision: Precision, head_width: usize) -> Option<Emulator> {
        Emulator::with_flags(precision, head_width, &[])
    }

    /// The most bytes that were held at a time.
    #[cfg(test)]
    pub(crate) fn peak(&self) -> usize {
        self.held.most.load(Ordering::Relaxed)
    }

    pub(crate) fn with_flags(precision: Precision, head_width: usize, flags: &[&str]) -> Option<Emulator> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            println!("skipped: the emulator runs on x86-64 Linux only");
            return None;
        }
        let Some(compiler) = compiler() else {
            println!("skipped: no C++ compiler (CXX, c++, g++ or clang++)");
            return None;
        };
        let mut options = vec![format!("-DHEAD={head_width}")];
        options.extend(flags.iter().map(|flag| flag.to_string()));
        if precision == Precision::Bf16 {
            options.push("-DBF16".into());
        }
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = compiled.get_or_insert_default();
        let library =
            compiled.entry(options).or_insert_with_key(|options| Arc::new(build(&compiler, options)));
        Some(Emulator {
            library: library.clone(),
            precision,
            head_width,
            descending: false,
            held: Arc::default(),
        })
    }
}

/// A C function for each kernel that runs it on a grid.
pub(super) fn wrappers() -> String {
    let wrapper = |name: &str| {
        format!(
            "extern \"C\" void launch_{name}(const unsigned* grid, unsigned threads, unsigned shared, void** arguments, \
             int order) {{ emulator::launch([](void** a) {{ emulator::call({name}, a); }}, grid, threads, shared, \
             arguments, order); }}\n"
        )
    };
    source::names().into_iter().map(wrapper).collect()
}

fn build(compiler: &str, options: &[String]) -> Library {
    let text = [include_str!("shim.hpp"), source::SOURCE, &wrappers()].concat();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, output) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
    std::fs::write(&input, text).expect("the source is written");
    // A misaligned 16-byte access works here and fails on a GPU: the sanitiser makes it fail here too.
    let mut command = Command::new(compiler);
    command.args(["-std=c++17", "-O2", "-shared", "-fPIC", "-fno-strict-aliasing", "-fsanitize=alignment"]);
    command.args(["-fsanitize-undefined-trap-on-error", "-w"]).args(options);
    let done = command.arg(&input).arg("-o").arg(&output).output().expect("the compiler runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    load(output)
}

fn load(path: PathBuf) -> Library {
    // SAFETY: the library was just compiled from the kernels; loading it runs nothing.
    unsafe { Library::new(path) }.expect("the compiled kernels load")
}

/// A number of a matrix.
fn number(matrix: &Matrix<'_, Memory>, row: usize, column: usize) -> f32 {
    let (row, column) = if matrix.transposed { (column, row) } else { (row, column) };
    let size = matrix.number.bytes();
    let at = matrix.buffer.at((matrix.offset + row * matrix.stride + column) * size, size);
    // SAFETY: `at` checked that the number lies inside, and numbers lie at multiples of their size.
    unsafe {
        match matrix.number {
            Number::Bf16 => half::bf16::from_bits(at.cast::<u16>().read()).to_f32(),
            _ => at.cast::<f32>().read(),
        }
    }
}

impl Driver for Emulator {
    type Buffer = Memory;

    fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        Ok(Memory::new(bytes, self.held.clone()))
    }

    fn size(&self, buffer: &Memory) -> usize {
        buffer.bytes
    }

    fn clear(&self, target: &Memory, offset: usize, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: `at` checks the range.
        unsafe { target.at(offset, bytes).write_bytes(0, bytes) };
        Ok(())
    }

    fn upload(&self, bytes: &[u8], target: &Memory, offset: usize) -> Result<(), DeviceError> {
        // SAFETY: `at` checks the range, and a slice of the host is no part of it.
        unsafe { target.at(offset, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn download(&self, source: &Memory, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: as above.
        unsafe { source.at(offset, bytes.len()).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn copy(
        &self,
        source: (&Memory, usize),
        target: (&Memory, usize),
        bytes: usize,
    ) -> Result<(), DeviceError> {
        // SAFETY: `at` checks both ranges; an overlap would be copied in the right order.
        unsafe { source.0.at(source.1, bytes).copy_to(target.0.at(target.1, bytes), bytes) };
        Ok(())
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        arguments: &[Argument<'_, Memory>],
    ) -> Result<(), DeviceError> {
        // Each argument in eight bytes, and a list of where they lie, as cuLaunchKernel takes them.
        let mut values: Vec<u64> = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Pointer(buffer, offset) => buffer.at(*offset, 0) as u64,
                Argument::Null => 0,
                Argument::U32(value) => u64::from(*value),
                Argument::U64(value) => *value,
                Argument::F32(value) => u64::from(value.to_bits()),
            })
            .collect();
        let pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast::<c_void>()).collect();
        // SAFETY: the wrapper of each kernel was compiled with this signature, and by the contract of this function the
        // arguments are the kernel's.
        unsafe {
            let launch = self
                .library
                .get::<Launch>(format!("launch_{kernel}").as_bytes())
                .map_err(|error| DeviceError::call(kernel, error))?;
            launch(grid.as_ptr(), block, shared, pointers.as_ptr(), i32::from(self.descending));
        }
        Ok(())
    }

    unsafe fn product(&self, product: &Product<'_, Memory>) -> Result<(), DeviceError> {
        for row in 0..product.rows {
            let left: Vec<f32> = (0..product.depth).map(|k| number(&product.left, row, k)).collect();
            for column in 0..product.columns {
                let sum: f32 =
                    left.iter().enumerate().map(|(k, left)| left * number(&product.right, k, column)).sum();
                let before =
                    if product.beta == 0.0 { 0.0 } else { product.beta * number(&product.out, row, column) };
                let value = product.alpha * sum + before;
                let (out, size) = (&product.out, product.out.number.bytes());
                let at = out.buffer.at((out.offset + row * out.stride + column) * size, size);
                // SAFETY: `at` checked the range.
                unsafe {
                    match out.number {
                        Number::Bf16 => at.cast::<u16>().write(half::bf16::from_f32(value).to_bits()),
                        _ => at.cast::<f32>().write(value),
                    }
                }
            }
        }
        Ok(())
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn head_width(&self) -> usize {
        self.head_width
    }
}
