//! The options of the demo and the tools.

use std::path::PathBuf;

use clap::Args;

use super::values::seconds;

/// See it work: two processes exchange 1080p pictures and verify them; then one of them is killed.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every frame was right, 1 something was not, 3 bad arguments, 5 results not printed, \
    130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct DemoArgs {
    /// Seconds per phase.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Where to save the contact sheet of what arrived. [default: zerobuffer-demo.png among the temporary files]
    #[arg(long, value_name = "FILE.png")]
    pub(crate) output: Option<PathBuf>,

    /// Half a second per phase.
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) quick: bool,

    /// Log what happens, on standard error.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// One side of the demo; started by it.
#[derive(Debug, Args)]
pub(crate) struct DemoPeerArgs {
    pub(crate) role: crate::demo::Role,
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) seconds: f64,
    #[arg(long)]
    pub(crate) flat_out: bool,
    #[arg(long)]
    pub(crate) sheet: Option<PathBuf>,
}

/// List the buffers on this machine, with the frames that their writers commit per second.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 the shared memory cannot be read, 3 bad arguments, 5 results not printed."
)]
pub(crate) struct ListArgs {
    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show every field of one buffer, and its health.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 ok, 1 there is no such buffer, or it may not be read, 2 its numbers \
    cannot be true (corrupt), 3 bad arguments, 5 results not printed.")]
pub(crate) struct InspectArgs {
    /// Name of the buffer.
    pub(crate) name: String,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Remove what dead processes left behind. Never removes files that a live process uses, or files of other
/// users.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 something dead could not be removed, 3 bad arguments, 5 results not printed."
)]
pub(crate) struct CleanArgs {
    /// Names of the buffers to clean; all if none is given.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Only list what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,

    /// Log what happens, on standard error.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Find what could keep ZeroBuffer from working here, and say what to do about it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no problem found (there may be warnings), 1 a problem was found, 3 bad arguments, 5 results not printed."
)]
pub(crate) struct DoctorArgs {
    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the completion script for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "For example: zerobuffer completions bash > ~/.local/share/bash-completion/completions/zerobuffer"
)]
pub(crate) struct CompletionsArgs {
    pub(crate) shell: clap_complete::Shell,
}

/// Print a man page, or write all of them to a directory.
#[derive(Debug, Args)]
#[command(after_help = "For example: zerobuffer man writer | man -l -")]
pub(crate) struct ManArgs {
    /// The command whose page to print; the overview if left out.
    #[arg(conflicts_with = "dir")]
    pub(crate) command: Option<String>,

    /// Write the pages of all commands into this directory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}
