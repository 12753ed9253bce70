//! Texts that end an answer.

/// The bytes of every id, so that sampling finds stop strings. This crate itself turns no ids into text.
#[derive(Debug, Clone, Default)]
pub struct TokenBytes {
    /// Bytes of one id after the other.
    bytes: Vec<u8>,
    /// Where each id's bytes end.
    ends: Vec<usize>,
}

impl<B: AsRef<[u8]>> FromIterator<B> for TokenBytes {
    /// Takes the bytes of id 0, of id 1, and so on. An id that stands for no text has none.
    fn from_iter<I: IntoIterator<Item = B>>(ids: I) -> TokenBytes {
        let mut table = TokenBytes::default();
        for id in ids {
            table.bytes.extend_from_slice(id.as_ref());
            table.ends.push(table.bytes.len());
        }
        table
    }
}

impl TokenBytes {
    /// The bytes of an id; none for an id outside the table.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let Some(&end) = self.ends.get(id as usize) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
        &self.bytes[start..end]
    }

    /// The bytes of `ids` up to where the first of the stop strings begins; all of them where none occurs.
    pub fn text_before_stop(&self, ids: &[u32], stop_strings: &[String]) -> Vec<u8> {
        let mut text: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).copied().collect();
        let first = stop_strings.iter().filter_map(|stop| find(&text, stop.as_bytes(), 0)).min();
        text.truncate(first.unwrap_or(text.len()));
        text
    }
}

/// Where `wanted` begins in `text`, ending behind `from`.
fn find(text: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let first = (from + 1).saturating_sub(wanted.len());
    text.get(first..)?.windows(wanted.len().max(1)).position(|window| window == wanted).map(|at| first + at)
}

/// The end of an answer's text, as much of it as a stop string can begin in.
pub(super) struct StopStrings {
    stops: Vec<Vec<u8>>,
    longest: usize,
    tail: Vec<u8>,
}

impl StopStrings {
    pub(super) fn new(stops: &[String]) -> StopStrings {
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        StopStrings {
            stops: stops.iter().map(|stop| stop.as_bytes().to_vec()).collect(),
            longest,
            tail: Vec::new(),
        }
    }

    /// Whether the text holds a stop string once `bytes` are appended to it.
    pub(super) fn ends_with(&mut self, bytes: &[u8]) -> bool {
        if self.stops.is_empty() {
            return false;
        }
        let known = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let found = self.stops.iter().any(|stop| find(&self.tail, stop, known).is_some());
        self.tail.drain(..self.tail.len().saturating_sub(self.longest - 1));
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stop_string_is_found_with_the_id_that_completes_it(
            pieces in prop::collection::vec("[ab]{0,3}", 0..12),
            stops in prop::collection::vec("[ab]{1,4}", 1..4),
        ) {
            let mut state = StopStrings::new(&stops);
            let mut text = String::new();
            for piece in &pieces {
                text.push_str(piece);
                let want = stops.iter().any(|stop| text.contains(stop.as_str()));
                prop_assert_eq!(state.ends_with(piece.as_bytes()), want);
                if want {
                    break;
                }
            }
            let table: TokenBytes = pieces.iter().collect();
            let ids: Vec<u32> = (0..pieces.len() as u32).collect();
            let whole = pieces.concat();
            let cut = stops.iter().filter_map(|stop| whole.find(stop.as_str())).min().unwrap_or(whole.len());
            prop_assert_eq!(table.text_before_stop(&ids, &stops), &whole.as_bytes()[..cut]);
        }
    }
}
