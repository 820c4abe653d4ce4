"""Frames between two processes on one machine, through shared memory: one writer, one reader, no copies, no broker.

The reader creates a buffer, the writer connects to it::

    import zerobuffer

    with zerobuffer.Reader("camera") as reader:      # one process
        for frame in reader:
            with frame:
                picture = frame.as_numpy(shape=(1080, 1920, 3))

    with zerobuffer.Writer("camera") as writer:      # another one
        writer.write_frame(picture)

`zerobuffer.duplex` has requests and responses, `zerobuffer.inspect` looks at buffers from outside. Errors are subclasses of
`ZeroBufferError`. Log records go to the logger "zerobuffer".
"""

import atexit as _atexit
import enum as _enum
import os as _os
from typing import TYPE_CHECKING

from . import inspect as inspect
from ._errors import (
    BufferFullError,
    BufferNotFoundError,
    CancelledError,
    ClosedError,
    CorruptBufferError,
    DeadlineExceededError,
    FrameTooLargeError,
    HandlerBusyError,
    IncompatibleProtocolError,
    InvalidConfigError,
    InvalidFrameSizeError,
    InvalidNameError,
    InvalidStateError,
    MetadataAlreadyWrittenError,
    MetadataTooLargeError,
    OutOfMemoryError,
    PermissionDeniedError,
    ReaderAlreadyConnectedError,
    ReaderDeadError,
    RequestFailedError,
    SequenceError,
    WriterAlreadyConnectedError,
    WriterDeadError,
    ZeroBufferError,
)
from ._errors import InterruptedError as InterruptedError  # noqa: A004
from ._errors import SystemError as SystemError  # noqa: A004
from ._native import VERSION as _VERSION
from ._native import (
    BufferConfig,
    Frame,
    Reader,
    ReaderStats,
    SharedWriter,
    Tee,
    TeeOutput,
    WritableFrame,
    Writer,
    WriterStats,
)
from ._native import close_all as _close_all
from ._native import leave_to_parent as _leave_to_parent

if TYPE_CHECKING:
    from typing import Iterable

    from ._native import _BytesLike

__version__: str = _VERSION

# Threads that use a handle at the end of the interpreter would keep it from being closed, and leave files.
_atexit.register(_close_all)
# In a forked child the handles are its parent's to close.
_os.register_at_fork(after_in_child=_leave_to_parent)


class WaitStrategy(_enum.Enum):
    """How a reader waits for frames and a writer for space."""

    #: Spin for a moment where the gaps seen lately were short, else sleep.
    ADAPTIVE = "adaptive"
    #: Sleep at once: the least processor time.
    BLOCK = "block"
    #: Never sleep: the least latency, for a whole core.
    SPIN = "spin"


def _write_frames(self: Writer, frames: "Iterable[_BytesLike]") -> int:
    """Writes each item of an iterable as a frame; returns their number.

    Raises:
        Those of `write_frame`, at the first item that fails. The items before it are written, and `frames_written` counts them.
    """
    count = 0
    for frame in frames:
        self.write_frame(frame)
        count += 1
    return count


# In Python: where the interpreter ends while a daemon thread runs a generator, native code below it would abort the process.
_write_frames.__name__ = "write_frames"
_write_frames.__qualname__ = "Writer.write_frames"
Writer.write_frames = _write_frames  # type: ignore[method-assign]


# Two errors have the names of builtins, which a star import must not replace.
__all__ = [
    "BufferConfig",
    "BufferFullError",
    "BufferNotFoundError",
    "CancelledError",
    "ClosedError",
    "CorruptBufferError",
    "DeadlineExceededError",
    "Frame",
    "FrameTooLargeError",
    "HandlerBusyError",
    "IncompatibleProtocolError",
    "InvalidConfigError",
    "InvalidFrameSizeError",
    "InvalidNameError",
    "InvalidStateError",
    "MetadataAlreadyWrittenError",
    "MetadataTooLargeError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "Reader",
    "ReaderAlreadyConnectedError",
    "ReaderDeadError",
    "ReaderStats",
    "RequestFailedError",
    "SequenceError",
    "SharedWriter",
    "Tee",
    "TeeOutput",
    "WaitStrategy",
    "WritableFrame",
    "Writer",
    "WriterAlreadyConnectedError",
    "WriterDeadError",
    "WriterStats",
    "ZeroBufferError",
    "inspect",
]
