//! CyberSecEval, instruct: descriptions of code that was found to be vulnerable.

use super::{Format, Layout, cyberseceval};
use crate::item::Item;

pub(super) const FORMAT: Format = Format {
    word: "cyberseceval-instruct",
    name: "CyberSecEval instruct",
    layout: Layout::File { wanted: "CybersecurityBenchmarks/datasets/instruct/instruct-v2.json" },
    parse: |files, tasks| {
        cyberseceval::parse(files, tasks, "instruct", |item, record| {
            Ok(Item { request: record.filled("test_case_prompt")?.to_owned(), ..item })
        })
    },
};
