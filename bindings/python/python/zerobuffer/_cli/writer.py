"""`python -m zerobuffer writer`: a pattern, or real data, into a buffer."""

import argparse
import os
from typing import Optional

from .. import Writer, ZeroBufferError, inspect
from .codes import BAD_ARGUMENTS, Failure, failure, file_failure
from .output import inform
from .pattern import Pattern
from .report import Progress, Report, Tally, frames
from .stop import Stop, connect
from .streams import Source, open_input, read_all

_CANNOT_CONNECT = 1
_WRITE_ERROR = 2
# Frames by default, of a pattern.
_DEFAULT_FRAMES = 1000


def run(args: argparse.Namespace) -> int:
    report = Report("write", buffer_name=args.name, frame_size=args.size)
    tally = Tally()
    ended: Optional[Failure] = None
    try:
        _write(args, report, tally)
    except Failure as why:
        ended = why
    report.tally(tally)
    return report.finish(ended, args)


def _write(args: argparse.Namespace, report: Report, tally: Tally) -> None:
    metadata_file, source = None, None
    option = "--metadata-file"
    try:
        # A file that cannot be read is an error before any wait.
        if args.metadata_file is not None:
            metadata_file = open_input(args.metadata_file)
        option = "--input"
        if args.input is not None:
            source = Source(args.input)
    except OSError as error:
        path = args.metadata_file if option == "--metadata-file" else args.input
        raise file_failure(f"{option} {path}", error, _WRITE_ERROR) from error
    limit = args.frames or None
    if args.frames is None and source is None:
        limit = _DEFAULT_FRAMES
    stop = Stop(_CANNOT_CONNECT)
    progress = Progress("writing", limit or 0, args)
    writer = connect(stop, args.name, args.timeout_ms, _CANNOT_CONNECT, BAD_ARGUMENTS, progress)
    try:
        with writer:
            metadata = None if args.metadata is None else os.fsencode(args.metadata)
            if metadata_file is not None:
                metadata = _read_metadata(args, metadata_file, stop)
            if metadata is not None:
                writer.set_metadata(metadata)
                report.fields["metadata_size"] = len(metadata)
                inform(f"buffer `{args.name}`: {len(metadata)} bytes of metadata are set")
            tally.start()
            _stream(args, writer, source, limit, stop, tally, progress)
        inform(f"buffer `{args.name}`: closed after {frames(tally.frames)}")
    except ZeroBufferError as error:
        raise failure(error, _WRITE_ERROR) from error


def _read_metadata(args: argparse.Namespace, file: int, stop: Stop) -> bytes:
    """The metadata in a file. Reads at most one byte more than is allowed."""
    try:
        return read_all(file, inspect.snapshot(args.name).metadata_size + 1, stop)
    except OSError as error:
        raise file_failure(f"--metadata-file {args.metadata_file}", error, _WRITE_ERROR) from error


def _stream(
    args: argparse.Namespace,
    writer: Writer,
    source: Optional[Source],
    limit: Optional[int],
    stop: Stop,
    tally: Tally,
    progress: Progress,
) -> None:
    pattern = Pattern(args.pattern or "sequential")
    while limit is None or tally.frames < limit:
        stop.check()
        size = args.size
        if source is None:
            # The buffer's space first: a size that it cannot hold takes no memory.
            with writer.frame(size) as view:
                view[:] = pattern.frame(tally.frames, size)
        else:
            if not source.has_more(writer, stop, size):
                return
            target = writer.acquire_frame_buffer(size)
            size = source.fill(writer, stop, target)
            writer.commit_frame(size)
        tally.count(size)
        progress.show(tally)
        if args.delay_ms > 0 and tally.frames % args.batch_size == 0 and tally.frames != limit:
            stop.sleep(args.delay_ms / 1e3)
