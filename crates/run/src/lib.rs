//! The run folder: resolved configuration, journal, atomic writes, metrics and samples.
