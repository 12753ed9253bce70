//! The `vul2safe` command.
fn main() {}
