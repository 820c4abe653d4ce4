"""Real data: files or pipes as the input of a writer and the output of a reader."""

import errno
import os
import queue
import select
import stat
import threading
import time
from typing import Optional

from .. import Frame, Writer
from . import output
from .codes import Failure, Interrupted, reason
from .stop import Stop

# Bytes read ahead, so that the end of the data is known before space for another frame is asked for.
_AHEAD = 4096
# Pause between two looks at the reader while the input has nothing, in seconds.
_LOOK = 0.1
# Pause between two attempts to open a FIFO that has no reader, in seconds.
_LOOK_AT_FIFO = 0.02
# The most frames on their way to the output's thread.
_UNDER_WAY = 32
# How long an interrupted reader waits for what it has read to be written, in seconds.
_GRACE = 0.5


def open_input(path: str) -> int:
    """Opens a file, or standard input (-), for reading.

    Never waits: a FIFO without a writer is open at once, and is ready to be read when its writer is there.
    """
    fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return fd


def read_all(fd: int, most: int, stop: Stop) -> bytes:
    """Reads what `open_input` has opened, to its end but no more than `most` bytes, and closes it."""
    data = bytearray()
    try:
        while len(data) < most:
            if not stop.wait_readable(fd, 1.0):
                continue
            try:
                piece = os.read(fd, min(65536, most - len(data)))
            except BlockingIOError:
                continue
            if not piece:
                break
            data += piece
    finally:
        os.close(fd)
    return bytes(data)


def _open_output(path: str, stop: Stop) -> int:
    """Opens a file, or standard output (-), for writing; waits for the reader of a FIFO."""
    if path == "-":
        return os.dup(1)
    # With O_NONBLOCK, opening a FIFO without a reader fails with ENXIO instead of waiting.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    waits = False
    while True:
        try:
            fd = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
        else:
            os.set_blocking(fd, True)
            return fd
        if not waits:
            output.inform(f"waiting for a reader of the FIFO {path}")
        waits = True
        if not stop.sleep(_LOOK_AT_FIFO):
            raise Interrupted


class Source:
    """A file or a pipe, read straight into shared memory."""

    def __init__(self, path: str) -> None:
        self.what = "standard input" if path == "-" else path
        self._fd = open_input(path)
        # A pipe, a terminal or a socket, which can keep a read waiting.
        self._can_block = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._ahead = b""

    def has_more(self, writer: Writer, stop: Stop, size: int) -> bool:
        """Whether there is more. Waits until that is known."""
        if not self._ahead:
            ahead = bytearray(min(size, _AHEAD))
            self._ahead = bytes(ahead[: self._read(writer, stop, memoryview(ahead))])
        return bool(self._ahead)

    def fill(self, writer: Writer, stop: Stop, target: memoryview) -> int:
        """Fills in a frame. Returns the number of bytes."""
        filled = len(self._ahead)
        target[:filled] = self._ahead
        self._ahead = b""
        while filled < len(target):
            count = self._read(writer, stop, target[filled:])
            if count == 0:
                break
            filled += count
        return filled

    def _read(self, writer: Writer, stop: Stop, target: memoryview) -> int:
        while self._can_block and not stop.wait_readable(self._fd, _LOOK):
            if not writer.is_reader_connected():
                raise Failure(2, f"buffer `{writer.name}`: the reader has gone: start it again")
        try:
            return os.readv(self._fd, [target])
        except BlockingIOError:
            return self._read(writer, stop, target)
        except OSError as error:
            raise Failure(2, f"cannot read {self.what}: {reason(error)}") from error


class Sink:
    """A thread writes the frames, so that a stalled pipe cannot keep the reader from ending."""

    def __init__(self, path: str, stop: Stop) -> None:
        self._fd = _open_output(path, stop)
        self._frames: "queue.Queue[Optional[Frame]]" = queue.Queue(_UNDER_WAY)
        self._error: Optional[OSError] = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def put(self, frame: Optional[Frame], stop: Stop) -> bool:
        """Hands over a frame; waits while too many are under way.

        Returns False if the end is requested or the output has failed.
        """
        while not (stop.requested or self._ended.is_set()):
            try:
                self._frames.put(frame, timeout=0.02)
                return True
            except queue.Full:
                pass
        return False

    def finish(self, stop: Stop) -> None:
        """Waits until everything is written; for an interrupted reader only a moment.

        Raises:
            OSError: if it could not be written.
        """
        if not self.put(None, stop) and stop.requested:
            end = time.monotonic() + _GRACE
            while time.monotonic() < end and not self._ended.is_set() and not self._frames.empty():
                self._ended.wait(0.02)
            return
        while not self._ended.wait(0.02):
            if stop.requested:
                self._ended.wait(_GRACE)
                return
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while True:
                frame = self._frames.get()
                if frame is None:
                    return
                left = memoryview(frame)
                while left:
                    try:
                        left = left[os.write(self._fd, left) :]
                    except BlockingIOError:
                        # Another process has made the stream non-blocking.
                        select.select([], [self._fd], [])
                # Keeps no frame while it waits for the next one.
                del frame, left
        except OSError as error:
            self._error = error
        finally:
            os.close(self._fd)
            self._ended.set()
