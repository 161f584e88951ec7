//! The binary `dfnode`.
fn main() {}
