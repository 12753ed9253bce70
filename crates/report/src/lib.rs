//! The HTML report of a run, drawn from its folder alone.
