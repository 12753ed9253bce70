//! A folder as dataset hubs have it: Parquet, views by split, the schema, a data card and its plots.

use std::path::{Path, PathBuf};

use crate::parquet_file::{ViewShape, write_view};
use crate::{
    CardFacts, CorpusError, RepairPair, Split, View, data_card, json_schema, split_name,
    write_primevul_plus_parquet,
};

/// Writes the folder beside its place and renames it, so that it appears whole or not at all. `path` may be an empty
/// folder; anything else that is there stops the renaming.
///
/// # Errors
/// I/O errors, with the path.
pub fn write_hub(path: &Path, pairs: &[RepairPair], facts: &CardFacts) -> Result<(), CorpusError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let work = parent.join(format!(".{name}.partial"));
    let io = |place: &Path| {
        let path = place.to_owned();
        move |source| CorpusError::Io { path, source }
    };
    if work.exists() {
        // What an earlier attempt left when it was killed.
        fs_err::remove_dir_all(&work).map_err(io(&work))?;
    }
    fs_err::create_dir_all(&work).map_err(io(&work))?;
    let views = write_views(&work, pairs)?;
    let card = data_card(pairs, facts, &views);
    for (file, chart) in &card.charts {
        write(&work.join(file), chart.as_bytes())?;
    }
    let mut schema = json_schema().to_string();
    schema.push('\n');
    write(&work.join("schema.json"), schema.as_bytes())?;
    write(&work.join("README.md"), card.readme.as_bytes())?;
    if path.is_dir() {
        fs_err::remove_dir(path).map_err(io(path))?;
    }
    fs_err::rename(&work, path).map_err(io(path))
}

/// Views without a row are left out, and splits without one.
fn write_views(work: &Path, pairs: &[RepairPair]) -> Result<Vec<View>, CorpusError> {
    let shapes = [
        ("pairs", None),
        ("sft", Some(ViewShape::Sft)),
        ("chat", Some(ViewShape::Chat)),
        ("rl", Some(ViewShape::Rl)),
    ];
    let mut views = Vec::new();
    for (name, shape) in shapes {
        let mut files = Vec::new();
        for split in [Split::Train, Split::Validation, Split::Test] {
            let part: Vec<RepairPair> = pairs.iter().filter(|pair| pair.split == split).cloned().collect();
            let rows = match shape {
                None => part.len(),
                Some(_) => part.iter().map(|pair| pair.prompts.len()).sum(),
            };
            if rows == 0 {
                continue;
            }
            // Parquet throughout: `datasets` takes the format of the first configuration for all of a folder.
            let file = format!("{name}/{}.parquet", split_name(split));
            make_folder_of(&work.join(&file))?;
            match shape {
                None => write_primevul_plus_parquet(&work.join(&file), &part)?,
                Some(shape) => write_view(&work.join(&file), &part, shape)?,
            }
            files.push((split, file));
        }
        if !files.is_empty() {
            views.push((name, files));
        }
    }
    Ok(views)
}

fn make_folder_of(file: &Path) -> Result<(), CorpusError> {
    let folder = file.parent().unwrap_or(file);
    fs_err::create_dir_all(folder).map_err(|source| CorpusError::Io { path: folder.to_owned(), source })
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), CorpusError> {
    make_folder_of(file)?;
    vul2safe_run::write_atomic(file, bytes)
        .map_err(|error| CorpusError::Write { path: file.to_owned(), message: error.to_string() })
}
