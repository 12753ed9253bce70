//! What the analysis knows of a value.

use vul2safe_code::Span;

/// Where a value comes from, from harmless to dangerous.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// Written in the text, or a name in capitals.
    Constant,
    /// A number, or sanitised for this purpose.
    Clean,
    /// A field, a result of some other function.
    Unknown,
    /// Derived from a parameter.
    Parameter,
    /// Derived from a request.
    Remote,
}

/// The purposes a value can be dangerous for. A sanitiser helps for some of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Risk {
    Sql,
    Shell,
    Path,
    Html,
    Log,
    Code,
    Url,
}

const RISKS: usize = 7;

/// Marks a dynamic part in [`Value::text`].
pub(crate) const HOLE: char = '\u{1}';

/// Facts about a path or address that are only a guard in combination.
pub(crate) const NO_DOTS: u8 = 1;
pub(crate) const NOT_ABSOLUTE: u8 = 2;
pub(crate) const STARTS_WITH_SLASH: u8 = 4;
pub(crate) const NOT_TWO_SLASHES: u8 = 8;

/// How much literal text of a value is kept, and how many names it derives from.
const TEXT_LIMIT: usize = 400;
const SOURCE_LIMIT: usize = 24;

/// What is known of a value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(super) levels: [Level; RISKS],
    /// The expression that put literal text and other values together into a string.
    pub built: Option<Span>,
    /// A path of which a dangerous value is a later component.
    pub joined: bool,
    /// A path without symbolic links and dots.
    pub resolved: bool,
    /// A dangerous value went in through a number conversion such as `%d`.
    pub number_format: bool,
    /// A list, tuple, set or dictionary written in place.
    pub is_list: bool,
    /// Where a predictable generator was asked.
    pub random: Option<Span>,
    /// Literal text, with [`HOLE`] for dynamic parts; cut at a limit.
    pub text: String,
    /// The dotted name of the function or attribute it comes from.
    pub made_by: String,
    /// Names it derives from.
    pub sources: Vec<String>,
    /// Partial facts, see [`NO_DOTS`] and its neighbours.
    pub facts: u8,
    /// On one of the ways here it is a value from outside with nothing literal before it.
    pub bare: bool,
    /// On another way here it is this constant page of the site, such as `/home`.
    pub fallback: String,
}

impl Value {
    pub fn at(level: Level) -> Value {
        Value {
            levels: [level; RISKS],
            built: None,
            joined: false,
            resolved: false,
            number_format: false,
            is_list: false,
            random: None,
            text: String::new(),
            made_by: String::new(),
            sources: Vec::new(),
            facts: 0,
            bare: false,
            fallback: String::new(),
        }
    }

    pub fn constant(text: &str) -> Value {
        let mut value = Value::at(Level::Constant);
        value.append_text(text);
        value
    }

    pub fn level(&self, risk: Risk) -> Level {
        self.levels[risk as usize]
    }

    pub fn highest(&self) -> Level {
        self.levels.iter().copied().max().unwrap_or(Level::Unknown)
    }

    /// The value after a sanitiser for these purposes.
    pub fn cleaned(mut self, risks: &[Risk]) -> Value {
        for &risk in risks {
            self.clean(risk);
        }
        self
    }

    pub fn clean(&mut self, risk: Risk) {
        let level = &mut self.levels[risk as usize];
        *level = (*level).min(Level::Clean);
    }

    pub fn clean_all(&mut self) {
        for level in &mut self.levels {
            *level = (*level).min(Level::Clean);
        }
    }

    /// At most this level for every purpose.
    pub fn capped(mut self, cap: Level) -> Value {
        for level in &mut self.levels {
            *level = (*level).min(cap);
        }
        self
    }

    /// Whether a value from outside stands at the very beginning.
    pub fn begins_free(&self) -> bool {
        self.bare || (self.highest() > Level::Clean && (self.text.is_empty() || self.text.starts_with(HOLE)))
    }

    /// At least this level for one purpose.
    pub fn raise(&mut self, risk: Risk, level: Level) {
        let known = &mut self.levels[risk as usize];
        *known = (*known).max(level);
    }

    fn append_text(&mut self, text: &str) {
        for character in text.chars() {
            if self.text.len() >= TEXT_LIMIT {
                break;
            }
            self.text.push(character);
        }
    }

