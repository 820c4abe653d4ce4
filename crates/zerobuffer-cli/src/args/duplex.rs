//! The options of `duplex-server` and `duplex-client`.

use clap::{Args, ValueEnum};

use super::values::{nonzero_count, nonzero_size, permissions, timeout};
use super::{BufferArgs, ReportArgs};

/// Answer requests on a duplex channel, for one client after the other, until Ctrl-C.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 1 cannot create the request buffer, 2 another process took the channel's name, 3 bad \
    arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM.\n\nFor example:\n  zerobuffer duplex-server try --handler reverse &\n  \
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

    /// Threads of the mode thread-pool. [default: one per processor, at least two]
    #[arg(long, value_name = "COUNT", value_parser = nonzero_count)]
    pub(crate) threads: Option<usize>,

    #[command(flatten)]
    pub(crate) buffer: BufferArgs,

    /// Permissions of the buffer, as 0660 for a group. [default: 0600]
    #[arg(long, value_name = "OCTAL", value_parser = permissions)]
    pub(crate) permissions: Option<u32>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Send requests on a duplex channel, wait for each response, and report how long they took.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all requests answered, 1 cannot connect, 2 a request failed or the server ended, 3 bad \
    arguments, 4 verification failed, 5 results not printed, 130 ended by Ctrl-C or SIGTERM."
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

    /// Compare every byte of each response with the result of --handler on its request.
    #[arg(long)]
    pub(crate) verify: bool,

    /// The server's handler, for --verify.
    #[arg(long, value_enum, default_value_t = Handler::Echo)]
    pub(crate) handler: Handler,

    /// The server's key of the handler xor, for --verify.
    #[arg(long, value_name = "BYTE", default_value_t = 255)]
    pub(crate) xor_key: u8,

    /// How long to wait for the server, and then for each response; 0 does not wait, -1 waits without limit.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    #[command(flatten)]
    pub(crate) buffer: BufferArgs,

    /// Permissions of the buffer, as 0660 for a group. [default: 0600]
    #[arg(long, value_name = "OCTAL", value_parser = permissions)]
    pub(crate) permissions: Option<u32>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
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
