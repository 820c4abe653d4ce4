"""Every command and option."""

import argparse
import sys
from typing import Any, Callable, List, NoReturn, Optional

from .. import __version__
from . import output
from .codes import BAD_ARGUMENTS, RELAY_BAD_ARGUMENTS

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmg", 1):
    _UNITS.update({_letter + end: 1024**_power for end in ("", "b", "ib")})


def size(text: str) -> int:
    """A number of bytes, with or without a 1024-based unit."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(digits) :]
    if unit.lower() not in _UNITS:
        raise argparse.ArgumentTypeError(f"unknown unit `{unit}`; K, M and G are known")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError("not a number of bytes, as 4096 or 256M")
    number = int(digits) * _UNITS[unit.lower()]
    if number > sys.maxsize * 2 + 1:
        raise argparse.ArgumentTypeError("more bytes than this machine can count")
    return number


def nonzero_size(text: str) -> int:
    if size(text) == 0:
        raise argparse.ArgumentTypeError("at least 1 byte is needed")
    return size(text)


def name(text: str) -> str:
    """A name of a buffer."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("not UTF-8") from None
    return text


def permissions(text: str) -> int:
    """Permission bits, as chmod(1) takes them."""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o7777:
        raise argparse.ArgumentTypeError("not octal permissions, as 0600 or 660")
    return int(text, 8)


def number(low: int, high: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"not a whole number: {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not in {low}..={high}")
        return value

    return parse


_count = number(0, 2**64 - 1)
_timeout = number(-1, 2**63 - 1)


class _Parser(argparse.ArgumentParser):
    """Ends with the code of its command when the command line is bad."""

    code = BAD_ARGUMENTS

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        for line in self.format_usage().splitlines():
            output.tell(line)
        output.tell(f"error: {message}")
        sys.exit(self.code)

    def exit(self, status: int = 0, message: Optional[str] = None) -> NoReturn:
        # After the help or the version.
        if message:
            output.say_text(message)
        sys.exit(output.exit_code(status))

    def print_help(self, file: Any = None) -> None:
        output.say_text(self.format_help())

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # The parser of a command refuses what it does not know itself: its exit code is the right one.
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        output.say(f"zerobuffer {__version__}")
        parser.exit()


def parse(arguments: List[str]) -> argparse.Namespace:
    """Ends the process when there is nothing to run."""
    parser = _Parser(
        prog="python -m zerobuffer",
        description="Frames between two processes through shared memory: one writer, one reader, zero copies, no broker.",
    )
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show the program's version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _writer(commands)
    _reader(commands)
    _relay(commands)
    if not arguments:
        for line in parser.format_help().splitlines():
            output.tell(line)
        sys.exit(BAD_ARGUMENTS)
    return parser.parse_args(arguments)


def _command(commands: Any, name: str, summary: str, codes: str) -> Any:
    return commands.add_parser(name, help=summary, description=summary, epilog=f"Exit codes: {codes}")


