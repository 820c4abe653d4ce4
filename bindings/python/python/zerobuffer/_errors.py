"""The exceptions: one class for each kind of error."""

from typing import Optional

__all__ = [
    "BufferFullError",
    "BufferNotFoundError",
    "CancelledError",
    "ClosedError",
    "CorruptBufferError",
    "DeadlineExceededError",
    "FrameTooLargeError",
    "HandlerBusyError",
    "IncompatibleProtocolError",
    "InterruptedError",
    "InvalidConfigError",
    "InvalidFrameSizeError",
    "InvalidNameError",
    "InvalidStateError",
    "MetadataAlreadyWrittenError",
    "MetadataTooLargeError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "ReaderAlreadyConnectedError",
    "ReaderDeadError",
    "RequestFailedError",
    "SequenceError",
    "SystemError",
    "WriterAlreadyConnectedError",
    "WriterDeadError",
    "ZeroBufferError",
]


class ZeroBufferError(Exception):
    """Any error of ZeroBuffer. Its text names the buffer, the cause and the way out."""

    #: The name of the buffer or channel.
    buffer: str = ""
    #: The request of a duplex channel that the error is about, if it is about one alone.
    sequence: Optional[int] = None
    #: The operating system's error number, if there was one.
    errno: Optional[int] = None


class BufferNotFoundError(ZeroBufferError):
    """No reader has created a buffer of this name, or its files are gone."""


class WriterAlreadyConnectedError(ZeroBufferError):
    """Another live writer is connected to the buffer."""


class ReaderAlreadyConnectedError(ZeroBufferError):
    """Another live reader owns the buffer."""


class BufferFullError(ZeroBufferError):
    """No space became free before the write time-out ended."""


class ReaderDeadError(ZeroBufferError):
    """The reader died, or closed the buffer: what is written will not be read."""


class WriterDeadError(ZeroBufferError):
    """The writer died; everything that it had committed has been read."""


class FrameTooLargeError(ZeroBufferError):
    """The frame, with its 16-byte header, is larger than the buffer's payload."""


class InvalidFrameSizeError(ZeroBufferError):
    """A frame of 0 bytes, or a commit of more bytes than were acquired."""


class SequenceError(ZeroBufferError):
    """A frame is missing: its sequence number is not the next one."""

    #: The number that the next frame should have had.
    expected: Optional[int] = None
    #: The number that was found.
    got: Optional[int] = None


class MetadataAlreadyWrittenError(ZeroBufferError):
    """Metadata is written at most once per buffer."""


class MetadataTooLargeError(ZeroBufferError):
    """The metadata, with its 8-byte prefix, is larger than the buffer's metadata block."""


class InvalidNameError(ZeroBufferError):
    """The buffer's name cannot be used."""


class InvalidConfigError(ZeroBufferError):
    """The configuration cannot be used."""


class InvalidStateError(ZeroBufferError):
    """The call does not fit the state of the object."""


class IncompatibleProtocolError(ZeroBufferError):
    """The buffer speaks another version of the protocol, or is none."""


class CorruptBufferError(ZeroBufferError):
    """The shared memory holds values that cannot be true."""


class PermissionDeniedError(ZeroBufferError):
    """The operating system refused access."""


class OutOfMemoryError(ZeroBufferError):
    """The shared memory, or a limit on it, has no room left."""


class InterruptedError(ZeroBufferError):  # noqa: A001
    """`interrupt()` ended the call. (Ctrl-C raises KeyboardInterrupt.)"""


class ClosedError(ZeroBufferError):
    """The object has been closed."""


class SystemError(ZeroBufferError):  # noqa: A001
    """Any other failure of the operating system."""


class RequestFailedError(ZeroBufferError):
    """The handler of a duplex server failed, for this request alone; the text is the handler's."""


class CancelledError(ZeroBufferError):
    """The request was cancelled."""


class DeadlineExceededError(ZeroBufferError):
    """No response came in time."""


class HandlerBusyError(ZeroBufferError):
    """A handler of a duplex server is still running; the server ends when it returns."""


# Tracebacks name the package that users import them from.
for _name in __all__:
    globals()[_name].__module__ = "zerobuffer"
