//! Every command and option, once: help, man pages and completions are made from this.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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

/// Write frames into a buffer that a reader has created, or will create soon.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all frames written, 1 cannot connect, 2 write error, 3 bad arguments, \
    130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct WriterArgs {
    /// Name of the buffer.
    pub(crate) name: String,

    /// Frames to write; 0 for no limit. [default: 1000; with --input, no limit]
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) frames: Option<u64>,

    /// Bytes per frame. With --input, the last frame may be shorter. K, M and G (1024-based) are understood.
    #[arg(short, long, value_name = "BYTES", default_value = "1024", value_parser = nonzero_size)]
    pub(crate) size: usize,

    /// Metadata to set before the first frame.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "metadata_file")]
    pub(crate) metadata: Option<String>,

    /// File with the metadata to set before the first frame.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// What the frames hold.
    #[arg(long, value_enum, default_value_t = Pattern::Sequential, conflicts_with = "input")]
    pub(crate) pattern: Pattern,

    /// Real data instead of a pattern: a file (or - for standard input), cut into frames.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) input: Option<PathBuf>,

    /// Pause after each batch, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) delay_ms: u64,

    /// Frames between two pauses.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch_size: u64,

    /// How long to wait for the reader, and then for space for each frame; 0 does not wait, -1 waits for ever.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Create a buffer, read frames from it, and remove it at the end.
///
/// Ends with 0 after --frames frames, or when the writer closes in good order and no count was asked for. A writer that
/// closes before all the frames asked for have come, or that dies, is a read error (2).
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 cannot create the buffer, 2 read error or time-out, 3 bad arguments, \
    4 verification failed, 130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct ReaderArgs {
    /// Name of the buffer.
    pub(crate) name: String,

    /// Frames to read; 0 for no limit.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) frames: u64,

    /// Bytes expected per frame; 0 accepts any. Checked only if this option or --verify is given. [default: 1024]
    #[arg(short, long, value_name = "BYTES", value_parser = size)]
    pub(crate) size: Option<usize>,

    /// How long to wait for each frame, the first included; 0 does not wait, -1 waits for ever.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    /// Compare every byte with the writer's pattern of this name.
    #[arg(long, value_enum, default_value_t = Verify::None)]
    pub(crate) verify: Verify,

    /// XXH3-64 checksums of each frame and of the whole stream.
    #[arg(long)]
    pub(crate) checksum: bool,

    /// Frames held before they are released together.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch_size: u64,

    /// Bytes of the ring to create; K, M and G (1024-based) are understood. [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = nonzero_size)]
    pub(crate) buffer_size: Option<usize>,

    /// Bytes of the metadata block to create, of which 8 hold its length. [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) metadata_size: Option<usize>,

    /// Keep the ring a classic one, as 1.x peers speak it. Otherwise a writer of this version makes it an extended one,
    /// which is faster, and which 1.x writers that come later cannot use.
    #[arg(long)]
    pub(crate) classic: bool,

    /// Write the frames' bytes to a file, or to standard output (-); the summary then goes to standard error.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) output: Option<PathBuf>,

    /// When a writer closes or dies, wait for the next one, as long as it takes.
    #[arg(long)]
    pub(crate) keep: bool,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Pass frames on from one buffer to another.
///
/// Creates IN as its reader and connects to OUT as its writer. Ends with 0 after --frames frames, or when the
/// writer of INPUT closes in good order.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 input error (creating, reading, time-out), 2 output error (connecting, \
    writing), 3 relay error (metadata, or frames that nobody fetched from a created output), 4 bad arguments, \
    130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct RelayArgs {
    /// Name of the buffer to read from; the relay creates it.
    #[arg(value_name = "IN")]
    pub(crate) input: String,

    /// Name of the buffer to write to.
    #[arg(value_name = "OUT")]
    pub(crate) output: String,

    /// Frames to relay; 0 for no limit.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) frames: u64,

    /// Create OUT as well and hold frames in it until a reader takes it over. At the end the relay waits for that
    /// reader up to the time-out, and reports the frames lost if none comes.
    #[arg(long)]
    pub(crate) create_output: bool,

    /// Bytes of the rings that the relay creates; K, M and G (1024-based) are understood. [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = nonzero_size)]
    pub(crate) buffer_size: Option<usize>,

    /// Keep the rings that the relay creates classic ones, as 1.x peers speak them. Otherwise the first writer decides,
    /// and 1.x writers cannot follow one of this version.
    #[arg(long)]
    pub(crate) classic: bool,

    /// How long to wait for each frame, for the reader of OUT, and for space; 0 does not wait, -1 waits for ever.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    /// What to do to the bytes of each frame.
    #[arg(long, value_enum, default_value_t = Transform::None)]
    pub(crate) transform: Transform,

    /// Key of the transform xor, applied to every byte.
    #[arg(long, value_name = "BYTE", default_value_t = 255)]
    pub(crate) xor_key: u8,

    /// Frames between two progress lines; 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) log_interval: u64,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Answer requests on a duplex channel, for one client after the other, until Ctrl-C.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 1 cannot create the request buffer, 2 another process took the channel's name, 3 bad \
    arguments, 130 ended by Ctrl-C or SIGTERM.\n\nFor example:\n  zerobuffer duplex-server try --handler reverse &\n  \
    zerobuffer duplex-client try -n 100000 --concurrency 8 --handler reverse --verify"
)]
pub(crate) struct DuplexServerArgs {
    /// Name of the channel.
    pub(crate) name: String,

