//! Evidence in an answer becomes one reward a token, with reasons.