def _report(parser: Any) -> None:
    parser.add_argument(
        "--json-output", action="store_true", help="print the summary as one JSON object, and nothing else"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens, on standard error")


def _timeout_ms(parser: Any, what: str) -> None:
    parser.add_argument(
        "--timeout-ms",
        type=_timeout,
        default=5000,
        metavar="MS",
        help=f"how long to wait for {what}; 0 does not wait, -1 waits without limit (default: 5000)",
    )


def _ring(parser: Any) -> None:
    parser.add_argument(
        "--buffer-size",
        type=nonzero_size,
        metavar="BYTES",
        help="bytes of each ring to create; K, M and G (1024-based) are understood (default: 256M)",
    )
    parser.add_argument(
        "--metadata-size",
        type=size,
        metavar="BYTES",
        help="bytes of the metadata block to create, of which 8 hold its length (default: 4096)",
    )
    parser.add_argument(
        "--mode",
        type=permissions,
        metavar="OCTAL",
        help="permissions of the buffer, as 0660 for a group (default: 0600)",
    )
    parser.add_argument("--preallocate", action="store_true", help="reserve all memory of the buffer at the start")
    parser.add_argument(
        "--huge-pages",
        action="store_true",
        help="make all memory of the buffer at the start, in huge pages as far as the kernel has some",
    )
    parser.add_argument(
        "--numa-node",
        type=number(-1, 1023),
        metavar="NODE",
        help="NUMA node whose memory the buffer shall use, as far as there is room; -1 = where the reader runs",
    )
    parser.add_argument(
        "--classic",
        action="store_true",
        help="keep the ring classic, so that 1.x writers can use it; otherwise a writer of this version makes it an extended "
        "one, which is faster, but which later 1.x writers cannot use",
    )


def _frames(parser: Any, what: str, default: Optional[int] = 0) -> None:
    parser.add_argument("-n", "--frames", type=_count, default=default, metavar="COUNT", help=what)


def _xor_key(parser: Any) -> None:
    parser.add_argument(
        "--xor-key",
        type=number(0, 255),
        default=255,
        metavar="BYTE",
        help="key of the transform xor, applied to every byte (default: 255)",
    )


def _writer(commands: Any) -> None:
    parser = _command(
        commands,
        "writer",
        "Write frames into a buffer that a reader has created, or will create soon.",
        "0 all frames written, 1 cannot connect, 2 write error, 3 bad arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM.",
    )
    parser.add_argument("name", type=name, help="name of the buffer")
    _frames(parser, "frames to write; 0 for no limit (default: 1000; with --input, no limit)", None)
    parser.add_argument(
        "-s",
        "--size",
        type=nonzero_size,
        default=1024,
        metavar="BYTES",
        help="bytes per frame (default: 1024); with --input, the last frame may be shorter; K, M and G are understood",
    )
    metadata = parser.add_mutually_exclusive_group()
    metadata.add_argument("-m", "--metadata", metavar="TEXT", help="metadata to set before the first frame")
    metadata.add_argument("--metadata-file", metavar="FILE", help="file with the metadata to set before the first frame")
    content = parser.add_mutually_exclusive_group()
    content.add_argument(
        "--pattern",
        choices=["sequential", "random", "zero", "ones"],
        metavar="PATTERN",
        help="what the frames hold: sequential, random, zero or ones (default: sequential)",
    )
    content.add_argument(
        "--input",
        metavar="FILE|-",
        help="real data instead of a pattern: a file (or - for standard input), cut into frames",
    )
    parser.add_argument(
        "--delay-ms", type=_count, default=0, metavar="MS", help="pause after each batch, in milliseconds (default: 0)"
    )
    parser.add_argument(
        "--batch-size",
        type=number(1, 2**64 - 1),
        default=1,
        metavar="COUNT",
        help="frames between two pauses (default: 1)",
    )
    _timeout_ms(parser, "the reader, and then for space for each frame")
    _report(parser)


def _reader(commands: Any) -> None:
    parser = _command(
        commands,
        "reader",
        "Create a buffer, read frames from it, and remove it at the end.",
        "0 ok, 1 cannot create the buffer, 2 read error or time-out, 3 bad arguments, 4 verification failed, "
        "5 results not printed, 130 ended by Ctrl-C or SIGTERM.",
    )
    parser.add_argument("name", type=name, help="name of the buffer")
    _frames(parser, "frames to read; 0 for no limit (default: 0)")
    parser.add_argument(
        "-s",
        "--size",
        type=size,
        metavar="BYTES",
        help="bytes expected per frame; 0 accepts any; checked only if this option or --verify is given (default: 1024)",
    )
    _timeout_ms(parser, "each frame, the first included")
    parser.add_argument(
        "--verify",
        choices=["none", "sequential", "random", "zero", "ones"],
        default="none",
        metavar="PATTERN",
        help="compare every byte with the writer's pattern of this name, or none (default: none)",
    )
    parser.add_argument(
        "--checksum", action="store_true", help="XXH3-64 checksums of each frame and of the whole stream"
    )
    parser.add_argument(
        "--batch-size",
        type=number(1, 2**64 - 1),
        default=1,
        metavar="COUNT",
        help="frames held before they are released together (default: 1)",
    )
    _ring(parser)
    parser.add_argument(
        "--output",
        metavar="FILE|-",
        help="write the frames' bytes to a file, or to standard output (-); the summary then goes to standard error",
    )
    parser.add_argument(
        "--latest",
        action="store_true",
        help="read the newest frame each time, and pass over those that came before it; the summary counts them",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="when a writer closes or dies, wait for the next one without limit",
    )
    _report(parser)


def _relay(commands: Any) -> None:
    parser = _command(
        commands,
        "relay",
        "Pass frames on from one buffer to another.",
        "0 ok, 1 input error (creating, reading, time-out), 2 output error (connecting, writing), 3 relay error "
        "(metadata, or frames that no reader fetched from a created output), 4 bad arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM.",
    )
    parser.code = RELAY_BAD_ARGUMENTS
    parser.add_argument("input", type=name, metavar="IN", help="name of the buffer to read from; the relay creates it")
    parser.add_argument("output", type=name, metavar="OUT", help="name of the buffer to write to")
    _frames(parser, "frames to relay; 0 for no limit (default: 0)")
    parser.add_argument(
        "--create-output",
        action="store_true",
        help="create OUT as well and hold frames in it until a reader takes it over; at the end the relay waits for that reader "
        "up to the time-out, and reports the frames lost if none comes",
    )
    _ring(parser)
    _timeout_ms(parser, "each frame, for the reader of OUT, and for space")
    parser.add_argument(
        "--copy",
        action="store_true",
        help="copy every frame; otherwise frames of 32 KiB and more are shared where the reader of OUT allows it: it looks at "
        "them in IN, and the relay holds them there until it has released them",
    )
    parser.add_argument(
        "--transform",
        choices=["none", "reverse", "xor"],
        default="none",
        metavar="TRANSFORM",
        help="what to do to the bytes of each frame: none, reverse or xor (default: none)",
    )
    _xor_key(parser)
    parser.add_argument(
        "--log-interval",
        type=_count,
        default=100,
        metavar="COUNT",
        help="frames between two progress lines; 0 for none (default: 100)",
    )
    _report(parser)
