//! Learning curves: `metrics.jsonl`, and the same scalars for TensorBoard.
//!
//! `metrics.jsonl` is the truth. The events file is drawn from it whenever a process first writes metrics or
//! lines are dropped, so it never needs a repair of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::tensorboard::{EventFile, Scalar};
use crate::{RunError, lines, write_atomic};

/// The file's name in the run folder.
const METRICS: &str = "metrics.jsonl";
/// Keys of a line that are no metrics.
const RESERVED: [&str; 4] = ["stage", "step", "time", "nonfinite"];

/// One line of `metrics.jsonl`: `{"stage": …, "step": …, "time": …, "loss": …, …}`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricLine {
    /// The stage that logged it.
    pub stage: String,
    /// The stage's own step.
    pub step: u64,
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    /// The metrics by name. NaN and infinities are `null` in the file, with the spelled-out value under
    /// `nonfinite`, and come back as what they were.
    pub values: BTreeMap<String, f64>,
}

impl MetricLine {
    /// Names of the metrics of this line that are NaN or infinite.
    pub fn nonfinite(&self) -> Vec<&str> {
        self.values.iter().filter(|(_, value)| !value.is_finite()).map(|(name, _)| name.as_str()).collect()
    }
}

impl Serialize for MetricLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("stage", &self.stage)?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("time", &self.time)?;
        for (name, value) in &self.values {
            map.serialize_entry(name, &value.is_finite().then_some(*value))?;
        }
        let nonfinite: BTreeMap<&str, &str> =
            self.nonfinite().into_iter().map(|name| (name, spelled(self.values[name]))).collect();
        if !nonfinite.is_empty() {
            map.serialize_entry("nonfinite", &nonfinite)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for MetricLine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut object = serde_json::Map::deserialize(deserializer)?;
        let mut take = |name: &'static str| object.remove(name).ok_or_else(|| D::Error::missing_field(name));
        let stage = serde_json::from_value(take("stage")?).map_err(D::Error::custom)?;
        let step = serde_json::from_value(take("step")?).map_err(D::Error::custom)?;
        let time = serde_json::from_value(take("time")?).map_err(D::Error::custom)?;
        let nonfinite: BTreeMap<String, String> = match take("nonfinite") {
            Ok(value) => serde_json::from_value(value).map_err(D::Error::custom)?,
            Err(_) => BTreeMap::new(),
        };
        let mut values = BTreeMap::new();
        for (name, value) in object {
            let number = match &value {
                Value::Null => match nonfinite.get(&name).map(String::as_str) {
                    Some("inf") => f64::INFINITY,
                    Some("-inf") => f64::NEG_INFINITY,
                    _ => f64::NAN,
                },
                value => value
                    .as_f64()
                    .ok_or_else(|| D::Error::custom(format!("metric `{name}` is not a number: {value}")))?,
            };
            values.insert(name, number);
        }
        Ok(MetricLine { stage, step, time, values })
    }
}

fn spelled(value: f64) -> &'static str {
    if value.is_nan() {
        "nan"
    } else if value > 0.0 {
        "inf"
    } else {
        "-inf"
    }
}

/// All lines of a run folder's `metrics.jsonl`, in order; none if there is no such file. A torn last line is
/// ignored.
///
/// # Errors
/// [`RunError::Broken`] with the line, [`RunError::Io`].
pub fn read_metrics(run: &Path) -> Result<Vec<MetricLine>, RunError> {
    Ok(lines::read(&run.join(METRICS))?.values.into_iter().map(|(_, line)| line).collect())
}

/// Where one stage logs its scalars; made by [`crate::RunFolder::metrics`].
#[derive(Debug)]
pub struct Metrics {
    stage: String,
    writer: Arc<Mutex<MetricsWriter>>,
}

impl Metrics {
    pub(crate) fn start(
        writer: Arc<Mutex<MetricsWriter>>,
        stage: &str,
        first_step: u64,
    ) -> Result<Metrics, RunError> {
        check_name("stage", stage)?;
        writer.lock().unwrap_or_else(PoisonError::into_inner).restart(stage, first_step)?;
        Ok(Metrics { stage: stage.to_owned(), writer })
    }

