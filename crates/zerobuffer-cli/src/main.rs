//! The `zerobuffer` command. `commands` has a file for each command; `args` has every option.
#![deny(unsafe_code)]

mod args;
mod arrivals;
mod commands;
mod connect;
mod demo;
mod early;
mod exit;
mod logger;
mod open;
mod output;
mod pattern;
mod report;
mod stop;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use commands::{
    clean, doctor, duplex_client, duplex_server, inspect, list, manual, reader, relay, tee, writer,
};

fn main() -> ExitCode {
    // Without the placeholders a closed stream is /dev/null, and no stream is left to report that.
    let _ = early::occupy_standard_streams();
    let code = match Cli::try_parse() {
        Ok(cli) => run(&cli.command),
        Err(error) => usage(&error),
    };
    ExitCode::from(output::exit_code(code))
}

fn run(command: &Command) -> u8 {
    match command {
        Command::Writer(args) => writer::run(args),
        Command::Reader(args) => reader::run(args),
        Command::Relay(args) => relay::run(args),
        Command::Tee(args) => tee::run(args),
        Command::DuplexServer(args) => duplex_server::run(args),
        Command::DuplexClient(args) => duplex_client::run(args),
        Command::Demo(args) => demo::run(args),
        Command::DemoPeer(args) => demo::run_peer(args),
        Command::List(args) => list::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Clean(args) => clean::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::man(args),
    }
}

/// Prints help, or what is wrong with the command line, and returns the exit code.
fn usage(error: &clap::Error) -> u8 {
    let text = error.render();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = if output::has_colours() { text.ansi().to_string() } else { text.to_string() };
        output::say_text(text.as_bytes());
        return exit::OK;
    }
    text.to_string().trim_end().lines().for_each(|line| output::tell(&line));
    if std::env::args_os().nth(1).is_some_and(|name| name == "relay") {
        exit::relay::BAD_ARGUMENTS
    } else {
        exit::BAD_ARGUMENTS
    }
}
