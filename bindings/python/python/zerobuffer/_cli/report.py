"""The summary at the end of a command, and progress until then."""

import argparse
import json
import logging
import time
from typing import Any, Dict, Optional

from . import output
from .codes import OK, Failure, Interrupted


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
        output.tell(f"zerobuffer: {level}: {record.getMessage()}")


def show_log(verbose: bool) -> None:
    """Shows the library's log: warnings always, the rest if `verbose`."""
    logger = logging.getLogger("zerobuffer")
    logger.addHandler(_Handler())
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    output.set_verbose(verbose)


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
    """A number of bytes in a readable unit."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def frames(count: int) -> str:
    """A number of frames, in words."""
    return f"{count} frame{'' if count == 1 else 's'}"


# The fields of the JSON object, in this order; those that do not apply are left out.
_ORDER = [
    "operation",
    "buffer_name",
    "input_buffer",
    "output_buffer",
    "frames_written",
    "frames_read",
    "frames_relayed",
    "frames_skipped",
    "bytes",
    "frame_size",
    "metadata_size",
    "duration_seconds",
    "throughput_mbps",
    "verification_errors",
    "checksums",
    "transform",
    "metadata_relayed",
    "frames_shared",
    "frames_copied",
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
        """Enters how the command ended, prints errors and the summary, and returns the exit code."""
        if isinstance(failure, Interrupted):
            self.fields["interrupted"] = True
            output.inform("ended by a signal")
        elif failure is not None:
            output.complain(failure)
            self.fields["errors"].append(str(failure))
        if how.json_output:
            known = {key: self.fields[key] for key in _ORDER if self.fields.get(key) is not None}
            output.say_json(json.dumps(known, ensure_ascii=False, separators=(",", ":")), to_stderr)
        elif to_stderr:
            output.tell(self._text())
        else:
            output.say(self._text())
        return OK if failure is None else failure.code

    def _text(self) -> str:
        fields = self.fields
        done, key = _DONE[fields["operation"]]
        frames, seconds = fields[key], fields["duration_seconds"]
        text = f"{done} {frames} frame{'' if frames == 1 else 's'}, {human(fields['bytes'])}, in {seconds:.3f} s"
        if seconds > 0:
            text += f": {fields['throughput_mbps']:.1f} MiB/s, {frames / seconds:.0f} frames/s"
        if fields.get("frames_skipped") is not None:
            text += f"; {fields['frames_skipped']} passed over"
        if fields.get("verification_errors"):
            text += f"; {fields['verification_errors']} FAILED verification"
        if fields.get("metadata_relayed"):
            text += f"; {fields['metadata_size']} bytes of metadata relayed"
        if fields.get("frames_shared"):
            text += f"; {fields['frames_shared']} shared, {fields['frames_copied']} copied"
        if fields.get("frames_lost"):
            text += f"; {fields['frames_lost']} LOST"
        if fields.get("checksums"):
            text += f"; {fields['checksums']['algorithm']} {fields['checksums']['stream']}"
        if fields["interrupted"]:
            text += "; interrupted"
        return text


class Progress:
    """Live progress on standard error: one line that changes on a terminal, lines otherwise, nothing beside JSON.

    Without a terminal there is a line every two seconds, or every so many frames (0: never).
    """

    def __init__(self, what: str, total: int, how: argparse.Namespace, every: Optional[int] = None) -> None:
        self._what = what
        self._total = total
        self._every = every
        self._silent = how.json_output
        self._terminal = output.has_terminal()
        self._last = self._last_frame = time.monotonic()
        self._last_bytes = 0

    def show(self, tally: Tally) -> None:
        """Shows how far the command is, if it is time to."""
        if self._silent or tally.ended is None:
            return
        now = self._last_frame = tally.ended
        passed = now - self._last
        if self._every is None or self._terminal:
            due = passed >= (0.1 if self._terminal else 2)
        else:
            due = self._every > 0 and tally.frames % self._every == 0
        if not due:
            return
        rate = (tally.bytes - self._last_bytes) / 2**20 / max(passed, 1e-9)
        self._last, self._last_bytes = now, tally.bytes
        line = f"{self._counts(tally)}, {rate:.1f} MiB/s"
        if self._terminal:
            output.show_progress(line)
        else:
            output.tell(line)

    def wait(self, tally: Tally, what: str) -> None:
        """Shows on a terminal what the command waits for."""
        now = time.monotonic()
        if self._silent or not self._terminal or now - self._last < 0.1:
            return
        self._last, self._last_bytes = now, tally.bytes
        start = f"{self._counts(tally)}, " if tally.frames > 0 else f"{self._what}: "
        output.show_progress(f"{start}waiting for {what}, {int(now - self._last_frame)} s")

    def _counts(self, tally: Tally) -> str:
        of = f" of {self._total}" if self._total else ""
        plural = "" if tally.frames == 1 and not self._total else "s"
        return f"{self._what}: {tally.frames}{of} frame{plural}, {human(tally.bytes)}"
