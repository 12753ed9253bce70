//! TensorBoard's event files: scalars only.
//!
//! A file is a sequence of TFRecords (`tensorflow/core/lib/io/record_writer.h`): the length as u64, its masked
//! CRC, the bytes, their masked CRC, all little-endian. The bytes are an `Event` message
//! (`tensorflow/core/util/event.proto`), encoded here by hand because four fields need no code generator.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::metrics::event_files;
use crate::{RunError, write_atomic};

/// One scalar of a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    /// `stage/name`.
    pub tag: String,
    /// The value; NaN and infinities are legal here.
    pub value: f32,
}

/// An events file that is open to append to.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Writes a new events file with the events that `fill` hands to its sink (wall time in seconds, step,
    /// scalars), removes the folder's earlier ones, and leaves it open.
    pub(crate) fn replace(
        folder: &Path,
        begun: f64,
        fill: impl FnOnce(&mut dyn FnMut(f64, u64, &[Scalar])),
    ) -> Result<EventFile, RunError> {
        let earlier = event_files(folder)?;
        let mut bytes = record(&version_event(begun));
        fill(&mut |wall_time, step, scalars| bytes.extend(record(&scalar_event(wall_time, step, scalars))));
        // TensorBoard reads a folder's files in the order of their names, and a file it has begun to read keeps
        // its name: a number that grows makes the new file a new one.
        let number = earlier.iter().filter_map(|path| number_of(path)).max().map_or(0, |last| last + 1);
        let path = folder.join(format!("events.out.tfevents.{number:010}.vul2safe"));
        write_atomic(&path, &bytes)?;
        for old in earlier {
            fs::remove_file(&old).map_err(RunError::io(&old))?;
        }
        let file = fs::OpenOptions::new().append(true).open(&path).map_err(RunError::io(&path))?;
        Ok(EventFile { path, file })
    }

    /// Appends the scalars of one step.
    pub(crate) fn append(&mut self, wall_time: f64, step: u64, scalars: &[Scalar]) -> Result<(), RunError> {
        let bytes = record(&scalar_event(wall_time, step, scalars));
        self.file.write_all(&bytes).map_err(RunError::io(&self.path))
    }
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("events.out.tfevents.")?.split('.').next()?.parse().ok()
}

/// One TFRecord.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut framed = Vec::with_capacity(bytes.len() + 16);
    framed.extend(length);
    framed.extend(masked_crc(&length).to_le_bytes());
    framed.extend(bytes);
    framed.extend(masked_crc(bytes).to_le_bytes());
    framed
}

/// CRC-32C, rotated and shifted so that a CRC of bytes that hold a CRC is still useful
/// (`tensorflow/core/lib/hash/crc32c.h`).
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// `Event { wall_time: 1, file_version: 3 }`; must be a file's first.
fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    put_double(&mut event, 1, wall_time);
    put_bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// `Event { wall_time: 1, step: 2, summary: 5 { value: 1 { tag: 1, simple_value: 2 } … } }`.
fn scalar_event(wall_time: f64, step: u64, scalars: &[Scalar]) -> Vec<u8> {
    let mut summary = Vec::new();
    for scalar in scalars {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, scalar.tag.as_bytes());
        put_key(&mut value, 2, 5);
        value.extend(scalar.value.to_le_bytes());
        put_bytes(&mut summary, 1, &value);
    }
    let mut event = Vec::new();
    put_double(&mut event, 1, wall_time);
    put_key(&mut event, 2, 0);
    put_varint(&mut event, step);
    put_bytes(&mut event, 5, &summary);
    event
}

/// A field's number and wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes).
fn put_key(message: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(message, field << 3 | wire_type);
}

fn put_double(message: &mut Vec<u8>, field: u64, value: f64) {
    put_key(message, field, 1);
    message.extend(value.to_le_bytes());
}

fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(message, field, 2);
    put_varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
#[path = "tensorboard_tests.rs"]
mod tests;
