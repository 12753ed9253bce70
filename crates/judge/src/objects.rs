//! Shared objects of answers that were compiled before.
//!
//! A compiler takes fifty times as long as a test. The same text is judged again whenever samples repeat, and once for
//! each of its sites when the range is checked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use vul2safe_code::Language;

use crate::compile::{Surroundings, Uncompiled};

/// Most bytes of objects and texts that are kept.
const KEPT_BYTES: usize = 64 << 20;

/// What an object depends on, but for the compiler, which stays the same for the life of a judge.
type Key = (Language, String, Surroundings);
/// The object, or the compiler's complaint.
type Compiled = Result<Arc<Vec<u8>>, String>;

/// Keeps what was compiled last. One value serves any number of threads.
#[derive(Default)]
pub(crate) struct Objects {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_text: HashMap<Arc<Key>, Compiled>,
    /// In the order in which they came.
    order: VecDeque<Arc<Key>>,
    bytes: usize,
}

impl Objects {
    /// The object of this answer: the one that is kept, or what `compile` gives. What says nothing about the answer
    /// ([`Uncompiled::NotRun`]) is tried anew the next time.
    pub(crate) fn get(
        &self,
        language: Language,
        answer: &str,
        surroundings: &Surroundings,
        compile: impl FnOnce() -> Result<Vec<u8>, Uncompiled>,
    ) -> Result<Arc<Vec<u8>>, Uncompiled> {
        let key = Arc::new((language, answer.to_owned(), surroundings.clone()));
        if let Some(compiled) = self.lock().by_text.get(&key) {
            return compiled.clone().map_err(Uncompiled::Refused);
        }
        // Not under the lock: other answers are compiled meanwhile.
        let compiled = match compile() {
            Ok(object) => Ok(Arc::new(object)),
            Err(Uncompiled::Refused(why)) => Err(why),
            Err(Uncompiled::NotRun(why)) => return Err(Uncompiled::NotRun(why)),
        };
        self.lock().keep(key, compiled.clone());
        compiled.map_err(Uncompiled::Refused)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, key: Arc<Key>, compiled: Compiled) {
        let bytes = size(&key, &compiled);
        if bytes > KEPT_BYTES || self.by_text.insert(key.clone(), compiled).is_some() {
            // Too large to keep, or another thread was faster with the same text, whose bytes are counted.
            return;
        }
        self.order.push_back(key);
        self.bytes += bytes;
        while self.bytes > KEPT_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(compiled) = self.by_text.remove(&oldest) {
                self.bytes -= size(&oldest, &compiled);
            }
        }
    }
}

fn size(key: &Key, compiled: &Compiled) -> usize {
    let (_, answer, surroundings) = key;
    let object = compiled.as_ref().map_or_else(String::len, |object| object.len());
    answer.len() + surroundings.prototypes.len() + surroundings.helpers.len() + object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(
        objects: &Objects,
        answer: &str,
        result: Result<Vec<u8>, Uncompiled>,
    ) -> (bool, Result<usize, Uncompiled>) {
        let mut compiled = false;
        let object = objects.get(Language::C, answer, &Surroundings::default(), || {
            compiled = true;
            result
        });
        (compiled, object.map(|object| object.len()))
    }

    #[test]
    fn the_same_text_is_compiled_once_unless_nothing_was_found_out() {
        let objects = Objects::default();
        assert_eq!(get(&objects, "a", Ok(vec![0; 3])), (true, Ok(3)));
        assert_eq!(get(&objects, "a", Ok(vec![0; 9])), (false, Ok(3)));
        let refused = Uncompiled::Refused("no".into());
        assert_eq!(get(&objects, "b", Err(refused.clone())), (true, Err(refused.clone())));
        assert_eq!(get(&objects, "b", Ok(vec![])), (false, Err(refused)));
        let not_run = Uncompiled::NotRun("busy".into());
        assert_eq!(get(&objects, "c", Err(not_run.clone())), (true, Err(not_run)));
        assert_eq!(get(&objects, "c", Ok(vec![0; 1])), (true, Ok(1)));
        let cpp = objects.get(Language::Cpp, "a", &Surroundings::default(), || Ok(vec![0; 4]));
        assert_eq!(cpp.expect("it compiles").len(), 4, "another language is another text");
    }

    #[test]
    fn the_oldest_make_room() {
        let objects = Objects::default();
        for name in ["a", "b", "c"] {
            assert!(get(&objects, name, Ok(vec![0; KEPT_BYTES / 2 - 10])).0);
        }
        assert!(objects.lock().bytes <= KEPT_BYTES);
        assert!(!get(&objects, "c", Ok(vec![])).0);
        assert!(get(&objects, "a", Ok(vec![])).0, "it was thrown out");
        assert!(get(&objects, "d", Ok(vec![0; KEPT_BYTES + 1])).0);
        assert!(!get(&objects, "c", Ok(vec![])).0, "what is too large to keep throws nothing out");
    }
}
