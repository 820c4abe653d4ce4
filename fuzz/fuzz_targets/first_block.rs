//! The first block and the control block, as a process that opens a buffer reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zerobuffer::fuzzing::first_block(bytes));
