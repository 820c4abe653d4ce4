"""What a command says: the JSON object or the summary at the end, progress meanwhile, errors at any time; exit codes."""

import argparse
import json
import logging
import sys
import time
from typing import IO, Any, Dict, Optional

from .. import InterruptedError, InvalidConfigError, InvalidNameError

OK = 0
#: A bad command line, for every command but the relay.
BAD_ARGUMENTS = 3
RELAY_BAD_ARGUMENTS = 4
#: Ended by Ctrl-C or SIGTERM, in good order.
INTERRUPTED = 130


class Failure(Exception):
    """Why a command ends early: its exit code, what happened and the way out."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Interrupted(Failure):
    """Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED, "interrupted")


def failure(error: Exception, code: int, bad_arguments: int = BAD_ARGUMENTS) -> Failure:
    """From an error of the library; `code` unless it was the command line that was bad."""
    if isinstance(error, InterruptedError):
        return Interrupted()
    if isinstance(error, (InvalidNameError, InvalidConfigError)):
        return Failure(bad_arguments, str(error))
    return Failure(code, str(error))


def reason(error: OSError) -> str:
    """What the operating system said, as the other languages' commands put it."""
    return f"{error.strerror} (os error {error.errno})"


def _put(stream: IO[str], line: str) -> None:
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        # With nobody to listen there is nothing to be done about it.
        pass


def complain(message: object) -> None:
    """Prints an error."""
    _put(sys.stderr, f"zerobuffer: error: {message}")


def say(line: str, to_stderr: bool = False) -> None:
    """Prints a line; a closed pipe is no reason to fail."""
    _put(sys.stderr if to_stderr else sys.stdout, line)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
        _put(sys.stderr, f"zerobuffer: {level}: {record.getMessage()}")


def show_log(verbose: bool) -> None:
    """Shows what the library logs: warnings always, the rest if `verbose`."""
    logger = logging.getLogger("zerobuffer")
    logger.addHandler(_Handler())
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)


class Tally:
    """Counts frames, bytes and the time that they took."""

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0
        self.largest = 0
        self.started: Optional[float] = None
        self.ended: Optional[float] = None

    def start(self) -> None:
        """Starts the clock, unless it runs."""
        if self.started is None:
            self.started = time.monotonic()

    def count(self, size: int) -> None:
        """Counts a frame that is done with."""
        self.frames += 1
        self.bytes += size
        self.largest = max(self.largest, size)
        self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        return 0.0 if self.started is None or self.ended is None else max(0.0, self.ended - self.started)


def human(count: int) -> str:
    """A number of bytes for people."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


# The fields of the JSON object, in this order; those that do not apply are left out.
_ORDER = [
    "operation",
    "buffer_name",
    "input_buffer",
    "output_buffer",
    "frames_written",
    "frames_read",
    "frames_relayed",
    "bytes",
    "frame_size",
    "metadata_size",
    "duration_seconds",
    "throughput_mbps",
    "verification_errors",
    "checksums",
    "transform",
    "metadata_relayed",
    "frames_lost",
    "interrupted",
    "errors",
]
_DONE = {
    "write": ("wrote", "frames_written"),
    "read": ("read", "frames_read"),
    "relay": ("relayed", "frames_relayed"),
}


class Report:
    """What `--json-output` prints; without it, a line with the same."""

    def __init__(self, operation: str, **fields: Any) -> None:
        self.fields: Dict[str, Any] = {
            "operation": operation,
            "frame_size": 0,
            "metadata_size": 0,
            "interrupted": False,
            "errors": [],
            **fields,
        }

    def tally(self, tally: Tally) -> None:
        """Enters the counts."""
        seconds = tally.seconds
        rate = tally.bytes / 2**20 / seconds if seconds > 0 else 0.0
        self.fields.update(bytes=tally.bytes, duration_seconds=seconds, throughput_mbps=rate)
        self.fields[_DONE[self.fields["operation"]][1]] = tally.frames

    def finish(self, failure: Optional[Failure], how: argparse.Namespace, to_stderr: bool = False) -> int:
        """Enters how the command ended, prints errors and the summary, and gives the exit code."""
        if isinstance(failure, Interrupted):
            self.fields["interrupted"] = True
        elif failure is not None:
            complain(failure)
            self.fields["errors"].append(str(failure))
        if how.json_output:
            known = {key: self.fields[key] for key in _ORDER if self.fields.get(key) is not None}
            say(json.dumps(known, ensure_ascii=False, separators=(",", ":")), to_stderr)
        else:
            say(self._text(), to_stderr)
        return OK if failure is None else failure.code

    def _text(self) -> str:
        fields = self.fields
        done, key = _DONE[fields["operation"]]
        frames, seconds = fields[key], fields["duration_seconds"]
        text = f"{done} {frames} frame{'' if frames == 1 else 's'}, {human(fields['bytes'])}, in {seconds:.3f} s"
        if seconds > 0:
            text += f": {fields['throughput_mbps']:.1f} MiB/s, {frames / seconds:.0f} frames/s"
        if fields.get("verification_errors"):
            text += f"; {fields['verification_errors']} FAILED verification"
        if fields.get("metadata_relayed"):
            text += f"; {fields['metadata_size']} bytes of metadata relayed"
        if fields.get("frames_lost"):
            text += f"; {fields['frames_lost']} LOST"
        if fields.get("checksums"):
            text += f"; {fields['checksums']['algorithm']} {fields['checksums']['stream']}"
        if fields["interrupted"]:
            text += "; interrupted"
        return text


class Progress:
    """Lines on standard error, every two seconds or every so many frames (0: never); none beside JSON."""

    def __init__(self, what: str, how: argparse.Namespace, every: Optional[int] = None) -> None:
        self.what = what
        self.every = 0 if how.json_output else every
        self.last = time.monotonic()
        self.last_bytes = 0

    def show(self, tally: Tally) -> None:
        """Shows how far it is, if it is time to."""
        now = tally.ended
        if self.every == 0 or now is None:
            return
        passed = now - self.last
        if passed < 2 if self.every is None else tally.frames % self.every:
            return
        rate = (tally.bytes - self.last_bytes) / 2**20 / max(passed, 1e-9)
        self.last, self.last_bytes = now, tally.bytes
        _put(sys.stderr, f"{self.what}: {tally.frames} frames, {human(tally.bytes)}, {rate:.1f} MiB/s")