    pub fn add_source(&mut self, name: &str) {
        if self.sources.len() < SOURCE_LIMIT && !self.sources.iter().any(|known| known == name) {
            self.sources.push(name.to_string());
        }
    }

    /// Takes over the danger and the origin of `other`, as a container or a result does.
    pub fn absorb(&mut self, other: &Value) {
        for (level, &theirs) in self.levels.iter_mut().zip(&other.levels) {
            *level = (*level).max(theirs);
        }
        self.random = self.random.or(other.random);
        self.number_format |= other.number_format;
        for source in &other.sources {
            self.add_source(source);
        }
    }

    /// Either of two values, where two ways through the function meet.
    pub fn or(mut self, other: &Value) -> Value {
        let dangerous = |value: &Value| value.highest() >= Level::Unknown;
        // A constant says nothing against what was proved of the other value.
        let (mine, theirs) = (dangerous(&self), dangerous(other));
        self.resolved = (self.resolved || !mine) && (other.resolved || !theirs);
        self.facts = match (mine, theirs) {
            (true, false) => self.facts,
            (false, true) => other.facts,
            _ => self.facts & other.facts,
        };
        let page = |value: &Value| {
            value.highest() == Level::Constant && value.built.is_none() && is_page_of_site(&value.text)
        };
        self.fallback = match (mine, theirs) {
            (true, false) if page(other) => other.text.clone(),
            (false, true) if page(&self) => self.text.clone(),
            _ if self.fallback.is_empty() => other.fallback.clone(),
            _ => std::mem::take(&mut self.fallback),
        };
        self.bare = self.begins_free() || other.begins_free();
        if other.built.is_some() && (self.built.is_none() || (theirs && !mine)) {
            self.built = other.built;
        }
        if self.text.len() < other.text.len() {
            self.text.clone_from(&other.text);
        }
        if self.made_by.is_empty() {
            self.made_by.clone_from(&other.made_by);
        }
        self.joined |= other.joined;
        self.is_list &= other.is_list;
        self.absorb(other);
        self
    }

    /// A string put together from `parts` by the expression at `span`.
    pub fn build(parts: &[Value], span: Span) -> Value {
        let mut whole = Value::at(Level::Constant);
        let mut earlier: Vec<Option<Span>> = Vec::new();
        whole.bare = parts.first().is_some_and(|first| first.bare);
        for part in parts {
            // A name after a slash, or after another value, may climb out of the folder before it.
            let follows = whole.text.contains('/') || whole.text.ends_with(HOLE);
            whole.joined |= part.joined || (follows && part.level(Risk::Path) >= Level::Parameter);
            if part.text.is_empty() && (part.highest() > Level::Constant || !part.made_by.is_empty()) {
                whole.append_text("\u{1}");
            } else {
                let text = part.text.clone();
                whole.append_text(&text);
            }
            if part.highest() > Level::Constant {
                earlier.push(part.built);
            }
            whole.absorb(part);
        }
        if whole.highest() > Level::Constant {
            // `text = prefix + name` built earlier stays the place of the flaw when a constant is added later.
            whole.built = match earlier[..] {
                [Some(before)] if !span.contains(before) => Some(before),
                _ => Some(span),
            };
        }
        whole
    }
}

/// Whether a constant is the address of a page on the same site, and not a path in a file system.
fn is_page_of_site(text: &str) -> bool {
    const ROOTS: &[&str] = &[
        "bin", "boot", "dev", "etc", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin",
        "srv", "sys", "tmp", "usr", "var",
    ];
    let Some(path) = text.strip_prefix('/') else { return false };
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let in_home = first == "home" && !rest.is_empty();
    !ROOTS.contains(&first)
        && !in_home
        && path
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.' | '?' | '=' | '#'))
}

/// Whether one of the words in `name` (split at underscores and capitals) is in `words`.
pub(crate) fn names_any(name: &str, words: &[&str]) -> bool {
    let mut word = String::new();
    let mut previous_lower = false;
    for character in name.chars().chain(['_']) {
        let is_boundary = !character.is_alphanumeric() || (character.is_uppercase() && previous_lower);
        if is_boundary {
            if words.contains(&word.as_str()) {
                return true;
            }
            word.clear();
        }
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        }
        previous_lower = character.is_lowercase();
    }
    false
}

/// Whether a name is written in capitals, as constants are.
pub(crate) fn is_capital(name: &str) -> bool {
    let name = name.trim_start_matches('_');
    name.len() > 1
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .chars()
            .all(|character| character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_')
}
