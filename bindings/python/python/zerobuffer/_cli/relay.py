"""`python -m zerobuffer relay`: frames from one buffer to another, straight from ring to ring."""

import argparse
from typing import Optional

from .. import BufferConfig, Frame, Reader, Writer, ZeroBufferError, inspect
from .._native import KeptBuffer
from .reader import config
from .report import RELAY_BAD_ARGUMENTS, Failure, Interrupted, Progress, Report, Tally, complain, failure
from .stop import Deadline, Stop, connect, next_frame

_INPUT_ERROR = 1
_OUTPUT_ERROR = 2
_RELAY_ERROR = 3
# Pause between two looks at whether a created output has found its reader, in seconds.
_LOOK = 0.005


def run(args: argparse.Namespace) -> int:
    report = Report(
        "relay",
        input_buffer=args.input,
        output_buffer=args.output,
        transform=args.transform,
        metadata_relayed=False,
    )
    tally = Tally()
    ended: Optional[Failure] = None
    try:
        _relay(args, report, tally)
    except Failure as why:
        ended = why
    report.tally(tally)
    report.fields["frame_size"] = tally.largest
    return report.finish(ended, args)


def _input_failure(error: ZeroBufferError) -> Failure:
    return failure(error, _INPUT_ERROR, RELAY_BAD_ARGUMENTS)


def _output_failure(error: ZeroBufferError) -> Failure:
    return failure(error, _OUTPUT_ERROR, RELAY_BAD_ARGUMENTS)


def _relay(args: argparse.Namespace, report: Report, tally: Tally) -> None:
    if args.input == args.output:
        raise Failure(RELAY_BAD_ARGUMENTS, "IN and OUT are the same buffer: a relay needs two")
    stop = Stop()
    try:
        source = Reader(args.input, config(args))
    except ZeroBufferError as error:
        raise _input_failure(error) from error
    stop.watch(source)
    with source:
        kept = _create_output(args) if args.create_output else None
        try:
            with connect(stop, args.output, args.timeout_ms, _OUTPUT_ERROR, RELAY_BAD_ARGUMENTS) as target:
                relay = _Relay(args, report, source, target)
                ended: Optional[Failure] = None
                try:
                    relay.stream(stop, tally)
                    # It may have come after the last frame.
                    relay.pass_metadata()
                except Failure as why:
                    ended = why
        except Failure:
            if kept is not None:
                kept.close()
            raise
        source.close()
    if kept is not None:
        try:
            _hand_over(args, kept, stop, tally, report)
        except Failure as why:
            ended = ended or why
    if ended is not None:
        raise ended


def _create_output(args: argparse.Namespace) -> KeptBuffer:
    try:
        # As large a metadata block as that of the input, so that its metadata fits.
        metadata_size = inspect.snapshot(args.input).metadata_size
    except ZeroBufferError as error:
        raise _input_failure(error) from error
    try:
        return KeptBuffer(args.output, BufferConfig(metadata_size, args.buffer_size, classic=args.classic))
    except ZeroBufferError as error:
        raise _output_failure(error) from error


def _hand_over(args: argparse.Namespace, kept: KeptBuffer, stop: Stop, tally: Tally, report: Report) -> None:
    """Waits for a reader to take over the output that the relay created, then lets go of it."""
    deadline = Deadline(args.timeout_ms)
    waited = not stop.requested
    while tally.frames > 0 and waited and not kept.is_adopted() and deadline.left() > 0:
        waited = stop.sleep(_LOOK)
    adopted = kept.close()
    report.fields["frames_lost"] = 0 if adopted else tally.frames
    if adopted or tally.frames == 0:
        if not waited:
            raise Interrupted
        return
    message = (
        f"buffer `{args.output}`: no reader took it over, so {tally.frames} frames are lost; start the reader earlier, or "
        "wait longer for it with --timeout-ms"
    )
    if not waited:
        # The exit code says "interrupted"; the loss is told all the same.
        complain(message)
        report.fields["errors"].append(message)
        raise Interrupted
    raise Failure(_RELAY_ERROR, message)


class _Relay:
    def __init__(self, args: argparse.Namespace, report: Report, source: Reader, target: Writer) -> None:
        self._args = args
        self._report = report
        self._source = source
        self._target = target
        self._metadata_passed = False
        self._xor = bytes(byte ^ args.xor_key for byte in range(256))

    def stream(self, stop: Stop, tally: Tally) -> None:
        args = self._args
        progress = Progress("relaying", args, args.log_interval)
        while args.frames == 0 or tally.frames < args.frames:
            stop.check()
            try:
                frame = next_frame(self._source, args.timeout_ms, self.pass_metadata)
            except ZeroBufferError as error:
                raise _input_failure(error) from error
            if frame.end_of_stream:
                if args.frames == 0:
                    return
                raise Failure(
                    _INPUT_ERROR,
                    f"buffer `{args.input}`: the writer closed after {tally.frames} of {args.frames} frames; ask for fewer",
                )
            if not frame.is_valid:
                raise Failure(
                    _INPUT_ERROR,
                    f"buffer `{args.input}`: no frame within {args.timeout_ms} ms; start its writer (zerobuffer writer "
                    f"{args.input}), or wait longer with --timeout-ms (-1: for ever)",
                )
            tally.start()
            # Before the frame that it may describe.
            self.pass_metadata()
            try:
                self._pass(frame)
            except ZeroBufferError as error:
                raise _output_failure(error) from error
            tally.count(len(frame))
            del frame
            progress.show(tally)

    def _pass(self, frame: Frame) -> None:
        """One copy, transformed on the way (xor takes another one)."""
        if self._args.transform == "none":
            self._target.write_frame(frame)
            return
        with self._target.frame(len(frame)) as view:
            if self._args.transform == "reverse":
                view[:] = memoryview(frame)[::-1]
            else:
                view[:] = bytes(frame).translate(self._xor)

    def pass_metadata(self) -> None:
        """Passes on the metadata, if it has come and is not passed on yet."""
        if self._metadata_passed:
            return
        try:
            metadata = self._source.get_metadata()
        except ZeroBufferError as error:
            raise _input_failure(error) from error
        if metadata is None:
            return
        try:
            self._target.set_metadata(metadata)
        except ZeroBufferError as error:
            raise failure(error, _RELAY_ERROR, RELAY_BAD_ARGUMENTS) from error
        self._metadata_passed = True
        self._report.fields.update(metadata_relayed=True, metadata_size=len(metadata))
