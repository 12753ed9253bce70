//! A part of the families.

use vul2safe_code::Language;

use crate::families::FAMILIES;
use crate::family::Family;

/// The families that tasks, records and documents are made of; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty: all.
    names: Vec<String>,
}

/// A name that no family has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no family `{name}`")]
pub struct UnknownFamily {
    /// The name as it was given.
    pub name: String,
}

impl UnknownFamily {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some("`vul2safe range list` names all of them".to_owned())
    }
}

impl Selection {
    /// The families with these names; all of them where there are no names.
    ///
    /// # Errors
    /// A name that no family has.
    pub fn of(names: &[String]) -> Result<Selection, UnknownFamily> {
        let is_unknown = |name: &&String| FAMILIES.iter().all(|family| family.name != name.as_str());
        match names.iter().find(is_unknown) {
            Some(name) => Err(UnknownFamily { name: name.clone() }),
            None => Ok(Selection { names: names.to_vec() }),
        }
    }

    /// The chosen families, in the order in which tasks come.
    pub(crate) fn families(&self) -> impl Iterator<Item = &'static Family> {
        FAMILIES
            .iter()
            .copied()
            .filter(|family| self.names.is_empty() || self.names.iter().any(|name| name == family.name))
    }

    /// Whether any of them is in this language.
    pub(crate) fn has_language(&self, language: Language) -> bool {
        self.families().any(|family| family.language == language)
    }
}
