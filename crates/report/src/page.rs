//! The whole page: what is read, and the templates it is poured into.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use minijinja::{AutoEscape, Environment};
use serde::Serialize;
use vul2safe_run::{
    RunFolder, read_configuration, read_data_summary, read_environment, read_evaluation, read_metrics,
    read_samples,
};

use crate::ReportError;
use crate::answers::{Task, legend, tasks};
use crate::curves::{Family, families};
use crate::experiment::ExperimentPage;
use crate::figures::{Figures, figures};
use crate::format::visible;
use crate::overview::{DataTable, Overview, Stage, data, overview, stages};

/// How the names of files with answers of the evaluation begin.
const EVALUATION: &str = "evaluation";

/// Everything the templates see.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    overview: Overview,
    figures: Option<Figures>,
    families: Vec<Family>,
    data: Option<Vec<DataTable>>,
    stages: Vec<Stage>,
    /// Answers to the tasks of the evaluation.
    tasks: Vec<Task>,
    /// Answers that were kept during training.
    training: Vec<Task>,
    /// Models that have answers, for the filter.
    arms: Vec<String>,
    /// Class and label of each colour of a token.
    legend: Vec<(String, String)>,
}

impl Page {
    /// Reads the run folder. What is not there yet stays empty; what is broken is an error.
    pub(crate) fn read(path: &Path) -> Result<Page, ReportError> {
        let run = RunFolder::open(path)?;
        let entries = run.stages();
        let environment = read_environment(path)?;
        let figures = read_evaluation(path)?.map(|table| figures(&table));
        let samples = read_all_samples(&run.file("samples"))?;
        let models = figures.as_ref().map(|figures| figures.models.clone()).unwrap_or_default();
        let mut arms: Vec<String> = Vec::new();
        for (_, sample) in &samples {
            if !arms.contains(&sample.arm) {
                arms.push(sample.arm.clone());
            }
        }
        arms.sort_by_key(|arm| models.iter().position(|model| model == arm).unwrap_or(models.len()));
        let (evaluation, training) = samples.into_iter().partition(|(file, _)| file.starts_with(EVALUATION));
        Ok(Page {
            overview: overview(folder_name(path), read_configuration(path)?, environment.as_ref(), &entries),
            families: families(&read_metrics(path)?),
            data: read_data_summary(path)?.map(|summary| data(&summary)),
            stages: stages(&entries),
            tasks: tasks(evaluation, &models),
            training: tasks(training, &models),
            arms,
            figures,
            legend: legend(),
        })
    }
}

/// Pours the page of a run into its templates.
pub(crate) fn render(page: &Page) -> Result<String, ReportError> {
    Ok(environment()?.get_template("report.html")?.render(minijinja::value::Serde(page))?)
}

/// Pours the page of an experiment into its template.
pub(crate) fn render_experiment(page: &ExperimentPage) -> Result<String, ReportError> {
    Ok(environment()?.get_template("experiment.html")?.render(minijinja::value::Serde(page))?)
}

/// The templates, with everything escaped that is poured into them.
fn environment() -> Result<Environment<'static>, ReportError> {
    let mut environment = Environment::new();
    // Every name, not only `*.html`: nothing is ever put into the page unescaped by a slip.
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // A line with nothing but a tag leaves no line in the page.
    environment.set_syntax(environment.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build()?);
    // Nor does any text hide something from the reader.
    environment.set_formatter(|output, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => {
            minijinja::escape_formatter(output, state, &minijinja::Value::from(visible(text).as_ref()))
        }
        _ => minijinja::escape_formatter(output, state, value),
    });
    for (name, source) in [
        ("report.html", include_str!("../templates/report.html")),
        ("figures.html", include_str!("../templates/figures.html")),
        ("curves.html", include_str!("../templates/curves.html")),
        ("work.html", include_str!("../templates/work.html")),
        ("answers.html", include_str!("../templates/answers.html")),
        ("experiment.html", include_str!("../templates/experiment.html")),
    ] {
        environment.add_template(name, source)?;
    }
    // The only two texts that are not escaped; both are part of this crate.
    let safe = |text: &str| minijinja::Value::from_safe_string(text.to_owned());
    environment.add_global("style", safe(include_str!("../templates/style.css")));
    environment.add_global("script", safe(include_str!("../templates/script.js")));
    Ok(environment)
}

/// The folder's own name, without the machine's path to it.
fn folder_name(path: &Path) -> String {
    let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    absolute.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Every sample of the folder with the name of its file, files in the order of their names.
fn read_all_samples(folder: &Path) -> Result<Vec<(String, vul2safe_run::Sample)>, ReportError> {
    let io = |source| ReportError::Io { path: folder.to_path_buf(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut samples = Vec::new();
    for path in paths {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        samples.extend(read_samples(&path)?.into_iter().map(|sample| (file.clone(), sample)));
    }
    Ok(samples)
}
