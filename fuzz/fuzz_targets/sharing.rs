//! Offers, references and the sharing block under a live camera, relay and viewer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zerobuffer::fuzzing::sharing(bytes));
