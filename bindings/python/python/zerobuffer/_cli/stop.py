"""An orderly end on Ctrl-C, SIGTERM or a closed terminal, and waits in slices, so that a signal is noticed."""

import os
import select
import signal
import time
from types import FrameType
from typing import Callable, List, Optional, Union

from .. import BufferNotFoundError, Frame, Reader, ReaderDeadError, Writer, ZeroBufferError, inspect
from . import output
from .codes import INTERRUPTED, Failure, Interrupted, failure, reason
from .report import Progress, Tally, frames, human

#: Longest time in one call of the library, in milliseconds.
_SLICE = 50.0


class Stop:
    """A request to end, and what it must wake."""

    def __init__(self, code: int) -> None:
        """A failure carries `code`."""
        self.requested = False
        self._handles: List[Union[Reader, Writer]] = []
        # Readable once the end is requested.
        try:
            self._waker, self._wake = os.pipe()
        except OSError as error:
            raise Failure(code, f"cannot take over the signals: {reason(error)}") from error
        output.obey(lambda: self.requested)
        wanted = [signal.SIGINT, signal.SIGTERM]
        # nohup(1) starts commands with SIGHUP ignored, and that is to stay so.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            wanted.append(signal.SIGHUP)
        for number in wanted:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: Optional[FrameType]) -> None:
        if self.requested:
            # A second one ends the process at once.
            output.clear_progress()
            os._exit(INTERRUPTED)
        self.requested = True
        os.write(self._wake, b"!")
        for handle in self._handles:
            handle.interrupt()

    def watch(self, handle: Union[Reader, Writer]) -> None:
        """Interrupts the calls of `handle` when the end is requested."""
        self._handles.append(handle)
        if self.requested:
            handle.interrupt()

    def check(self) -> None:
        """Raises Interrupted if the end is requested."""
        if self.requested:
            raise Interrupted

    def sleep(self, seconds: float) -> bool:
        """Returns whether it slept all the time: False if a request ended the sleep."""
        return not self._poll(min(seconds, 2.0**20))

    def wait_readable(self, source: int, seconds: float) -> bool:
        """Waits until there is something to read from `source`; raises Interrupted when the end is requested."""
        ready = self._poll(seconds, source)
        self.check()
        return source in ready

    def _poll(self, seconds: float, *sources: int) -> List[int]:
        """Not select(2), which knows no descriptors above 1023."""
        poll = select.poll()
        for source in (self._waker, *sources):
            poll.register(source, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll(seconds * 1000)]


class Deadline:
    """The rest of a time-out in milliseconds; -1 has no end."""

    def __init__(self, timeout_ms: int) -> None:
        self._end = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1e3

    def left(self) -> float:
        """In milliseconds."""
        return float("inf") if self._end is None else max(0.0, (self._end - time.monotonic()) * 1e3)

    def slice(self) -> float:
        """The time for the next call, in milliseconds."""
        return min(self.left(), _SLICE)


def next_frame(reader: Reader, timeout_ms: int, idle: Callable[[], None]) -> Frame:
    """Waits for the next frame, calling `idle` whenever there has been none for a slice."""
    # The hot path: no clock, no deadline.
    frame = reader.try_read_frame()
    if frame.is_valid or frame.end_of_stream:
        return frame
    return _wait(reader.read_frame, timeout_ms, idle)


def latest_frame(reader: Reader, timeout_ms: int, idle: Callable[[], None]) -> Frame:
    """Waits for a frame as `next_frame`, and passes over all but the newest."""
    return _wait(reader.read_latest_frame, timeout_ms, idle)


def _wait(read: Callable[[float], Frame], timeout_ms: int, idle: Callable[[], None]) -> Frame:
    deadline = Deadline(timeout_ms)
    while True:
        frame = read(deadline.slice())
        if frame.is_valid or frame.end_of_stream or deadline.left() == 0:
            return frame
        idle()


def connect(stop: Stop, name: str, timeout_ms: int, code: int, bad_arguments: int, progress: Progress) -> Writer:
    """Waits up to `timeout_ms` for the reader of `name`. A failure carries `code`, or `bad_arguments`."""
    deadline = Deadline(timeout_ms)
    waits = False
    while True:
        stop.check()
        try:
            slice_ms = deadline.slice() if waits else 0.0
            writer = Writer(name, True, write_timeout_ms=timeout_ms, connect_timeout_ms=slice_ms)
        except (BufferNotFoundError, ReaderDeadError) as error:
            if deadline.left() > 0:
                if not waits:
                    output.inform(f"buffer `{name}`: waiting for the reader")
                waits = True
                progress.wait(Tally(), "the reader")
                continue
            raise Failure(code, f"{error} (waited {timeout_ms} ms; see --timeout-ms)") from error
        except ZeroBufferError as error:
            raise failure(error, code, bad_arguments) from error
        stop.watch(writer)
        buffer = _look_at(name)
        if buffer is not None:
            output.inform(
                f"buffer `{name}`: connected to the reader (pid {buffer.reader.pid}), {human(buffer.payload_size)} of payload"
            )
        return writer


def _look_at(name: str) -> Optional[inspect.Snapshot]:
    """A look at a buffer for `--verbose`; a buffer that cannot be inspected can still be used."""
    if not output.is_verbose():
        return None
    try:
        return inspect.snapshot(name)
    except ZeroBufferError:
        return None


def tell_of_buffer(name: str) -> None:
    """Reports a buffer that has been created."""
    buffer = _look_at(name)
    if buffer is not None:
        output.inform(
            f"buffer `{name}`: created with {human(buffer.payload_size)} of payload, {human(buffer.metadata_size)} of metadata, "
            f"mode {buffer.mode:04o}; waiting for a writer"
        )


class Arrivals:
    """Reports the writers of a buffer that is read."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._writing = False

    def frame(self) -> None:
        """A frame has come."""
        if self._writing:
            return
        self._writing = True
        buffer = _look_at(self._name)
        if buffer is not None:
            pid = f" (pid {buffer.writer.pid})" if buffer.writer.pid else ""
            output.inform(f"buffer `{self._name}`: the first frame of the writer{pid} has come")

    def end(self) -> None:
        """The writer has ended."""
        self._writing = False

    def closed(self, count: int) -> None:
        """The writer has closed, after `count` frames in all."""
        self.end()
        output.inform(f"buffer `{self._name}`: the writer closed; {frames(count)} so far")

    def awaited(self) -> str:
        """What comes next."""
        return "a frame" if self._writing else "a writer"
