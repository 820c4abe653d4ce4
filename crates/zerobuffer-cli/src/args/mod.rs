//! Every command and option, once: help, man pages and completions are made from this.

mod duplex;
mod streams;
mod tools;
mod values;

use clap::{Args, Parser, Subcommand};

pub(crate) use duplex::{DuplexClientArgs, DuplexServerArgs, Handler, Mode};
pub(crate) use streams::{
    BufferArgs, Pattern, ReaderArgs, RelayArgs, RingArgs, TeeArgs, Transform, WriterArgs,
};
pub(crate) use tools::{
    CleanArgs, CompletionsArgs, DemoArgs, DemoPeerArgs, DoctorArgs, InspectArgs, ListArgs, ManArgs,
};

/// Frames between two processes through shared memory: one writer, one reader, zero copies, no broker.
#[derive(Debug, Parser)]
#[command(name = "zerobuffer", version, arg_required_else_help = true, max_term_width = 110)]
#[command(after_help = "Start with `zerobuffer demo`, or try it by hand:\n  \
    zerobuffer reader try --verify sequential &\n  zerobuffer writer try -n 1000")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Writer(WriterArgs),
    Reader(ReaderArgs),
    Relay(RelayArgs),
    Tee(TeeArgs),
    DuplexServer(DuplexServerArgs),
    DuplexClient(DuplexClientArgs),
    Demo(DemoArgs),
    List(ListArgs),
    Inspect(InspectArgs),
    Clean(CleanArgs),
    Doctor(DoctorArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
    #[command(hide = true)]
    DemoPeer(DemoPeerArgs),
}

#[derive(Debug, Args, Clone, Copy)]
pub(crate) struct ReportArgs {
    /// Print the summary as one JSON object, and nothing else.
    #[arg(long)]
    pub(crate) json_output: bool,

    /// Log what happens, on standard error.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Entry point of the fuzzer (fuzz/): parses arguments cut at each newline, or refuses them with a message.
#[cfg(any(test, fuzzing))]
pub(crate) fn understand(bytes: &[u8]) {
    use clap::{CommandFactory, FromArgMatches};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    thread_local! {
        // Built once, because building it takes most of the time.
        static COMMAND: std::cell::RefCell<clap::Command> = std::cell::RefCell::new(Cli::command());
    }
    let words = bytes.split(|byte| *byte == b'\n').map(OsStr::from_bytes);
    let words = std::iter::once(OsStr::new("zerobuffer")).chain(words);
    match COMMAND.with_borrow_mut(|command| command.try_get_matches_from_mut(words)) {
        // Parsed values can be read with their types.
        Ok(matches) => drop(Cli::from_arg_matches(&matches).expect("checked by the same definitions")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_fuzzers_seeds_are_understood_or_refused() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/arguments");
        let seeds = std::fs::read_dir(folder).unwrap();
        let count = seeds.map(|seed| understand(&std::fs::read(seed.unwrap().path()).unwrap())).count();
        assert!(count >= 5, "the seeds are gone");
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
