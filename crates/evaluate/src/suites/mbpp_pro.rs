//! MBPP Pro, in the form that [`pro`](super::pro) describes.

use super::{Format, Layout, pro};

pub(super) const FORMAT: Format = Format {
    word: "mbpp-pro",
    name: "MBPP Pro",
    layout: Layout::File { wanted: "dataset/mbpp_pro.json" },
    parse: |files, tasks| pro::parse(files, tasks, "MBPP Pro"),
};
