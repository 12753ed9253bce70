//! `--set key=value`: dotted keys, TOML values, plain words as strings.

use crate::failure::{Failure, Result};

/// Puts each `key=value` into `table`, making the tables on the way.
///
/// A value that is TOML (`3`, `0.5`, `true`, `["a"]`, `"text"`) keeps its type; anything else is a string, so that
/// paths and words need no quotes.
///
/// # Errors
/// No `=`, an empty key, or a key that runs through something that is no table.
pub fn apply_overrides(table: &mut toml::Table, overrides: &[String]) -> Result<()> {
    for text in overrides {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::user(format!("--set {text}: there is no `=`"))
                .with_hint("write `--set key=value`, for instance `--set seed=1`"));
        };
        let path: Vec<&str> = key.trim().split('.').collect();
        if path.iter().any(|part| part.is_empty()) {
            return Err(Failure::user(format!("--set {text}: the key `{key}` has an empty part"))
                .with_hint("write `--set key=value`, for instance `--set base.layers=2`"));
        }
        insert(table, &path, parse_value(value)).map_err(|failure| failure.at(format!("--set {text}")))?;
    }
    Ok(())
}

fn parse_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn insert(table: &mut toml::Table, path: &[&str], value: toml::Value) -> Result<()> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        table.insert((*first).to_owned(), value);
        return Ok(());
    }
    let below = table.entry((*first).to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    match below {
        toml::Value::Table(inner) => insert(inner, rest, value),
        _ => Err(Failure::user(format!("`{first}` holds a value, not a table"))
            .with_hint("leave out what follows it in the key")),
    }
}
