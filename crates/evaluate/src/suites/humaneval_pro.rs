//! HumanEval Pro, in the form that [`pro`](super::pro) describes.

use super::{Format, Layout, pro};

pub(super) const FORMAT: Format = Format {
    word: "humaneval-pro",
    name: "HumanEval Pro",
    layout: Layout::File { wanted: "dataset/humaneval_pro.json" },
    parse: |files, tasks| pro::parse(files, tasks, "HumanEval Pro"),
};
