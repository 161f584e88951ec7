//! One message of each kind, byte for byte: what a released node says, every later one must understand.

use super::samples::{Draw, KINDS};
use super::*;

#[test]
fn each_kind_has_the_bytes_that_it_always_had() {
    let expected: Vec<&str> = include_str!("golden.hex").lines().collect();
    assert_eq!(expected.len(), KINDS, "one line for each kind");
    for (kind, expected) in expected.into_iter().enumerate() {
        let message = Draw::new(2026 + kind as u64).message_of(kind);
        let bytes = hex::encode(encode(&message));
        assert_eq!(bytes, expected, "{} has other bytes now", message.name());
        let back = decode(&hex::decode(expected).expect("hexadecimal digits"));
        assert_eq!(back, Ok(Some(message)));
    }
}
