//! The analysis of Python.

mod branches;
mod calls;
mod expressions;
mod facts;
mod flow;
mod guards;
mod results;
mod sinks_data;
mod sinks_files;
mod sinks_secrets;
mod sinks_text;
mod sinks_web;
mod strings;
mod value;

use vul2safe_code::Parsed;

use crate::Finding;

/// All findings in a Python text, unordered.
pub(crate) fn analyze(parsed: &Parsed) -> Vec<Finding> {
    flow::Flow::new(parsed).run()
}

#[cfg(test)]
mod tests;
