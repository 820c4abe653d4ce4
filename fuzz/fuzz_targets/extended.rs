//! Words and headers of an extended ring under a live reader and a live writer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zerobuffer::fuzzing::extended(bytes));
