"""`python -m zerobuffer writer`: a pattern, or real data, into a buffer."""

import argparse
import os
from typing import Optional

from .. import Writer, ZeroBufferError
from .pattern import Pattern
from .report import BAD_ARGUMENTS, Failure, Progress, Report, Tally, failure, reason
from .stop import Stop, connect
from .streams import Source

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
    metadata, source = None, None
    if args.metadata is not None:
        metadata = os.fsencode(args.metadata)
    elif args.metadata_file is not None:
        try:
            with open(args.metadata_file, "rb") as file:
                metadata = file.read()
        except OSError as error:
            raise Failure(BAD_ARGUMENTS, f"--metadata-file {args.metadata_file}: {reason(error)}") from error
    if args.input is not None:
        try:
            source = Source(args.input)
        except IsADirectoryError as error:
            raise Failure(BAD_ARGUMENTS, f"--input {args.input}: is a directory") from error
        except OSError as error:
            raise Failure(BAD_ARGUMENTS, f"--input {args.input}: {reason(error)}") from error
    limit = args.frames or None
    if args.frames is None and source is None:
        limit = _DEFAULT_FRAMES
    stop = Stop()
    writer = connect(stop, args.name, args.timeout_ms, _CANNOT_CONNECT, BAD_ARGUMENTS)
    try:
        with writer:
            if metadata is not None:
                writer.set_metadata(metadata)
                report.fields["metadata_size"] = len(metadata)
            tally.start()
            _stream(args, writer, source, limit, stop, tally)
    except ZeroBufferError as error:
        raise failure(error, _WRITE_ERROR) from error


def _stream(
    args: argparse.Namespace,
    writer: Writer,
    source: Optional[Source],
    limit: Optional[int],
    stop: Stop,
    tally: Tally,
) -> None:
    progress = Progress("writing", args)
    pattern = Pattern(args.pattern or "sequential")
    while limit is None or tally.frames < limit:
        stop.check()
        size = args.size
        if source is None:
            writer.write_frame(pattern.frame(tally.frames, size))
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
