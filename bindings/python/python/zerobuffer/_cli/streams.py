"""Real data: where a writer's frames come from and where a reader's go, files or pipes."""

import os
import queue
import stat
import threading
import time
from typing import Optional

from .. import Frame, Writer
from .report import Failure, reason
from .stop import Stop

# Bytes read ahead, so that the end of the data is known before space for another frame is asked for.
_AHEAD = 4096
# Pause between two looks at the reader while the input keeps us waiting, in seconds.
_LOOK = 0.1
# Frames under way to the output's thread.
_UNDER_WAY = 32
# How long an interrupted reader waits for what it has read to be written, in seconds.
_GRACE = 0.5


class Source:
    """A file or a pipe, read straight into shared memory."""

    def __init__(self, path: str) -> None:
        self.what = "standard input" if path == "-" else path
        self._fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, os.strerror(21))
        # A pipe, a terminal or a socket, which can keep a read waiting.
        self._can_block = not stat.S_ISREG(mode)
        self._ahead = b""

    def has_more(self, writer: Writer, stop: Stop, size: int) -> bool:
        """Whether there is more. Waits until that is known."""
        if not self._ahead:
            ahead = bytearray(min(size, _AHEAD))
            self._ahead = bytes(ahead[: self._read(writer, stop, memoryview(ahead))])
        return bool(self._ahead)

    def fill(self, writer: Writer, stop: Stop, target: memoryview) -> int:
        """Fills in a frame; gives the bytes that there were."""
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
        except OSError as error:
            raise Failure(2, f"cannot read {self.what}: {reason(error)}") from error


class Sink:
    """A thread writes the frames out, so that a stalled pipe can never keep the reader from ending."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.dup(1) if path == "-" else os.open(path, flags, 0o666)
        self._frames: "queue.Queue[Optional[Frame]]" = queue.Queue(_UNDER_WAY)
        self._error: Optional[OSError] = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def put(self, frame: Optional[Frame], stop: Stop) -> bool:
        """Hands over a frame, waiting while too many are under way. Says whether it could, rather than to be stopped or
        to find the output failed."""
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
                    left = left[os.write(self._fd, left) :]
                # Keeps no frame while it waits for the next one.
                del frame, left
        except OSError as error:
            self._error = error
        finally:
            os.close(self._fd)
            self._ended.set()
