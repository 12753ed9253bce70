//! The engine on the emulator: every kernel and all of the host's part, without a GPU.

mod emulator;
mod golden;
