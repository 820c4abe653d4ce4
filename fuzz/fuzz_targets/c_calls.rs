//! Calls of the C ABI, one after the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zerobuffer_c::fuzzing::calls(bytes));