    /// What to do to the bytes of each request.
    #[arg(long, value_enum, default_value_t = Handler::Echo)]
    pub(crate) handler: Handler,

    /// Key of the handler xor, applied to every byte.
    #[arg(long, value_name = "BYTE", default_value_t = 255)]
    pub(crate) xor_key: u8,

    /// How long the handler sleep takes for each request, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    pub(crate) sleep_ms: u64,

    /// How requests are processed.
    #[arg(long, value_enum, default_value_t = Mode::SingleThread)]
    pub(crate) mode: Mode,

    /// Threads of the mode thread-pool. [default: one for each processor, two at least]
    #[arg(long, value_name = "COUNT", value_parser = nonzero_count)]
    pub(crate) threads: Option<usize>,

    /// Bytes of the request buffer to create; K, M and G (1024-based) are understood. [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = nonzero_size)]
    pub(crate) buffer_size: Option<usize>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Send requests on a duplex channel, wait for each response, and tell how long they took.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all requests answered, 1 cannot connect, 2 a request failed or the server ended, 3 bad \
    arguments, 4 verification failed, 130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct DuplexClientArgs {
    /// Name of the channel.
    pub(crate) name: String,

    /// Requests to send; 0 for no limit.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) requests: u64,

    /// Bytes per request; K, M and G (1024-based) are understood. They hold the pattern sequential.
    #[arg(short, long, value_name = "BYTES", default_value = "1024", value_parser = nonzero_size)]
    pub(crate) size: usize,

    /// Threads that call at once, each waiting for its own response.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = nonzero_count)]
    pub(crate) concurrency: usize,

    /// Compare every byte of each response with what --handler makes of its request.
    #[arg(long)]
    pub(crate) verify: bool,

    /// The server's handler, for --verify.
    #[arg(long, value_enum, default_value_t = Handler::Echo)]
    pub(crate) handler: Handler,

    /// The server's key of the handler xor, for --verify.
    #[arg(long, value_name = "BYTE", default_value_t = 255)]
    pub(crate) xor_key: u8,

    /// How long to wait for the server, and then for each response; 0 does not wait, -1 waits for ever.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    /// Bytes of the response buffer to create; K, M and G (1024-based) are understood. [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = nonzero_size)]
    pub(crate) buffer_size: Option<usize>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

#[derive(Debug, Args, Clone, Copy)]
pub(crate) struct ReportArgs {
    /// Print the summary as one JSON object, and nothing else.
    #[arg(long)]
    pub(crate) json_output: bool,

    /// Say what happens inside, on standard error.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// See it work: two real processes, moving 1080p pictures, verified; then one of them is killed.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 every frame was right, 1 something was not, 3 bad arguments, \
    130 ended by Ctrl-C or SIGTERM.")]
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

    /// Say what happens inside, on standard error.
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

/// List the buffers on this machine.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 ok, 1 the shared memory cannot be looked at, 3 bad arguments.")]
pub(crate) struct ListArgs {
    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show every field of one buffer, and how it is.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 there is no such buffer, or it may not be looked at, 2 its numbers \
    cannot be true (corrupt), 3 bad arguments."
)]
pub(crate) struct InspectArgs {
    /// Name of the buffer.
    pub(crate) name: String,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Remove what dead processes left behind; never what a live one uses, never anybody else's files.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 ok, 1 something dead could not be removed, 3 bad arguments.")]
pub(crate) struct CleanArgs {
    /// Look only at the buffers of these names; at all if none is given.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Only say what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,

    /// Say what happens inside, on standard error.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Find out what could keep ZeroBuffer from working here, and say what to do about it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no problem found (there may be warnings), 1 a problem was found, 3 bad arguments."
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

/// What the frames of a writer hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Byte i of frame f (both from 0) is (f + i) mod 256.
    Sequential,
    /// SplitMix64 seeded with the frame's index, as little-endian words.
    Random,
    /// All bytes 0.
    Zero,
    /// All bytes 255.
    Ones,
}

/// What a reader compares frames with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    None,
    Sequential,
    Random,
    Zero,
    Ones,
}

impl Verify {
    pub(crate) fn pattern(self) -> Option<Pattern> {
        match self {
            Verify::None => None,
            Verify::Sequential => Some(Pattern::Sequential),
            Verify::Random => Some(Pattern::Random),
            Verify::Zero => Some(Pattern::Zero),
            Verify::Ones => Some(Pattern::Ones),
        }
    }
}

/// What a relay does to the bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transform {
    /// Leave them as they are.
    None,
    /// The last byte first.
    Reverse,
    /// Exclusive or with --xor-key.
    Xor,
}

/// What a duplex server does to the bytes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Handler {
    /// Leave them as they are.
    Echo,
    /// Exclusive or with --xor-key, in place.
    Xor,
    /// The last byte first.
    Reverse,
    /// Leave them as they are, but take --sleep-ms for it.
    Sleep,
}

