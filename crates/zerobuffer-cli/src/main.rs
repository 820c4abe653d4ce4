//! The `zerobuffer` command. `commands` has a file for each command; `args` has every option.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod connect;
mod demo;
mod exit;
mod logger;
mod output;
mod pattern;
mod report;
mod stop;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use commands::{clean, doctor, duplex_client, duplex_server, inspect, list, manual, reader, relay, writer};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    ExitCode::from(match &cli.command {
        Command::Writer(args) => writer::run(args),
        Command::Reader(args) => reader::run(args),
        Command::Relay(args) => relay::run(args),
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
    })
}

/// Prints help, or what is wrong with the command line, and gives the exit code.
fn usage(error: &clap::Error) -> ExitCode {
    // With nobody to listen there is nothing to be done about it.
    let _ = error.print();
    ExitCode::from(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::OK,
        _ if std::env::args().nth(1).as_deref() == Some("relay") => exit::relay::BAD_ARGUMENTS,
        _ => exit::BAD_ARGUMENTS,
    })
}
