//! The byte-level alphabet: each byte is written as one printable character in a vocabulary file.
//!
//! Printable Latin-1 characters stand for themselves; the other bytes, in order, are written as U+0100, U+0101, … (the
//! convention of GPT-2's vocabulary, which all byte-level BPE files share).

/// The character that stands for each byte.
pub(crate) fn byte_characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    let mut next = 0x100u32;
    for byte in 0..=255u8 {
        characters[usize::from(byte)] = if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            char::from(byte)
        } else {
            let character = char::from_u32(next).unwrap_or(char::REPLACEMENT_CHARACTER);
            next += 1;
            character
        };
    }
    characters
}

/// The bytes that a vocabulary entry stands for, or nothing where it holds a character outside the alphabet.
pub(crate) fn entry_bytes(entry: &str, alphabet: &std::collections::HashMap<char, u8>) -> Option<Vec<u8>> {
    entry.chars().map(|character| alphabet.get(&character).copied()).collect()
}

/// From character to byte.
pub(crate) fn character_bytes() -> std::collections::HashMap<char, u8> {
    byte_characters().into_iter().zip(0..=255u8).collect()
}
