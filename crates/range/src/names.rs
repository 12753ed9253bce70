//! Word pools, the names drawn from them, and templates with `$slots` filled by those names.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Words for one role. The reserved ones name held-out tasks and never occur in a vulnerability record.
pub(crate) struct Pool {
    pub open: &'static [&'static str],
    pub reserved: &'static [&'static str],
}

/// Which part of each pool names may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    Open,
    Reserved,
    /// Both parts, for the base corpus.
    Any,
}

const fn pool(open: &'static [&'static str], reserved: &'static [&'static str]) -> Pool {
    Pool { open, reserved }
}

pub(crate) static NOUN: Pool = pool(
    &[
        "order", "invoice", "user", "photo", "ticket", "parcel", "player", "recipe", "song", "movie", "book",
        "lesson", "garden", "window", "basket", "planet", "river", "bridge", "engine", "camera", "pencil",
        "bottle", "branch", "castle", "circle", "cloud", "coffee", "doctor", "dragon", "farmer", "flower",
        "forest",
    ],
    &["valley", "wallet", "tiger", "tunnel", "violin", "rocket", "saddle", "temple", "turtle", "pepper"],
);
pub(crate) static TABLE: Pool = pool(
    &["items", "people", "events", "sales", "visits", "members", "shops", "rooms", "teams", "trips"],
    &["goods", "guests", "stocks", "plans"],
);
/// Columns, dictionary keys and parameters.
pub(crate) static FIELD: Pool = pool(
    &[
        "city", "email", "color", "price", "title", "status", "level", "owner", "phone", "street", "country",
        "brand", "grade", "topic", "genre", "region",
    ],
    &["weight", "season", "flavor", "shape", "agent", "badge"],
);
pub(crate) static FOLDER: Pool = pool(
    &["uploads", "notes", "archive", "photos", "drafts", "pages", "inbox", "media"],
    &["library", "backup", "posters", "albums"],
);
pub(crate) static COMMAND: Pool = pool(&["echo", "printf", "basename"], &["dirname", "expr"]);
/// Commands that make the file or folder they are called with.
pub(crate) static MAKER: Pool = pool(&["touch", "mkdir"], &["mkfifo"]);
pub(crate) static LENGTH: Pool = pool(&["length", "size", "count", "width"], &["amount", "extent"]);
pub(crate) static HOST: Pool =
    pool(&["api", "shop", "data", "files", "maps", "mail"], &["cdn", "images", "search"]);
pub(crate) static HOME: Pool = pool(&["home", "start", "menu", "index"], &["lobby", "welcome"]);
pub(crate) static EVENT: Pool =
    pool(&["visited", "opened", "saved", "started", "moved", "sent"], &["closed", "printed", "copied"]);

pub(crate) static READ: Pool =
    pool(&["find", "get", "fetch", "load", "list", "read"], &["collect", "pull", "gather"]);
pub(crate) static CHANGE: Pool =
    pool(&["change", "mark", "clear", "reset", "drop"], &["wipe", "purge", "adjust"]);
pub(crate) static SHOW: Pool = pool(&["show", "render", "draw", "paint"], &["display", "present"]);
pub(crate) static MAKE: Pool = pool(&["make", "create", "build", "issue"], &["generate", "compose"]);
pub(crate) static RUN: Pool = pool(&["run", "call", "start", "launch"], &["invoke", "trigger"]);
pub(crate) static PARSE: Pool = pool(&["parse", "compute", "solve", "measure"], &["decode", "interpret"]);
pub(crate) static SAVE: Pool = pool(&["save", "store", "keep", "write"], &["put", "record"]);
pub(crate) static PACK: Pool = pool(&["pack", "wrap", "fold", "tie"], &["zip", "bind"]);
pub(crate) static LOG: Pool = pool(&["log", "note", "track", "report"], &["trace", "register"]);
pub(crate) static GO: Pool = pool(&["follow", "visit", "enter", "open"], &["reach", "resume"]);
pub(crate) static WORK: Pool = pool(&["handle", "process", "take", "combine", "use"], &["treat", "arrange"]);
pub(crate) static CHECK: Pool = pool(&["check", "test", "match", "accept"], &["confirm", "inspect"]);
pub(crate) static ADD: Pool = pool(&["add", "set", "attach", "tell"], &["push", "announce"]);
pub(crate) static UPDATE: Pool = pool(&["update", "edit", "fill", "merge"], &["amend", "refresh"]);

/// What a device can do.
pub(crate) static ACTION: Pool =
    pool(&["pause", "lock", "mute", "sleep", "beep", "blink"], &["eject", "flash", "rewind"]);

/// The values of a task's slots.
#[derive(Clone, Default)]
pub(crate) struct Names(BTreeMap<&'static str, String>);

impl Names {
    pub fn set(&mut self, slot: &'static str, value: impl Into<String>) {
        self.0.insert(slot, value.into());
    }

    /// The template with every `$slot` replaced. A slot's name is letters only, so `$verb_$noun` has two slots, and
    /// `${slot}` is for one that a letter follows; values may hold slots themselves. An unknown slot stays as it is (a test asserts that none does).
    pub fn fill(&self, template: &str) -> String {
        self.fill_nested(template, 8)
    }

    fn fill_nested(&self, template: &str, depth: usize) -> String {
        let mut filled = String::with_capacity(template.len() * 2);
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            filled.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let letters = |text: &str| text.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (slot, length) = match after.strip_prefix('{') {
                Some(inner) if inner[letters(inner)..].starts_with('}') => {
                    (&inner[..letters(inner)], letters(inner) + 2)
                }
                _ => (&after[..letters(after)], letters(after)),
            };
            match self.0.get(slot) {
                Some(value) if depth > 0 => filled.push_str(&self.fill_nested(value, depth - 1)),
                _ => filled.push_str(&rest[at..at + 1 + length]),
            }
            rest = &after[length..];
        }
        filled.push_str(rest);
        filled
    }

    /// Draws one word for every slot, all different.
    pub fn draw(slots: &[(&'static str, &'static Pool)], words: Words, random: &mut ChaCha8Rng) -> Names {
        let mut names = Names::default();
        for (slot, pool) in slots {
            let choices: Vec<&'static str> = match words {
                Words::Open => pool.open.to_vec(),
                Words::Reserved => pool.reserved.to_vec(),
                Words::Any => pool.open.iter().chain(pool.reserved).copied().collect(),
            };
            let free: Vec<&'static str> =
                choices.iter().copied().filter(|word| !names.0.values().any(|used| used == word)).collect();
            names.set(slot, *pick::<&str>(&free, random));
        }
        names
    }

    /// Whether both the verb and the noun of the function's name are reserved words.
    pub fn is_reserved(&self, slots: &[(&'static str, &'static Pool)]) -> bool {
        slots
            .iter()
            .filter(|(slot, _)| matches!(*slot, "verb" | "noun"))
            .all(|(slot, pool)| self.0.get(slot).is_some_and(|word| pool.reserved.contains(&word.as_str())))
    }
}

/// One of the choices. Every list of choices in this crate is written out in its source and not empty.
pub(crate) fn pick<'a, T>(choices: &'a [T], random: &mut ChaCha8Rng) -> &'a T {
    // Drawn as u32, so that a 32-bit machine draws the same.
    &choices[random.random_range(0..choices.len() as u32) as usize]
}

/// FNV-1a, 64 bits: a stable hash of a text, for ids and for keeping names apart.
pub(crate) fn stable_hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
