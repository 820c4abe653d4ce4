//! The `zerobuffer` command. Each command has a file of its own; `args.rs` has every option.
#![forbid(unsafe_code)]

mod args;
mod connect;
mod demo;
mod doctor;
mod duplex;
mod exit;
mod font;
mod logger;
mod manual;
mod pattern;
mod peers;
mod picture;
mod reader;
mod relay;
mod report;
mod sheet;
mod sink;
mod source;
mod stop;
mod tools;
mod wait;
mod writer;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    ExitCode::from(match &cli.command {
        Command::Writer(args) => writer::run(args),
        Command::Reader(args) => reader::run(args),
        Command::Relay(args) => relay::run(args),
        Command::DuplexServer(args) => duplex::run_server(args),
        Command::DuplexClient(args) => duplex::run_client(args),
        Command::Demo(args) => demo::run(args),
        Command::DemoPeer(args) => demo::run_peer(args),
        Command::List(args) => tools::list(args),
        Command::Inspect(args) => tools::inspect(args),
        Command::Clean(args) => tools::clean(args),
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
