//! Text, byte spans, languages, parsing, leaf tokens, diff and the CWE table.
