//! Simulations by hand.
fn main() {}