    /// Writes one line to `metrics.jsonl`, and each value to TensorBoard under `stage/name`. The line is with
    /// the operating system when this returns: a kill does not lose it.
    ///
    /// # Errors
    /// [`RunError::BadName`] for a name that is empty, reserved or has a `/`; [`RunError::Io`].
    pub fn log(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), RunError> {
        let mut line =
            MetricLine { stage: self.stage.clone(), step, time: seconds_now(), values: BTreeMap::new() };
        for (name, value) in values {
            check_name("metric", name)?;
            if line.values.insert((*name).to_owned(), *value).is_some() {
                let why = "the same line has it already";
                return Err(RunError::BadName { what: "metric", name: (*name).to_owned(), why });
            }
        }
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).append(&line)
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), RunError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.contains('/') {
        "a `/` separates stage and metric"
    } else if what == "metric" && RESERVED.contains(&name) {
        "the line uses this key itself"
    } else {
        return Ok(());
    };
    Err(RunError::BadName { what, name: name.to_owned(), why })
}

fn seconds_now() -> f64 {
    // Milliseconds keep the lines short and are as exact as anything here needs.
    jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
}

/// The open files; shared by all stages of a process, so that dropping lines cannot leave a stage with a
/// handle on a file that is gone.
#[derive(Debug)]
pub(crate) struct MetricsWriter {
    folder: PathBuf,
    open: Option<(File, EventFile)>,
}

impl MetricsWriter {
    pub(crate) fn new(folder: &Path) -> MetricsWriter {
        MetricsWriter { folder: folder.to_path_buf(), open: None }
    }

    /// Drops the lines of `stage` at and after `first_step` and gets ready to append.
    fn restart(&mut self, stage: &str, first_step: u64) -> Result<(), RunError> {
        let path = self.folder.join(METRICS);
        let read = lines::read::<MetricLine>(&path)?;
        let dropped = |line: &MetricLine| line.stage == stage && line.step >= first_step;
        let any_dropped = read.values.iter().any(|(_, line)| dropped(line));
        if self.open.is_some() && !any_dropped {
            return Ok(());
        }
        lines::repair(&path, &read)?;
        let kept: Vec<MetricLine> =
            read.values.into_iter().map(|(_, line)| line).filter(|line| !dropped(line)).collect();
        self.open = None;
        if any_dropped {
            let mut bytes = Vec::new();
            for line in &kept {
                append_line(&path, &mut bytes, line)?;
            }
            write_atomic(&path, &bytes)?;
        }
        let events = EventFile::replace(
            &self.folder,
            kept.first().map_or_else(seconds_now, |line| line.time),
            |sink| {
                for line in &kept {
                    sink(line.time, line.step, &scalars(line));
                }
            },
        )?;
        self.open = Some((lines::appender(&path)?, events));
        Ok(())
    }

    fn append(&mut self, line: &MetricLine) -> Result<(), RunError> {
        let path = self.folder.join(METRICS);
        let mut bytes = Vec::new();
        append_line(&path, &mut bytes, line)?;
        // `Metrics` is only made by `restart`, which opens the files; a failed restart leaves them closed.
        let Some((file, events)) = &mut self.open else {
            return Err(RunError::ReadOnly { path });
        };
        file.write_all(&bytes).map_err(RunError::io(&path))?;
        events.append(line.time, line.step, &scalars(line))
    }

    /// Returns when all lines are on the disk.
    pub(crate) fn sync(&self) -> Result<(), RunError> {
        match &self.open {
            Some((file, _)) => file.sync_all().map_err(RunError::io(&self.folder.join(METRICS))),
            None => Ok(()),
        }
    }
}

fn append_line(path: &Path, bytes: &mut Vec<u8>, line: &MetricLine) -> Result<(), RunError> {
    serde_json::to_writer(&mut *bytes, line)
        .map_err(|error| RunError::NotJson { path: path.to_path_buf(), detail: error.to_string() })?;
    bytes.push(b'\n');
    Ok(())
}

fn scalars(line: &MetricLine) -> Vec<Scalar> {
    line.values
        .iter()
        .map(|(name, value)| Scalar { tag: format!("{}/{name}", line.stage), value: *value as f32 })
        .collect()
}

/// The events files of a folder, by name.
pub(crate) fn event_files(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(RunError::io(folder))? {
        let entry = entry.map_err(RunError::io(folder))?;
        if entry.file_name().to_string_lossy().starts_with("events.out.tfevents.") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
