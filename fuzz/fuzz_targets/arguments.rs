//! The command line of `zerobuffer`: arguments cut at each newline.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/zerobuffer-cli/src/args/mod.rs"]
mod args;

/// What `args` knows of the demo.
mod demo {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
    pub(crate) enum Role {
        Reader,
        Writer,
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| args::understand(bytes));
