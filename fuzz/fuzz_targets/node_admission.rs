#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfnode_node::fuzzing::admission(bytes));
