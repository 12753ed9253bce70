//! The emulator, which the cargo feature `emulator` lets other crates' tests use, and the tests of the engine on it: every kernel and all of the host's part, without a GPU; the same checks on a GPU where one is;
//! and every kernel through the GPU's compiler.

pub(crate) mod emulator;

#[cfg(test)]
mod attention;
#[cfg(test)]
mod common;
#[cfg(test)]
mod decoding;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod gpu;
#[cfg(test)]
mod host;
#[cfg(test)]
mod invariance;
#[cfg(test)]
mod nvrtc;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod speed;
#[cfg(all(test, unix))]
mod stand_in;

#[cfg(test)]
use common::{Open, batch, distance, engine, noise, small};
