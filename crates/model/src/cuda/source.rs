//! The kernels' source, embedded in the binary and compiled for the device that is found.

/// The kernels in one piece, without the constants that they are compiled with.
pub(crate) const SOURCE: &str = concat!(
    include_str!("kernels/prelude.cuh"),
    include_str!("kernels/norm.cu"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/rope.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/score.cu"),
    include_str!("kernels/optimizer.cu"),
    include_str!("kernels/decode.cu"),
);

/// Names of all kernels in [`SOURCE`].
pub(crate) fn names() -> Vec<&'static str> {
    SOURCE
        .lines()
        .filter_map(|line| line.strip_prefix("KERNEL "))
        .map(|rest| rest.strip_prefix("__launch_bounds__(128) ").unwrap_or(rest))
        .filter_map(|rest| rest.split('(').next())
        .collect()
}
