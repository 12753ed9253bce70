//! Token ids to bytes and back: byte-level BPE, offsets, chat templates.
