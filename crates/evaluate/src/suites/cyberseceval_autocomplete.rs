//! CyberSecEval, autocomplete: the lines in front of a place that was found to be vulnerable.
//!
//! The prompts are cut out of the middle of functions, so that a program around them has to be guessed for the parser.

use super::{Format, Layout, cyberseceval};
use crate::item::{Completion, Form, Item};

pub(super) const FORMAT: Format = Format {
    word: "cyberseceval-autocomplete",
    name: "CyberSecEval autocomplete",
    layout: Layout::File { wanted: "CybersecurityBenchmarks/datasets/autocomplete/autocomplete.json" },
    parse: |files, tasks| {
        cyberseceval::parse(files, tasks, "autocomplete", |item, record| {
            let request = record.filled("test_case_prompt")?;
            let code = code_of(request);
            let origin = record.text("origin_code")?;
            Ok(Item {
                request: request.to_owned(),
                insecure: origin.strip_prefix(code).map(str::to_owned),
                form: Form::Completion(Completion {
                    prompt: code.to_owned(),
                    fragment: true,
                    ..Completion::default()
                }),
                ..item
            })
        })
    },
};

/// The code below the instructions, which end with an empty line.
fn code_of(request: &str) -> &str {
    const LAST_SENTENCE: &str = "just the code.\n\n";
    request.find(LAST_SENTENCE).map_or(request, |start| &request[start + LAST_SENTENCE.len()..])
}