impl Handler {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Handler::Echo => "echo",
            Handler::Xor => "xor",
            Handler::Reverse => "reverse",
            Handler::Sleep => "sleep",
        }
    }
}

/// How a duplex server processes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One after the other, on the thread that reads them.
    SingleThread,
    /// Several at once.
    ThreadPool,
}

fn timeout() -> clap::builder::RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(-1..)
}

/// A number of bytes, with or without a 1024-based unit.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        unit => return Err(format!("unknown unit `{unit}`; K, M and G are known")),
    };
    let number: usize = digits.parse().map_err(|_| "not a number of bytes, as 4096 or 256M".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "more bytes than this machine can count".to_owned())
}

fn nonzero_size(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("at least 1 byte is needed".to_owned()),
        bytes => Ok(bytes),
    }
}

fn nonzero_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=4096).contains(&count) => Ok(count),
        _ => Err("a number between 1 and 4096".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds between 0.1 and 3600".to_owned()),
    }
}

/// What the fuzzer drives (fuzz/): arguments cut at each newline are understood or refused with words.
#[cfg(any(test, fuzzing))]
pub(crate) fn understand(bytes: &[u8]) {
    use clap::{CommandFactory, FromArgMatches};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    thread_local! {
        // Built once: what it builds of itself takes most of the time.
        static COMMAND: std::cell::RefCell<clap::Command> = std::cell::RefCell::new(Cli::command());
    }
    let words = bytes.split(|byte| *byte == b'\n').map(OsStr::from_bytes);
    let words = std::iter::once(OsStr::new("zerobuffer")).chain(words);
    match COMMAND.with_borrow_mut(|command| command.try_get_matches_from_mut(words)) {
        // What was understood can be read as what it claims to be.
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

    #[test]
    fn sizes_take_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("256MB"), Ok(268_435_456));
        assert_eq!(size("4k"), Ok(4096));
        assert!(size("-1").is_err() && size("12x").is_err() && size("99999999999G").is_err());
        assert!(nonzero_size("0").is_err());
    }
}
