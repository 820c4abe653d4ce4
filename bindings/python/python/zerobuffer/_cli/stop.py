"""Ending in good order, on Ctrl-C, SIGTERM or a closed terminal; and waiting in slices, so that this gets its turn."""

import os
import select
import signal
import time
from types import FrameType
from typing import Callable, List, Optional, Union

from .. import BufferNotFoundError, Frame, Reader, ReaderDeadError, Writer, ZeroBufferError
from .report import INTERRUPTED, Failure, Interrupted, failure

#: Longest time in one call of the library, in milliseconds.
_SLICE = 50.0


class Stop:
    """A request to end, and what it must wake."""

    def __init__(self) -> None:
        self.requested = False
        self._handles: List[Union[Reader, Writer]] = []
        # Readable once the end is requested.
        self._waker, self._wake = os.pipe()
        wanted = [signal.SIGINT, signal.SIGTERM]
        # nohup(1) ignores SIGHUP for us, and means it.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            wanted.append(signal.SIGHUP)
        for number in wanted:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: Optional[FrameType]) -> None:
        if self.requested:
            # A second one ends the process at once.
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
        """Says whether it slept all the time, rather than to be woken by a request."""
        return not select.select([self._waker], [], [], min(seconds, 2.0**30))[0]

    def wait_readable(self, source: int, seconds: float) -> bool:
        """Waits until there is something to read from `source`; raises Interrupted when the end is requested."""
        ready = select.select([self._waker, source], [], [], seconds)[0]
        self.check()
        return source in ready


class Deadline:
    """What is left of a time-out in milliseconds; -1 is for ever."""

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
    deadline = Deadline(timeout_ms)
    while True:
        frame = reader.read_frame(deadline.slice())
        if frame.is_valid or frame.end_of_stream or deadline.left() == 0:
            return frame
        idle()


def connect(stop: Stop, name: str, timeout_ms: int, code: int, bad_arguments: int) -> Writer:
    """Waits up to `timeout_ms` for the reader of `name`. A failure carries `code`, or `bad_arguments`."""
    deadline = Deadline(timeout_ms)
    while True:
        stop.check()
        try:
            writer = Writer(name, write_timeout_ms=timeout_ms, connect_timeout_ms=deadline.slice())
        except (BufferNotFoundError, ReaderDeadError) as error:
            if deadline.left() > 0:
                continue
            raise Failure(code, f"{error} (waited {timeout_ms} ms; see --timeout-ms)") from error
        except ZeroBufferError as error:
            raise failure(error, code, bad_arguments) from error
        stop.watch(writer)
        return writer
