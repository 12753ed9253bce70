//! The decoder language model: load, forward, backward, sample, save.
