//! Calls of the duplex half of the C ABI, with a server that runs beside them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zerobuffer_c::fuzzing::duplex_calls(bytes));
