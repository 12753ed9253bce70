//! Large scratch slices that are used again.
//!
//! A training step needs the same large slices each time. Given back to the operating system in between, their pages would
//! have to be mapped and cleared anew at every step, which takes more than a tenth of the time.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Numbers that lie in wait at most (16 MiB); beyond that, memory is given back. Keeping all of a step's activations would
/// save little more time, and gradients could not take the place of the activations that they replace.
const KEPT: usize = 1 << 22;

static WAITING: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A slice whose first content is unspecified: whoever takes one writes every number before reading it.
#[derive(Default)]
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// A slice of `length` numbers.
    pub(crate) fn new(length: usize) -> Buffer {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = waiting
            .iter()
            .enumerate()
            .filter(|(_, numbers)| (length..=length + length / 4).contains(&numbers.capacity()))
            .min_by_key(|(_, numbers)| numbers.capacity())
            .map(|(at, _)| at);
        let found = fitting.map(|at| waiting.swap_remove(at));
        drop(waiting);
        let mut numbers = found.unwrap_or_default();
        if numbers.capacity() == 0 {
            return Buffer(vec![0.0; length]);
        }
        numbers.resize(length, 0.0);
        Buffer(numbers)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.0);
        if numbers.capacity() == 0 {
            return;
        }
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.capacity() + waiting.iter().map(Vec::capacity).sum::<usize>() <= KEPT {
            waiting.push(numbers);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
