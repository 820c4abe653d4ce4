"""`python -m zerobuffer reader`: frames out of a buffer, verified, summed up, or written to a file."""

import argparse
from typing import Any, Dict, List, Optional

from .. import BufferConfig, Frame, Reader, WriterDeadError, ZeroBufferError
from . import xxh3
from .codes import Failure, Interrupted, failure, file_failure, reason
from .output import complain, say, tell
from .pattern import Pattern
from .report import Progress, Report, Tally
from .stop import Arrivals, Stop, latest_frame, next_frame, tell_of_buffer
from .streams import Sink

_CANNOT_CREATE = 1
_READ_ERROR = 2
_VERIFICATION_FAILED = 4
# Bytes expected per frame by default.
_DEFAULT_SIZE = 1024
# The most wrong frames that are reported one by one.
_TOLD = 10


def run(args: argparse.Namespace) -> int:
    report = Report("read", buffer_name=args.name)
    tally, checks = Tally(), _Checks(args)
    ended: Optional[Failure] = None
    try:
        _read(args, report, tally, checks)
    except Failure as why:
        ended = why
    if ended is None and checks.wrong > 0:
        message = (
            f"buffer `{args.name}`: {checks.wrong} of {tally.frames} frames are not what was expected: "
            "writer and reader need the same pattern and --size"
        )
        ended = Failure(_VERIFICATION_FAILED, message)
    report.tally(tally)
    report.fields.update(frame_size=tally.largest, verification_errors=checks.wrong, checksums=checks.sums())
    return report.finish(ended, args, to_stderr=args.output == "-")


def config(args: argparse.Namespace, metadata_size: Optional[int] = None, *, sharing: bool = True) -> BufferConfig:
    """Contains only the sizes that were given: a buffer that a relay has kept for this reader has its sizes already."""
    if metadata_size is None:
        metadata_size = args.metadata_size
    return BufferConfig(
        metadata_size,
        args.buffer_size,
        mode=0o600 if args.mode is None else args.mode,
        preallocate=args.preallocate,
        huge_pages=args.huge_pages,
        numa_node=args.numa_node,
        classic=args.classic,
        allow_payload_sharing=sharing,
    )


def _read(args: argparse.Namespace, report: Report, tally: Tally, checks: "_Checks") -> None:
    stop = Stop(_CANNOT_CREATE)
    try:
        reader = Reader(args.name, config(args))
    except ZeroBufferError as error:
        raise failure(error, _CANNOT_CREATE) from error
    stop.watch(reader)
    tell_of_buffer(args.name)
    sink: Optional[Sink] = None
    try:
        with reader:
            if args.output is not None:
                try:
                    sink = Sink(args.output, stop)
                except OSError as error:
                    raise file_failure(f"--output {args.output}", error, _READ_ERROR) from error
            try:
                _stream(args, reader, sink, stop, tally, checks)
            finally:
                report.fields["metadata_size"] = len(reader.get_metadata() or b"")
                if args.latest:
                    report.fields["frames_skipped"] = reader.frames_skipped
    except ZeroBufferError as error:
        raise failure(error, _READ_ERROR) from error
    finally:
        # The buffer is removed before the last bytes are written, so that no writer waits for a stalled pipe.
        if sink is not None:
            try:
                sink.finish(stop)
            except OSError as error:
                raise Failure(_READ_ERROR, f"cannot write to --output {args.output}: {reason(error)}") from error


def _stream(
    args: argparse.Namespace, reader: Reader, sink: Optional[Sink], stop: Stop, tally: Tally, checks: "_Checks"
) -> None:
    progress = Progress("reading", args.frames, args)
    arrivals = Arrivals(args.name)
    held: List[Frame] = []

    def idle() -> None:
        # The writer may be waiting for the space that is held here.
        held.clear()
        progress.wait(tally, arrivals.awaited())

    following = latest_frame if args.latest else next_frame
    while args.frames == 0 or tally.frames < args.frames:
        stop.check()
        try:
            frame = following(reader, args.timeout_ms, idle)
        except WriterDeadError as error:
            arrivals.end()
            if not args.keep:
                advice = "start both again, or wait for the next with --keep"
                raise Failure(_READ_ERROR, f"{error} ({tally.frames} frames); {advice}") from error
            complain(f"{error}; waiting for the next writer")
            continue
        if frame.end_of_stream:
            arrivals.closed(tally.frames)
            if args.keep:
                continue
            if args.frames == 0:
                return
            raise Failure(
                _READ_ERROR,
                f"buffer `{args.name}`: the writer closed after {tally.frames} of {args.frames} frames; ask for fewer, "
                "or wait for the next writer with --keep",
            )
        if not frame.is_valid:
            if args.keep and not reader.is_writer_connected():
                if args.timeout_ms == 0:
                    stop.sleep(0.01)
                continue
            raise Failure(
                _READ_ERROR,
                f"buffer `{args.name}`: no frame within {args.timeout_ms} ms; start the writer (zerobuffer writer "
                f"{args.name}), or wait longer with --timeout-ms (-1: without limit)",
            )
        tally.start()
        arrivals.frame()
        checks.check(frame)
        if sink is not None and not sink.put(frame, stop):
            # Interrupted or failed; finish() says which.
            if stop.requested:
                raise Interrupted
            return
        tally.count(len(frame))
        held.append(frame)
        # Not even until the next one comes.
        del frame
        if len(held) >= args.batch_size:
            held.clear()
        progress.show(tally)


class _Checks:
    """The checks of each frame."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.wrong = 0
        self._pattern = None if args.verify == "none" else Pattern(args.verify)
        # None or 0 for any size.
        self._size = _DEFAULT_SIZE if args.size is None and self._pattern else args.size
        # Without JSON, checksums are printed as they come; on standard error, if standard output has the data.
        self._print = not args.json_output
        self._to_stderr = args.output == "-"
        self._stream = xxh3.Xxh3() if args.checksum else None
        self._frames: List[str] = []

    def check(self, frame: Frame) -> None:
        # The first frame of a writer has the number 1.
        index = frame.sequence - 1
        trouble = ""
        data = memoryview(frame)
        if self._size and self._size != len(data):
            trouble = f"frame {index} has {len(data)} bytes, {self._size} were expected"
        elif self._pattern is not None:
            found = self._pattern.mismatch(index, data)
            if found is not None:
                trouble = f"frame {index} is wrong: byte {found[0]} is {found[1]}, {found[2]} was expected"
        if trouble:
            self.wrong += 1
            if self.wrong <= _TOLD:
                complain(trouble)
            if self.wrong == _TOLD:
                complain("further wrong frames are only counted")
        if self._stream is not None:
            self._stream.update(data)
            digest = f"{xxh3.digest(data):016x}"
            if self._print:
                (tell if self._to_stderr else say)(f"frame {index}: {len(data)} bytes, xxh3-64 {digest}")
            else:
                self._frames.append(digest)

    def sums(self) -> Optional[Dict[str, Any]]:
        """The field `checksums`."""
        if self._stream is None:
            return None
        return {"algorithm": "xxh3-64", "stream": f"{self._stream.intdigest():016x}", "frames": self._frames}
