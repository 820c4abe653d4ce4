"""`python -m zerobuffer relay`: frames from one buffer to another, without a copy where it can, else straight from ring to ring."""

import argparse
from typing import List, Optional

from .. import Frame, Reader, Writer, ZeroBufferError, inspect
from .._native import KeptBuffer
from .codes import RELAY_BAD_ARGUMENTS, Failure, Interrupted, failure
from .output import complain, inform
from .reader import config
from .report import Progress, Report, Tally
from .stop import Arrivals, Deadline, Stop, connect, next_frame, tell_of_buffer

_INPUT_ERROR = 1
_OUTPUT_ERROR = 2
_RELAY_ERROR = 3
# Pause between two looks at whether a created output has found its reader, in seconds.
_LOOK = 0.005

#: Writers that must not be closed: while there is one, the process ends without the clean-up of the interpreter.
abandoned: List[Writer] = []


def run(args: argparse.Namespace) -> int:
    report = Report(
        "relay",
        input_buffer=args.input,
        output_buffer=args.output,
        transform=args.transform,
        metadata_relayed=False,
        frames_shared=0,
        frames_copied=0,
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
    stop = Stop(_RELAY_ERROR)
    try:
        source = Reader(args.input, config(args, sharing=not args.copy))
    except ZeroBufferError as error:
        raise _input_failure(error) from error
    stop.watch(source)
    tell_of_buffer(args.input)
    ended: Optional[Failure] = None
    progress = Progress("relaying", args.frames, args, args.log_interval)
    with source:
        kept = _create_output(args) if args.create_output else None
        try:
            target = connect(stop, args.output, args.timeout_ms, _OUTPUT_ERROR, RELAY_BAD_ARGUMENTS, progress)
        except Failure:
            if kept is not None:
                kept.close()
            raise
        relay = _Relay(args, report, source, target)
        try:
            relay.stream(stop, tally, progress)
            # It may have come after the last frame.
            relay.pass_metadata()
        except Failure as why:
            ended = why
        source.close()
        ended = _end_output(args, target, ended)
    if kept is not None:
        try:
            _hand_over(args, kept, stop, tally, report)
        except Failure as why:
            ended = ended or why
    if ended is not None:
        raise ended


def _end_output(args: argparse.Namespace, target: Writer, ended: Optional[Failure]) -> Optional[Failure]:
    """Closes the output after a complete stream.

    After an incomplete one its reader is to know: a writer that is never closed ends with the process, as the writer of a
    process that dies, and its reader is told so.
    """
    if ended is not None and not isinstance(ended, Interrupted):
        inform(f"buffer `{args.output}`: left as by a writer that died, as the stream is incomplete")
        abandoned.append(target)
        return ended
    try:
        target.close()
    except ZeroBufferError as error:
        return ended or _output_failure(error)
    return ended


def _create_output(args: argparse.Namespace) -> KeptBuffer:
    try:
        # The metadata block is as large as the input's, so that the input's metadata fits.
        metadata_size = inspect.snapshot(args.input).metadata_size
    except ZeroBufferError as error:
        raise _input_failure(error) from error
    try:
        return KeptBuffer(args.output, config(args, metadata_size, sharing=not args.copy))
    except ZeroBufferError as error:
        raise _output_failure(error) from error


def _hand_over(args: argparse.Namespace, kept: KeptBuffer, stop: Stop, tally: Tally, report: Report) -> None:
    """Waits for a reader to take over the output that the relay created, then gives the output up."""
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
        # The exit code says "interrupted"; the loss is reported all the same.
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

    def stream(self, stop: Stop, tally: Tally, progress: Progress) -> None:
        args = self._args
        arrivals = Arrivals(args.input)

        def idle() -> None:
            self.pass_metadata()
            progress.wait(tally, arrivals.awaited())

        while args.frames == 0 or tally.frames < args.frames:
            stop.check()
            try:
                frame = next_frame(self._source, args.timeout_ms, idle)
            except ZeroBufferError as error:
                raise _input_failure(error) from error
            if frame.end_of_stream:
                arrivals.closed(tally.frames)
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
                    f"{args.input}), or wait longer with --timeout-ms (-1: without limit)",
                )
            tally.start()
            arrivals.frame()
            # The metadata comes before the frame that it may describe.
            self.pass_metadata()
            size = len(frame)
            try:
                shared = self._pass(frame)
            except ZeroBufferError as error:
                raise _output_failure(error) from error
            tally.count(size)
            self._report.fields["frames_shared" if shared else "frames_copied"] += 1
            del frame
            progress.show(tally)

    def _pass(self, frame: Frame) -> bool:
        """Transforms a frame where it is, and passes it on; returns whether it was shared."""
        if self._args.transform != "none":
            changed = bytes(frame)
            changed = changed[::-1] if self._args.transform == "reverse" else changed.translate(self._xor)
            if frame.is_shared:
                # The bytes are another relay's.
                self._target.write_frame(changed)
                return False
            memoryview(frame.make_mut())[:] = changed
        return self._target.forward(frame)

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
        inform(f"buffer `{self._args.output}`: {len(metadata)} bytes of metadata are passed on")
        self._report.fields.update(metadata_relayed=True, metadata_size=len(metadata))
