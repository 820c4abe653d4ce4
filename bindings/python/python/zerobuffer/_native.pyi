from typing import Any, Callable, Dict, Final, Iterable, List, Optional, Sequence, Tuple, Type, Union

from numpy.typing import DTypeLike, NDArray
from typing_extensions import Buffer, Self, disjoint_base, final

from . import WaitStrategy
from ._errors import ZeroBufferError
from .duplex import ProcessingMode

__all__ = [
    "VERSION",
    "Answer",
    "AsyncCall",
    "BufferConfig",
    "DuplexClient",
    "Frame",
    "ImmutableDuplexServer",
    "KeptBuffer",
    "MutableDuplexServer",
    "Reader",
    "WritableFrame",
    "Writer",
    "close_all",
    "leave_to_parent",
    "list_buffers",
    "snapshot",
]

VERSION: Final[str]

_Wait = Union[WaitStrategy, str, None]
# NumPy's arrays are buffers to type checkers from Python 3.12 on only.
_BytesLike = Union[Buffer, NDArray[Any]]

@final
class BufferConfig:
    """The sizes and rights of a buffer, decided by the reader that creates it. Cannot be changed once made.

    Args:
        metadata_size: Bytes of the metadata block, 8 of which hold its length (default 4096).
        payload_size: Bytes of the ring (default 268,435,456 = 256 MiB). A frame needs its size plus 16.
            Memory is used only as far as frames reach.
        mode: Permission bits of the buffer's files, set exactly, whatever the umask is.
        preallocate: Reserve and touch all memory at creation.
        classic: Keep the ring a classic one, which 1.x peers speak, also between native peers.
        wait_strategy: How the reader waits for frames; a `WaitStrategy` or its value.

    Sizes are rounded up to a multiple of 64. One that is not given is the default, or that of a kept buffer (of
    `relay --create-output`) that the reader takes over, whereas a kept buffer of another size than one that is given is
    refused. So a config that names the default sizes does not equal one that leaves them open, and `repr` shows only those
    that were given.

    Raises:
        ValueError: for a `wait_strategy` that does not exist.
        InvalidConfigError: for a negative number. Other sizes and the mode are checked when a buffer is made of them.
    """
    def __new__(
        cls,
        metadata_size: Optional[int] = None,
        payload_size: Optional[int] = None,
        *,
        mode: int = 0o600,
        preallocate: bool = False,
        classic: bool = False,
        wait_strategy: _Wait = None,
    ) -> Self: ...
    @property
    def metadata_size(self) -> int:
        """Bytes of the metadata block; the default if they were not given."""
    @property
    def payload_size(self) -> int:
        """Bytes of the ring; the default if they were not given."""
    @property
    def mode(self) -> int:
        """Permission bits of the buffer's files."""
    @property
    def preallocate(self) -> bool:
        """Whether all memory is reserved at creation."""
    @property
    def classic(self) -> bool:
        """Whether the ring stays a classic one."""
    @property
    def wait_strategy(self) -> WaitStrategy:
        """How the reader waits for frames."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> Tuple[Tuple[Optional[int], Optional[int]], Dict[str, Any]]: ...

@final
class Frame:
    """Bytes that a reader lends, in shared memory, until they are released. Read-only.

    A frame is a buffer: `memoryview(frame)`, `numpy.asarray(frame)`, `torch.from_dlpack(frame)` show its bytes in place;
    `bytes(frame)` copies them. Leaving a `with` block, `release()`, `reader.release_frame(frame)` and garbage collection
    release it. Its bytes go back to the writer when it is released and its last view (array, `memoryview`) is gone, so no
    view ever dangles; frames outlive their reader.

    A read that timed out returns an invalid frame (`is_valid` is False, it has no bytes). So does one at the end of a
    stream (`end_of_stream` is True). `Frame.from_bytes` makes a frame for a test.
    """
    @staticmethod
    def from_bytes(data: _BytesLike, *, sequence: int = 1, writable: bool = False) -> Frame:
        """A frame with a copy of `data`, in this process's own memory: to test a handler without a buffer.

        Args:
            data: bytes, a NumPy array or another contiguous buffer. May be empty.
            sequence: The frame's number.
            writable: Whether the bytes can be changed, as those of a mutable server's request.

        Raises:
            BufferError: if the memory is not contiguous. TypeError: if there is none, or it holds Python objects.
        """
    @property
    def data(self) -> memoryview:
        """The bytes as a `memoryview` (format "B", one dimension).

        Raises:
            InvalidStateError: if the frame is invalid or released.
        """
    @property
    def size(self) -> int:
        """Bytes of data; 0 if the frame is invalid."""
    @property
    def sequence(self) -> int:
        """The frame's number, which its writer counts from 1; 0 if the frame is invalid."""
    @property
    def is_valid(self) -> bool:
        """Whether there are bytes to look at: False after a time-out, at the end of a stream, and after the release."""
    @property
    def end_of_stream(self) -> bool:
        """Whether the writer closed and everything that it wrote has been read."""
    @property
    def is_cancelled(self) -> bool:
        """For a request of a duplex channel: whether its response is no longer wanted, because the client has cancelled the
        request or given it up, its deadline is over, or the server has been stopped. A handler that works for long asks now and
        then, and returns whatever it likes.
        """
    @property
    def time_left_ms(self) -> Optional[float]:
        """For a request of a duplex channel: milliseconds until the client gives it up, 0 when they are over. None if the client
        set no limit (a 1.x client cannot), for every other frame, and after the release. A handler can leave out what would
        come too late: `if frame.time_left_ms is not None and frame.time_left_ms < 20: ...`
        """
    def release(self) -> None:
        """Returns the frame's bytes to the writer, as soon as its last view is gone. More than once does no harm."""
    def as_numpy(
        self, dtype: Optional[DTypeLike] = None, shape: Union[int, Sequence[int], None] = None
    ) -> NDArray[Any]:
        """The bytes as a NumPy array in place, without a copy; read-only.

        Args:
            dtype: What the bytes are (default: uint8).
            shape: The array's shape, such as (height, width, 3); one dimension may be -1. Default: one dimension.

        The array stays valid, whatever becomes of the frame and its reader; its bytes go back to the writer when the frame
        is released and the array is gone. Copy it (`array.copy()`) to keep it for long.

        Raises:
            InvalidStateError: if the frame is invalid or released.
            ValueError: if shape and dtype do not take exactly the frame's bytes.
            ImportError: if NumPy is not installed.
        """
    def __dlpack__(
        self,
        *,
        stream: Optional[Any] = None,
        max_version: Optional[Tuple[int, int]] = None,
        dl_device: Optional[Tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> Tuple[int, int]: ...
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class KeptBuffer:
    """A buffer that exists before its reader does, and holds frames for it."""
    def __new__(cls, name: str, config: BufferConfig) -> Self: ...
    def is_adopted(self) -> bool:
        """Whether a reader has taken the buffer over."""
    def close(self) -> bool:
        """Ends the keeping; says whether a reader had taken the buffer over. If none had, its frames are lost."""

@final
class Reader:
    """The reading side of a buffer: creates it, owns it, removes it.

    Args:
        name: The buffer's name; a writer connects by it.
        config: Sizes and rights (default: `BufferConfig()`).

    Whatever a dead reader left under this name is removed first. Close it (`close()`, or a `with` block) when done; frames
    and arrays still held stay valid. Iterating yields the frames of one writer and ends when it closes.
    Threads may share a reader: one reads at a time, the others wait. A forked child cannot use it.

    Raises:
        ReaderAlreadyConnectedError: if a live reader has the name.
        InvalidNameError, InvalidConfigError: if name or config cannot be used.
        OutOfMemoryError: if `/dev/shm` or a resource limit has no room.
        PermissionDeniedError, IncompatibleProtocolError: if something stands in the way.
    """
    def __new__(cls, name: str, config: Optional[BufferConfig] = None) -> Self: ...
    @property
    def name(self) -> str:
        """The buffer's name."""
    def read_frame(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for the next frame.

        Args:
            timeout_ms: Milliseconds to wait; 0 polls once, None or a negative number waits without limit.

        Returns:
            A frame; an invalid one when the time is over; and, once per writer, when the writer has closed
            and everything that it wrote has been read, an invalid one with `end_of_stream`. Later reads wait for the next
            writer.

        Raises:
            WriterDeadError: once per writer, when it has died and everything that it had committed has been read.
            SequenceError, CorruptBufferError: for good; close the reader and create the buffer again.
            InterruptedError: after `interrupt()`.
            ClosedError: if the reader is closed, now or meanwhile.
            BufferNotFoundError: if another process removed the buffer's files.
        """
    def try_read_frame(self) -> Frame:
        """The next frame if there is one now. As `read_frame(0)`, but `interrupt()` does not concern it."""
    def read_frames(self, max_frames: int, timeout_ms: Optional[float] = 5000) -> List[Frame]:
        """Waits for a first frame, then takes those behind it as far as they are there.

        Args:
            max_frames: How many frames at most.
            timeout_ms: As for `read_frame`.

        Returns:
            A list of frames, empty when the time is over. The end of a stream is an invalid frame with `end_of_stream`, the
            only one of its list.

        Raises:
            As `read_frame`, when nothing has been read.
        """
    async def read_frame_async(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """As `read_frame`, for asyncio: other tasks run meanwhile. Cancelling the task ends the wait. Frames are handed out in
        the order in which they were written, and none is lost, whatever becomes of the tasks that waited for them.
        """
    def release_frame(self, frame: Frame) -> None:
        """Releases a frame, like `frame.release()`."""
    def is_writer_connected(self, timeout_ms: Optional[float] = None) -> bool:
        """Whether a writer is connected, or frames that one committed are still unread.

        Args:
            timeout_ms: Milliseconds to wait for one. Default: not at all; a negative number waits without limit.

        Raises:
            InterruptedError, ClosedError, BufferNotFoundError: as `read_frame`.
        """
    def get_metadata(self) -> Optional[bytes]:
        """The metadata that the writer has set, copied; None if it has set none.

        Raises:
            CorruptBufferError: if its lengths cannot be true.
        """
    @property
    def frames_read(self) -> int:
        """Frames read by this reader."""
    @property
    def bytes_read(self) -> int:
        """Bytes of data (without headers) read by this reader."""
    def interrupt(self) -> None:
        """Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError."""
    def close(self) -> None:
        """Closes the reader, removes the buffer and unmaps its memory. Calls that other threads are blocked in fail with
        ClosedError. Frames and arrays still held stay valid, and keep the memory mapped. More than once does no harm.
        """
    @property
    def closed(self) -> bool:
        """Whether the reader is closed."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Frame: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Frame: ...
    def _in_turn(self) -> Frame: ...
    def _at_hand(self) -> Frame: ...
    def _join(self, wake: Callable[[], object]) -> int: ...
    def _leave(self, place: int) -> None: ...

@final
class Writer:
    """The writing side of a buffer, which a reader must have created.

    Args:
        name: The buffer's name.
        write_timeout_ms: How long a write waits for space; 0 polls once, None or a negative number waits without limit.
        connect_timeout_ms: How long to wait for a reader to create the buffer (default: fail at once).
        wait_strategy: How the writer waits for space; a `WaitStrategy` or its value.

    Close it (`close()`, or a `with` block) when done: the reader then learns at once, after the last frame, that the
    stream has ended. Threads may share a writer: one writes at a time, the others wait, also while one fills a frame in
    place. A forked child cannot use it.

    Raises:
        BufferNotFoundError: if no reader has created the buffer within the time.
        WriterAlreadyConnectedError: if another live writer is connected.
        ReaderDeadError: if its reader is dead.
        InvalidNameError, PermissionDeniedError, IncompatibleProtocolError, CorruptBufferError: if it cannot be used.
    """
    def __new__(
        cls,
        name: str,
        *,
        write_timeout_ms: Optional[float] = 5000,
        connect_timeout_ms: Optional[float] = 0,
        wait_strategy: _Wait = None,
    ) -> Self: ...
    @property
    def name(self) -> str:
        """The buffer's name."""
    @property
    def max_frame_size(self) -> int:
        """The largest frame that the buffer can hold, in bytes: its payload size less 16."""
    def write_frame(self, data: _BytesLike) -> int:
        """Copies `data` into the buffer as one frame, waiting for space up to the write time-out.

        Args:
            data: bytes, bytearray, memoryview, a NumPy array, a frame, or anything else with a contiguous buffer. It is
                copied once; do not change it meanwhile.

        Returns:
            The frame's sequence number: 1, 2, 3 ...

        Raises:
            BufferFullError: if there was no space within the time.
            FrameTooLargeError: at once, if data and a 16-byte header are more than the payload.
            InvalidFrameSizeError: for 0 bytes.
            ReaderDeadError: if the reader died, or closed the buffer.
            BufferError: if the memory is not contiguous. TypeError: if there is none, or it holds Python objects.
            InvalidStateError: if this thread has a frame acquired. BufferFullError also if another one had, all the time.
            OutOfMemoryError, InterruptedError, ClosedError, CorruptBufferError.
        """
    def try_write_frame(self, data: _BytesLike) -> Optional[int]:
        """As `write_frame`, without waiting: None if there is no space now."""
    def write_frames(self, frames: Iterable[_BytesLike]) -> int:
        """Writes each item of an iterable as a frame; returns their number.

        Raises:
            As `write_frame`, at the first item that fails; those before it are written, and `frames_written` counts them.
        """
    def acquire_frame_buffer(self, size: int) -> memoryview:
        """Lends `size` bytes of the buffer, to be filled in place; then `commit_frame()` or `discard_frame()`.

        Waits for space up to the write time-out, and for another thread that has a frame acquired. What a thread acquired
        and did not commit before it ended is discarded. `numpy.asarray(view)` makes a writable array of the view.

        Returns:
            A writable `memoryview` (format "B", one dimension) whose first content is undefined. It ends with the commit.
            Arrays and slices made of it stay safe to touch then, but what is written to them is lost, or spoils a later
            frame.

        Raises:
            As `write_frame`; InvalidStateError if this thread has a frame acquired already.
        """
    def try_acquire_frame_buffer(self, size: int) -> Optional[memoryview]:
        """As `acquire_frame_buffer`, without waiting: None if there is no space now."""
    def commit_frame(self, size: Optional[int] = None) -> int:
        """Commits the frame that was filled in place.

        Args:
            size: How many of its first bytes (default: all).

        Returns:
            The frame's sequence number.

        Raises:
            InvalidStateError: if nothing is acquired.
            InvalidFrameSizeError: if size is 0 or more than was acquired; the frame stays acquired.
        """
    def discard_frame(self) -> None:
        """Gives up the frame that was to be filled in place, if any. The reader never learns of it."""
    def frame(self, size: int) -> WritableFrame:
        """A frame to be filled in place in a `with` block: `with writer.frame(n) as view: ...`

        Entering the block acquires `size` bytes (see `acquire_frame_buffer`); leaving it commits them, or discards them if
        it is left by an exception. The block may also commit or discard them itself.

        Raises:
            On entering, as `acquire_frame_buffer`. On leaving, as `commit_frame`; ClosedError if the writer was closed
            meanwhile, so that nothing was written.
        """
    def set_metadata(self, metadata: _BytesLike) -> None:
        """Describes the stream to the reader: at most once per buffer, and at most its metadata size less 8 bytes.

        Raises:
            MetadataAlreadyWrittenError, MetadataTooLargeError, InvalidStateError, ClosedError.
        """
    def is_reader_connected(self) -> bool:
        """Whether the reader lives and has the buffer open."""
    @property
    def write_timeout_ms(self) -> Optional[float]:
        """Milliseconds that a write waits for space; 0 polls once, None waits without limit. Can be set."""
    @write_timeout_ms.setter
    def write_timeout_ms(self, timeout_ms: Optional[float], /) -> None: ...
    @property
    def frames_written(self) -> int:
        """Frames committed by this writer."""
    @property
    def bytes_written(self) -> int:
        """Bytes of data (without headers) committed by this writer."""
    def interrupt(self) -> None:
        """Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError."""
    def close(self) -> None:
        """Closes the writer and unmaps its memory: the reader gets all frames, then the end of the stream at once.
        Calls that other threads are blocked in fail with ClosedError, and a frame that is being filled in place is
        discarded. More than once does no harm.
        """
    @property
    def closed(self) -> bool:
        """Whether the writer is closed."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class WritableFrame:
    """A `with` block around a frame that is filled in place; see `Writer.frame`."""
    def __enter__(self) -> memoryview: ...
    def __exit__(self, kind: Optional[Type[BaseException]] = None, *_exception: object) -> None: ...

@disjoint_base
class DuplexClient:
    """See `zerobuffer.duplex`."""
    def __new__(
        cls,
        channel_name: str,
        *,
        request_timeout_ms: Optional[float] = 5000,
        connect_timeout_ms: Optional[float] = 0,
        response_config: Optional[BufferConfig] = None,
    ) -> Self: ...
    @property
    def channel_name(self) -> str:
        """The channel's name."""
    def send_request(self, data: _BytesLike, deadline_ms: Optional[float] = None) -> int:
        """Copies `data` into the request buffer as one request. Its response is for `receive_response`.

        Args:
            data: bytes, a NumPy array or another contiguous buffer; copied exactly once.
            deadline_ms: If given, a server that has not started with the request by then does not, and the outcome is
                DeadlineExceededError.

        Returns:
            The request's sequence number, which its response carries too.

        Raises:
            BufferFullError: if there was no space within the client's request time-out.
            FrameTooLargeError, InvalidFrameSizeError (0 bytes), OutOfMemoryError.
            InvalidStateError: if this thread has acquired a request buffer.
            ReaderDeadError, WriterDeadError, ClosedError: when the channel has ended.
        """
    def acquire_request_buffer(self, size: int) -> Tuple[int, memoryview]:
        """Lends `size` bytes of the request buffer, to be filled in place; then `commit_request()`, `call_acquired()` or
        `discard_request()`, on the same thread. Other threads that send wait meanwhile. What a thread acquired and did not
        commit before it ended is discarded.

        Returns:
            The request's sequence number, and a writable `memoryview` (format "B", one dimension) that ends with the commit.

        Raises:
            As `send_request`.
        """
    def commit_request(self) -> None:
        """Sends the request that was filled in place. Its response is for `receive_response`.

        Raises:
            InvalidStateError: if this thread has acquired none. When the channel has ended, as `send_request`.
        """
    def call_acquired(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Sends the request that was filled in place and waits for its own response. Other threads may send and receive
        meanwhile.

        Args:
            timeout_ms: For the response; also the request's deadline.

        Raises:
            InvalidStateError: if this thread has acquired none. Else as `call`, but there is no lack of space any more.
        """
    def discard_request(self) -> None:
        """Gives up the request that was to be filled in place.

        Raises:
            InvalidStateError: if this thread has acquired none.
        """
    def receive_response(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for the next response that no call waits for, in the order of arrival.

        Args:
            timeout_ms: Milliseconds; 0 polls once, None or a negative number waits without limit.

        Returns:
            A frame with the request's sequence number (it may have 0 bytes); an invalid one when the time is over.

        Raises:
            RequestFailedError, CancelledError, DeadlineExceededError: about one request, which `error.sequence` tells.
            WriterDeadError, ReaderDeadError, ClosedError: about the channel, for every call from now on.
        """
    def receive_response_to(self, sequence: int, timeout_ms: Optional[float] = 5000) -> Frame:
        """As `receive_response`, for the response to one request alone.

        Raises:
            As `receive_response`; InvalidStateError if its outcome has been handed out, or there was no such request.
        """
    def call(self, data: _BytesLike, timeout_ms: Optional[float] = 5000) -> Frame:
        """Sends a request and waits for its own response. Other threads may send and receive meanwhile.

        Args:
            data: As for `send_request`.
            timeout_ms: For all of it; also the request's deadline.

        Raises:
            RequestFailedError: if the handler failed; with its words.
            DeadlineExceededError: if no response came in time. CancelledError. All those of `send_request`.
        """
    def _start_call(
        self, data: _BytesLike, timeout_ms: Optional[float], deliver: Callable[[Any], object]
    ) -> AsyncCall: ...
    def cancel_request(self, sequence: int) -> bool:
        """Cancels a request: its outcome is CancelledError, at once. Returns whether it was still under way.

        Raises:
            Whatever ended the channel.
        """
    @property
    def is_server_connected(self) -> bool:
        """Whether the server lives and reads requests."""
    def set_metadata(self, metadata: _BytesLike) -> None:
        """Describes this client to the server, whose `on_init` gets the bytes before the next request. At most once.

        Raises:
            MetadataAlreadyWrittenError, MetadataTooLargeError, or whatever ended the channel.
        """
    def close(self) -> None:
        """Closes the client and unmaps its memory, whatever other threads wait for: they get ClosedError. Responses still held
        stay valid, and keep their memory mapped. More than once does no harm.
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class AsyncCall:
    """A call under way; for `zerobuffer.duplex`."""
    def cancel(self) -> None:
        """Withdraws the request."""

@disjoint_base
class ImmutableDuplexServer:
    """See `zerobuffer.duplex`."""
    def __new__(cls, channel_name: str, config: Optional[BufferConfig] = None) -> Self: ...
    @property
    def channel_name(self) -> str:
        """The channel's name."""
    def stop(self) -> None:
        """Stops the server, whatever it waits for: clients learn of it at once. It can be started again.

        Raises:
            HandlerBusyError: if a handler is still running after 80 ms. It can ask `frame.is_cancelled`; its answer
                goes nowhere, and its thread ends when it returns.
        """
    @property
    def is_running(self) -> bool:
        """Whether requests are being processed. False while the server is being started or stopped."""
    def on_error(self, callback: Callable[[ZeroBufferError], object]) -> None:
        """Sets the function that is called with a ZeroBufferError, on a thread of the server, when a handler fails, an
        answer cannot be sent, a client has died, or the request buffer had to be made again. The server goes on.

        Raises:
            TypeError: if it cannot be called.
        """
    def on_init(self, callback: Callable[[bytes], object]) -> None:
        """Sets the function that is called with the metadata (bytes) of each client that sets some, before its next
        request is handled.

        Raises:
            TypeError: if it cannot be called.
        """
    def set_pool_size(self, threads: int) -> None:
        """Sets the number of threads of `ProcessingMode.THREAD_POOL`, for the next start (default: one for each
        processor, two at least). 0 counts as 1.

        Raises:
            InvalidConfigError: for a negative number, and for more than 1,024.
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...
    def start(self, handler: Callable[[Frame], _BytesLike], mode: Optional[ProcessingMode] = None) -> None:
        """Starts processing on threads of the server, and returns at once.

        Args:
            handler: Called with each request, a read-only frame that is released when it returns. Returns the response:
                bytes, a NumPy array or another contiguous buffer, which must not be changed afterwards. What it raises
                reaches the client as RequestFailedError, for that request alone.
            mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.

        Raises:
            InvalidStateError: if it runs. After a stop, as the constructor.
        """
    def _start_async(self, schedule: Callable[[Frame, Answer], object]) -> None: ...

@disjoint_base
class MutableDuplexServer:
    """See `zerobuffer.duplex`."""
    def __new__(cls, channel_name: str, config: Optional[BufferConfig] = None) -> Self: ...
    @property
    def channel_name(self) -> str:
        """The channel's name."""
    def stop(self) -> None:
        """Stops the server, whatever it waits for: clients learn of it at once. It can be started again.

        Raises:
            HandlerBusyError: if a handler is still running after 80 ms. It can ask `frame.is_cancelled`; its answer
                goes nowhere, and its thread ends when it returns.
        """
    @property
    def is_running(self) -> bool:
        """Whether requests are being processed. False while the server is being started or stopped."""
    def on_error(self, callback: Callable[[ZeroBufferError], object]) -> None:
        """Sets the function that is called with a ZeroBufferError, on a thread of the server, when a handler fails, an
        answer cannot be sent, a client has died, or the request buffer had to be made again. The server goes on.

        Raises:
            TypeError: if it cannot be called.
        """
    def on_init(self, callback: Callable[[bytes], object]) -> None:
        """Sets the function that is called with the metadata (bytes) of each client that sets some, before its next
        request is handled.

        Raises:
            TypeError: if it cannot be called.
        """
    def set_pool_size(self, threads: int) -> None:
        """Sets the number of threads of `ProcessingMode.THREAD_POOL`, for the next start (default: one for each
        processor, two at least). 0 counts as 1.

        Raises:
            InvalidConfigError: for a negative number, and for more than 1,024.
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...
    def start(self, handler: Callable[[Frame], None], mode: Optional[ProcessingMode] = None) -> None:
        """Starts processing on threads of the server, and returns at once.

        Args:
            handler: Called with each request, a writable frame, in shared memory itself; the response has its bytes when it
                returns None. What it raises reaches the client as RequestFailedError, for that request alone.
            mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.

        Raises:
            InvalidStateError: if it runs. After a stop, as the constructor.
        """

@final
class Answer:
    """The answer that a coroutine owes; for `zerobuffer.duplex`. Only the first one counts. If it is dropped without one, the
    request has failed.
    """
    def send(self, frame: Frame, response: _BytesLike) -> None:
        """Answers with the bytes of a buffer; raises what `write_frame` does of what is none."""
    def fail(self, frame: Frame, error: BaseException) -> None:
        """Tells the client that the handler failed."""

def close_all() -> None:
    """Ends everything; for `atexit`."""
def leave_to_parent() -> None:
    """Leaves everything to the parent, in a forked child: its threads are not there. For `os.register_at_fork`."""
def snapshot(name: str) -> Dict[str, Any]:
    """The fields of a `zerobuffer.inspect.Snapshot`."""
def list_buffers() -> List[str]:
    """Names of all buffers on this machine, live or not, in alphabetical order."""
