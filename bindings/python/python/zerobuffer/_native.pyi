from typing import (
    Any,
    AsyncIterator,
    Callable,
    Dict,
    Final,
    Iterable,
    Iterator,
    List,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
    type_check_only,
)

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
    "ReaderStats",
    "ResponseWriter",
    "SharedWriter",
    "Tee",
    "TeeOutput",
    "Watched",
    "WritableFrame",
    "WritableResponse",
    "Writer",
    "WriterStats",
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
            Memory is used only where frames have been.
        mode: Permission bits of the buffer's files, set exactly, whatever the umask is.
        preallocate: Reserve and touch all memory at creation.
        huge_pages: Reserve and touch all memory at creation, in huge pages as far as the kernel has some. `Reader.huge_page_bytes` tells
            what the buffer got.
        numa_node: The NUMA node whose memory the buffer shall use, as far as there is room; -1: the one that the thread runs on which
            creates the reader.
        classic: Keep the ring classic (the layout that 1.x peers know), even between native peers.
        wait_strategy: How the reader waits for frames; a `WaitStrategy` or its value.
        allow_payload_sharing: Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it
            (`Writer.forward`). Who may read the buffer that they are passed on to may look at all of this one.

    Sizes are rounded up to a multiple of 64. A size that is not given is the default, or the size of a kept
    buffer (of `relay --create-output`) that the reader takes over. A kept buffer whose size differs from a
    given one is refused. So a config that names the default sizes does not equal one without sizes, and
    `repr` shows only the sizes that were given.

    Raises:
        ValueError: for a `wait_strategy` that does not exist.
        InvalidConfigError: for a negative number. Other sizes and the mode are checked when the buffer is
            created.
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
        allow_payload_sharing: bool = False,
        huge_pages: bool = False,
        numa_node: Optional[int] = None,
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
    def huge_pages(self) -> bool:
        """Whether huge pages are asked for."""
    @property
    def numa_node(self) -> Optional[int]:
        """The NUMA node asked for."""
    @property
    def classic(self) -> bool:
        """Whether the ring stays classic."""
    @property
    def wait_strategy(self) -> WaitStrategy:
        """How the reader waits for frames."""
    @property
    def allow_payload_sharing(self) -> bool:
        """Whether the reader's frames may be lent, and it takes frames that are lent to it."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> Tuple[Tuple[Optional[int], Optional[int]], Dict[str, Any]]: ...

@final
class Frame:
    """Bytes in shared memory, valid until they are released. Read-only.

    A frame is a buffer: `memoryview(frame)`, `numpy.asarray(frame)`, `torch.from_dlpack(frame)` show its
    bytes in place; `bytes(frame)` copies them. Leaving a `with` block, `release()`,
    `reader.release_frame(frame)` and garbage collection release it. Its bytes go back to the writer when it
    is released and its last view (array, `memoryview`) is gone, so no view ever dangles. Frames outlive their
    reader.

    A read that timed out returns an invalid frame (`is_valid` is False, it has no bytes). So does one at the end of a
    stream (`end_of_stream` is True). `Frame.from_bytes` makes a frame for a test.
    """
    @staticmethod
    def from_bytes(data: _BytesLike, *, sequence: int = 1, writable: bool = False) -> Frame:
        """A frame with a copy of `data` in this process's memory, for tests of handlers.

        Args:
            data: bytes, a NumPy array or another contiguous buffer. May be empty.
            sequence: The frame's number.
            writable: Whether the bytes can be changed, like those of a mutable server's request.

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
        """Whether the frame has bytes: False after a time-out, at the end of a stream, and after the release."""
    @property
    def end_of_stream(self) -> bool:
        """Whether the writer closed and everything that it wrote has been read."""
    @property
    def is_shared(self) -> bool:
        """Whether the bytes lie in another reader's buffer, which has lent them (`Writer.forward`). They keep their place there, so
        release the frame soon.
        """
    def make_mut(self) -> memoryview:
        """The bytes as a writable `memoryview`, to be changed before the frame is passed on (`Writer.forward`): in place, which the writer
        that wrote them never learns of. `numpy.asarray(view)` makes a writable array of the view.

        If others may look at the bytes, because the frame has been passed on already or is itself a shared one (`is_shared`), the
        frame gets a private copy, which is passed on from then on. Views that were made before show the bytes as they were.

        Do not write to a view any more once the frame has been passed on: the next reader looks at these very bytes. Call this again.

        Raises:
            InvalidStateError: if the frame is invalid, released, or not one that a reader has read; or another thread is passing
                it on.
        """
    @property
    def is_cancelled(self) -> bool:
        """For a request of a duplex channel: whether its response is no longer wanted, because the client has
        cancelled the request or given it up, its deadline is over, or the server has been stopped. A handler
        that works for long should check this regularly; it may then return any answer.
        """
    @property
    def time_left_ms(self) -> Optional[float]:
        """For a request of a duplex channel: milliseconds until the client gives it up, 0 when that time is
        over. None if the client set no limit (a 1.x client cannot), for every other frame, and after the
        release. A handler can skip work that would come too late:
        `if frame.time_left_ms is not None and frame.time_left_ms < 20: ...`
        """
    def release(self) -> None:
        """Returns the frame's bytes to the writer when its last view is gone. A second call does nothing."""
    def as_numpy(
        self, dtype: Optional[DTypeLike] = None, shape: Union[int, Sequence[int], None] = None
    ) -> NDArray[Any]:
        """The bytes as a NumPy array in place, without a copy; read-only.

        Args:
            dtype: What the bytes are (default: uint8).
            shape: The array's shape, such as (height, width, 3); one dimension may be -1. Default: one dimension.

        The array stays valid after the frame is released and its reader closed. Its bytes go back to the
        writer when the frame is released and the array is gone. Copy it (`array.copy()`) to keep it for long.

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
        """Ends the keeping. Returns whether a reader had taken the buffer over. If none had, its frames are
        lost.
        """

@final
class Reader:
    """The reading side of a buffer: creates it, owns it, removes it.

    Args:
        name: The buffer's name; a writer connects by it.
        config: Sizes and rights (default: `BufferConfig()`).
        allow_payload_sharing: Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it,
            even if `config` does not say so (`Writer.forward`).
        allow_shared_payload: Another name for it.

    Creating it first removes the files that a dead reader left under this name. Close it (`close()`, or a
    `with` block) when done. Frames and arrays that are still held stay valid. Iterating yields the frames of
    one writer and ends when it closes. Threads may share a reader: one reads at a time, the others wait. A
    forked child cannot use it.

    Raises:
        ReaderAlreadyConnectedError: if a live reader has the name.
        InvalidNameError, InvalidConfigError: if name or config cannot be used.
        OutOfMemoryError: if `/dev/shm` or a resource limit has no room.
        PermissionDeniedError, IncompatibleProtocolError: if another file is in the way.
    """
    def __new__(
        cls,
        name: str,
        config: Optional[BufferConfig] = None,
        allow_payload_sharing: bool = False,
        *,
        allow_shared_payload: bool = False,
    ) -> Self: ...
    @property
    def name(self) -> str:
        """The buffer's name."""
    def read_frame(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for the next frame.

        Args:
            timeout_ms: Milliseconds to wait; 0 polls once, None or a negative number waits without limit.

        Returns:
            A frame; an invalid one when the time is over; and, once per writer, when the writer has closed and
            everything that it wrote has been read, an invalid one with `end_of_stream`. Later reads wait for the next
            writer.

        Raises:
            WriterDeadError: once per writer, when it has died and everything that it had committed has been read.
            SequenceError, CorruptBufferError: permanent; close the reader and create the buffer again.
            InterruptedError: after `interrupt()`.
            ClosedError: if the reader is closed, now or meanwhile.
            BufferNotFoundError: if another process removed the buffer's files.
        """
    def read_latest_frame(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for a frame, and returns the newest one. Those before it are passed over, and their space goes back at once.

        Only frames of one writer are passed over: the newest frame of a writer that ended comes before its end, and its end
        before the next writer's newest frame. `frames_skipped` counts the frames.

        Args:
            timeout_ms: Milliseconds to wait; see `read_frame`.

        Returns:
            A frame; an invalid one as from `read_frame`.

        Raises:
            Those of `read_frame`.
        """
    def latest_frames(self) -> _LatestFrames:
        """The newest frame of one writer, again and again, for `for` and `async for`; ends when the writer closes."""
    def try_read_frame(self) -> Frame:
        """The next frame if there is one now. Like `read_frame(0)`, but not ended by `interrupt()`."""
    def read_frames(self, max_frames: int, timeout_ms: Optional[float] = 5000) -> List[Frame]:
        """Waits for a first frame, then takes it and the frames that are there behind it.

        Args:
            max_frames: The largest number of frames.
            timeout_ms: Milliseconds to wait for the first frame; see `read_frame`.

        Returns:
            A list of frames, empty when the time is over. The end of a stream is an invalid frame with `end_of_stream`, the
            only one of its list.

        Raises:
            Those of `read_frame`, if nothing has been read.
        """
    async def read_frame_async(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """As `read_frame`, for asyncio: other tasks run meanwhile. Cancelling the task ends the wait. Frames are handed out in
        the order in which they were written, and none is lost, whatever becomes of the tasks that waited for them.
        """
    async def read_latest_frame_async(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """As `read_latest_frame`, for asyncio; see `read_frame_async`."""
    def release_frame(self, frame: Frame) -> None:
        """Releases a frame, like `frame.release()`."""
    def is_writer_connected(self, timeout_ms: Optional[float] = None) -> bool:
        """Whether a writer is connected, or committed frames are still unread.

        Args:
            timeout_ms: Milliseconds to wait for one. Default: not at all; a negative number waits without limit.

        Raises:
            InterruptedError, ClosedError, BufferNotFoundError: see `read_frame`.
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
    def frames_skipped(self) -> int:
        """Frames that `read_latest_frame` passed over. They do not count as read."""
    @property
    def bytes_read(self) -> int:
        """Bytes of data (without headers) read by this reader."""
    def stats(self) -> ReaderStats:
        """What the reader has done so far, and what it holds.

        Raises:
            ClosedError: if the reader is closed.
        """
    @property
    def huge_page_bytes(self) -> int:
        """How many bytes of the buffer this process has mapped by huge pages now: what `BufferConfig.huge_pages` got. It reads a list of
        all mappings of the process.

        Raises:
            SystemError: where the system does not tell.
            ClosedError: if the reader is closed.
        """
    @property
    def payload_sharing_enabled(self) -> bool:
        """Whether this reader allows payload sharing, and its buffer can.

        Raises:
            ClosedError: if the reader is closed.
        """
    @property
    def payload_share_count(self) -> int:
        """How many frames of this reader are lent to other readers now: a figure, which others may change at once."""
    @property
    def payload_owner_pid(self) -> int:
        """The process that lends frames through this buffer; 0 = none. A figure: a killed process leaves it."""
    def fileno(self) -> int:
        """A file descriptor for event loops: `select`, `selectors`, `loop.add_reader`, and others.

        It is ready to read when there may be a frame or the end of a writer. Then call `try_read_frame()` or `read_frame(0)`.
        It stays ready until such a call finds nothing. It is ready at first. Never read from it or write to it. It is closed
        with the reader: take it out of event loops before. A forked child has none.

        Raises:
            ClosedError: if the reader is closed.
            SystemError: if there is no file descriptor left, or no thread.
        """
    def interrupt(self) -> None:
        """Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError."""
    def close(self) -> None:
        """Closes the reader, removes the buffer and unmaps its memory. Calls that other threads are blocked in
        fail with ClosedError. Frames and arrays that are still held stay valid, and keep the memory mapped. A
        second call does nothing.
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
    def _look(self) -> Optional[Frame]: ...
    def _look_for_latest(self) -> Optional[Frame]: ...
    @staticmethod
    def _nothing() -> Frame: ...
    def _watch(self) -> Optional[Watched]: ...
    def _is_taken(self) -> bool: ...

@type_check_only
class _LatestFrames(Iterator[Frame], AsyncIterator[Frame]):
    def __next__(self) -> Frame: ...
    async def __anext__(self) -> Frame: ...

@final
class Watched:
    """For `zerobuffer._aio`: a descriptor that is open for as long as this lives."""
    def fileno(self) -> int: ...

@final
class ReaderStats:
    """What a reader has done so far, and what it holds."""

    @property
    def frames_read(self) -> int:
        """Frames read."""
    @property
    def bytes_read(self) -> int:
        """Bytes of data read, without headers."""
    @property
    def waits(self) -> int:
        """How often a call found no frame and began to wait for one. A long wait counts every 45 ms."""
    @property
    def frames_held(self) -> int:
        """Frames that have not been released."""
    @property
    def bytes_held(self) -> int:
        """Bytes of the ring that cannot go back to the writer because of them: their own, and those of later frames that were
        released already, headers included.
        """
    @property
    def oldest_held(self) -> Optional[int]:
        """The sequence number of the oldest one; None if none is held."""
    @property
    def frames_lent(self) -> int:
        """Frames that are lent to other readers now (`Writer.forward`)."""
    @property
    def frames_shared(self) -> int:
        """Frames read whose bytes lie in another reader's buffer, which lent them; they count as frames read, too."""
    @property
    def bytes_shared(self) -> int:
        """Bytes of data of these."""

@final
class WriterStats:
    """What a writer has done so far."""

    @property
    def frames_written(self) -> int:
        """Frames written."""
    @property
    def bytes_written(self) -> int:
        """Bytes of data written, without headers."""
    @property
    def waits(self) -> int:
        """How often a call found no space and began to wait for some. A long wait counts every 45 ms."""
    @property
    def full(self) -> int:
        """How often a call found no space in time."""
    @property
    def frames_shared(self) -> int:
        """Frames that were forwarded without a copy."""
    @property
    def frames_copied(self) -> int:
        """Frames that were forwarded by a copy."""

@disjoint_base
class Writer:
    """The writing side of a buffer, which a reader must have created.

    Args:
        name: The buffer's name.
        write_timeout_ms: How long a write waits for space; 0 polls once, None or a negative number waits without limit.
        connect_timeout_ms: How long to wait for a reader to create the buffer (default: fail at once).
        wait_strategy: How the writer waits for space; a `WaitStrategy` or its value.
        request_payload_sharing: Whether `forward` lends frames rather than copying them, where both readers allow it.
        reuse_reader_payload: Another name for it.

    Close it (`close()`, or a `with` block) when done: the reader then gets the end of the stream at once,
    after the last frame. Threads may share a writer: one writes at a time, and the others wait, even while it
    fills a frame in place. A forked child cannot use it.

    Raises:
        BufferNotFoundError: if no reader has created the buffer within the time.
        WriterAlreadyConnectedError: if another live writer is connected.
        ReaderDeadError: if its reader is dead.
        InvalidNameError, PermissionDeniedError, IncompatibleProtocolError, CorruptBufferError: if it cannot be used.
    """
    def __new__(
        cls,
        name: str,
        request_payload_sharing: bool = False,
        *,
        write_timeout_ms: Optional[float] = 5000,
        connect_timeout_ms: Optional[float] = 0,
        wait_strategy: _Wait = None,
        reuse_reader_payload: bool = False,
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
            InvalidStateError: if this thread has acquired a frame. BufferFullError: also if another thread had one
                for the whole time-out.
            OutOfMemoryError, InterruptedError, ClosedError, CorruptBufferError.
        """
    def try_write_frame(self, data: _BytesLike) -> Optional[int]:
        """Like `write_frame`, without waiting: returns None if there is no space now."""
    def write_frames(self, frames: Iterable[_BytesLike]) -> int:
        """Writes each item of an iterable as a frame; returns their number.

        Raises:
            Those of `write_frame`, at the first item that fails. The items before it are written, and `frames_written` counts them.
        """
    async def write_frame_async(self, data: _BytesLike) -> int:
        """As `write_frame`, for asyncio: other tasks run meanwhile. Tasks write in the order of their calls. A task that is cancelled
        has written all of its frame, and got its number, or nothing. Do not change `data` before.

        Raises:
            Those of `write_frame`.
        """
    def _write_now(self, data: _BytesLike) -> Optional[int]: ...
    def _raise_full(self, data: _BytesLike) -> NoReturn: ...
    def _watch(self) -> Optional[Watched]: ...
    def _is_taken(self) -> bool: ...
    def acquire_frame_buffer(self, size: int) -> memoryview:
        """Lends `size` bytes of the buffer, to be filled in place. Call `commit_frame()` or `discard_frame()`
        afterwards.

        Waits for space up to the write time-out, and for another thread that has acquired a frame. If a
        thread ends without a commit, its frame is discarded. `numpy.asarray(view)` makes a writable array of
        the view.

        Returns:
            A writable `memoryview` (format "B", one dimension) whose initial content is undefined. It ends
            with the commit. Arrays and slices made from it stay safe to access, but writing to them is lost,
            or damages a later frame.

        Raises:
            Those of `write_frame`; InvalidStateError if this thread has acquired a frame already.
        """
    def try_acquire_frame_buffer(self, size: int) -> Optional[memoryview]:
        """Like `acquire_frame_buffer`, without waiting: returns None if there is no space now."""
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
        """Discards the acquired frame, if any. The reader never sees it."""
    def frame(self, size: int) -> WritableFrame:
        """A frame to be filled in place in a `with` block: `with writer.frame(n) as view: ...`

        Entering the block acquires `size` bytes (see `acquire_frame_buffer`); leaving it commits them, or discards them if
        it is left by an exception. The block may also commit or discard them itself.

        Raises:
            On entering, as `acquire_frame_buffer`. On leaving, as `commit_frame`; ClosedError if the writer was closed
            meanwhile, so that nothing was written.
        """
    def forward(self, frame: Frame) -> bool:
        """Passes a frame on that a reader of this process has read, waiting for space up to the write time-out: without a copy
        where both readers allow payload sharing and this writer requests it, else by a copy.

        The frame is released, unless the call fails: then it stays valid. Views of it stay valid in any case. A frame that is lent
        keeps its place in its ring until the next reader has released it, too.

        Returns:
            Whether the next reader looks at the bytes where they are.

        Raises:
            Those of `write_frame`; InvalidStateError if the frame is invalid, released, or not one that a reader has read.
        """
    def forward_to(self, frame: Frame) -> bool:
        """Like `forward`, for a frame that goes to several writers: it stays valid."""
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
    def stats(self) -> WriterStats:
        """What the writer has done so far.

        Raises:
            ClosedError: if the writer is closed.
        """
    @property
    def payload_sharing_enabled(self) -> bool:
        """Whether this writer requests payload sharing, and its reader allows it.

        Raises:
            ClosedError: if the writer is closed.
        """
    @property
    def payload_share_count(self) -> int:
        """How many frames are lent through this writer now: a figure, which others may change at once."""
    @property
    def payload_owner_pid(self) -> int:
        """The process that lends frames through this buffer; 0 = none. A figure: a killed process leaves it."""
    def fileno(self) -> int:
        """A file descriptor for event loops: `select`, `selectors`, `loop.add_reader`, and others. Poll it for *reading* only.

        It is ready to read unless the last `try_write_frame()` or `try_acquire_frame_buffer()` found no space and there has been
        neither space nor an end since. It is ready at first. Never read from it or write to it. It is closed with the writer:
        take it out of event loops before. A forked child has none.

        Raises:
            ClosedError: if the writer is closed.
            SystemError: if there is no file descriptor left, or no thread.
        """
    def interrupt(self) -> None:
        """Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError."""
    def close(self) -> None:
        """Closes the writer and unmaps its memory: the reader gets all frames, then the end of the stream at
        once. Calls that other threads are blocked in fail with ClosedError, and an acquired frame is
        discarded. A second call does nothing.
        """
    @property
    def closed(self) -> bool:
        """Whether the writer is closed."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class SharedWriter(Writer):
    """A writer with a buffer of its own making, for frames that it forwards: a relay's output that exists before its reader does.

    Args:
        name: The buffer's name.
        source: The reader whose frames will be forwarded. If it allows payload sharing, a reader that allows it too gets frames
            without a copy from the first one on.
        config: Sizes and rights (default: `BufferConfig()`). The payload is at least as large as the source's.
        write_timeout_ms: How long a write waits for space; see `Writer`.
        wait_strategy: How the writer waits for space; see `Writer`.

    A reader that comes later takes the buffer over, with the frames in it. If none has come when the writer is closed, the
    buffer is removed.

    Raises:
        ReaderAlreadyConnectedError: if a live reader has the name, or it is kept already.
        ClosedError: if the source is closed.
        InvalidNameError, InvalidConfigError, OutOfMemoryError, PermissionDeniedError, IncompatibleProtocolError.
    """
    def __new__(
        cls,
        name: str,
        source: Reader,
        config: Optional[BufferConfig] = None,
        *,
        write_timeout_ms: Optional[float] = 5000,
        wait_strategy: _Wait = None,
    ) -> Self: ...
    def is_adopted(self) -> bool:
        """Whether a reader has taken the buffer over.

        Raises:
            ClosedError: if the writer is closed.
        """

@final
class TeeOutput:
    """An output of a `Tee`, and what it got."""
    @property
    def name(self) -> str:
        """Name of the buffer that it writes."""

    @property
    def bound(self) -> Optional[int]:
        """Of a drop output, how many frames it has at most that its reader has not given back; None: a block output."""

    @property
    def frames_shared(self) -> int:
        """Frames that it got without a copy of its own."""

    @property
    def frames_copied(self) -> int:
        """Frames that it got as a copy of its own."""

    @property
    def frames_dropped(self) -> int:
        """Frames that it did not get."""

    @property
    def ended(self) -> Optional[str]:
        """Why it has ended, for example "ReaderDead"; None while it gets frames."""

@final
class Tee:
    """Passes the frames of one reader on to any number of outputs.

    Args:
        reader: What to read. The tee takes it over: the reader itself is closed afterwards.

    A *block* output gets every frame: while it is full, the tee waits, and so does the source in the end. It is lent the source's
    bytes where its writer requests payload sharing and both readers allow it. A *drop* output has at most so many frames that its
    reader has not given back; what comes then is dropped, and counted. The tee never waits for it. Two and more such outputs are
    lent one copy, where they request and allow sharing. Block outputs are served first. An output whose reader dies or closes
    ends: it gets nothing more, and the others go on.

    Close it (`close()`, or a `with` block) when done. Threads may share a tee: one uses it at a time, the others wait. A forked child
    cannot use it.

    Raises:
        ClosedError: if the reader is closed.
    """
    def __new__(cls, reader: Reader) -> Self: ...
    @property
    def name(self) -> str:
        """Name of the buffer that it reads."""

    def add_block_output(self, writer: Writer) -> None:
        """Adds an output that gets every frame from the next one on. How long the tee waits for space in it is the writer's
        `write_timeout_ms`. The tee takes the writer over: the writer itself is closed afterwards. The output takes the place of one of
        that name that has ended.

        Raises:
            ClosedError: if the tee or the writer is closed.
        """

    def add_drop_output(self, writer: Writer, frames: int = 2) -> None:
        """Adds an output that has at most `frames` frames (at least one) that its reader has not given back. What comes then is dropped. In
        all else like `add_block_output`.
        """

    def remove_output(self, name: str) -> bool:
        """Closes the output that writes the buffer `name`. What it got stays with its reader.

        Returns:
            Whether there was one.
        """

    def step(self, timeout_ms: Optional[float] = 5000) -> bool:
        """Waits for a frame, and passes it on.

        Args:
            timeout_ms: Milliseconds to wait for a frame; 0 polls once, None or a negative number waits without limit.

        Returns:
            Whether there was one: False if the time is over, or the writer has closed.

        Raises:
            Those of `Reader.read_frame` and of `forward`.
        """

    def run(self) -> None:
        """Passes frames on until their writer closes. After the exception of an output a further call goes on.

        Raises:
            Those of `step`.
        """

    def read_frame(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for a frame, for a program that looks at it or changes it (`Frame.make_mut`) before it passes it on (`forward`). Frames that a
        full output has kept back go first.

        Args:
            timeout_ms: Milliseconds to wait; see `step`.

        Returns:
            A frame; an invalid one as from `Reader.read_frame`.

        Raises:
            Those of `step`.
        """

    def forward(self, frame: Frame) -> None:
        """Passes a frame on to all outputs: to block outputs, waiting for space in each up to its write time-out; then to drop outputs.

        The frame is released, unless the call fails: then it stays valid. Views of it stay valid in any case.

        Raises:
            BufferFullError, OutOfMemoryError, InterruptedError: call it again with the frame; it goes on with the output where it
                stopped. Outputs that still wait for the frame when another one comes do without it.
            FrameTooLargeError: that output does without the frame. The others have got it.
            ReaderDeadError and others: that output has ended. The others have got the frame.
            InvalidStateError: if the frame is invalid, released, or not one that a reader has read.
        """

    def flush(self) -> None:
        """Goes on with a frame that `step` could not pass on to a full output; without one it does nothing.

        Raises:
            Those of `forward`.
        """

    def outputs(self) -> List[TeeOutput]:
        """The outputs, also those that have ended, in the order in which they were added."""

    def interrupt(self) -> None:
        """Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError."""

    def close(self) -> None:
        """Closes the reader and the outputs. Calls that other threads are blocked in fail with ClosedError. A second call does nothing."""

    @property
    def closed(self) -> bool:
        """Whether the tee is closed."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: Optional[Type[BaseException]] = None, *_exception: object) -> None: ...

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
    @property
    def max_request_size(self) -> int:
        """The largest request, in bytes: the payload size of the request buffer less 16."""
    def send_request(self, data: _BytesLike, deadline_ms: Optional[float] = None) -> int:
        """Copies `data` into the request buffer as one request. Its response is for `receive_response`.

        Args:
            data: bytes, a NumPy array or another contiguous buffer; copied exactly once.
            deadline_ms: If given, a server that has not started the request by then does not start it, and
                the outcome is DeadlineExceededError.

        Returns:
            The request's sequence number, which its response carries too.

        Raises:
            BufferFullError: if there was no space within the client's request time-out.
            FrameTooLargeError, InvalidFrameSizeError (0 bytes), OutOfMemoryError.
            InvalidStateError: if this thread has acquired a request buffer.
            ReaderDeadError, WriterDeadError, ClosedError: when the channel has ended.
        """
    def acquire_request_buffer(self, size: int) -> Tuple[int, memoryview]:
        """Lends `size` bytes of the request buffer, to be filled in place. Call `commit_request()`,
        `call_acquired()` or `discard_request()` afterwards, on this thread. Other threads that send wait
        meanwhile. If a thread ends without a commit, its request is discarded.

        Returns:
            The request's sequence number, and a writable `memoryview` (format "B", one dimension) that ends with the commit.

        Raises:
            As `send_request`.
        """
    def commit_request(self) -> None:
        """Sends the acquired request. Its response is for `receive_response`.

        Raises:
            InvalidStateError: if this thread has acquired none. After the end of the channel, those of
            `send_request`.
        """
    def call_acquired(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Sends the acquired request and waits for its response. Other threads may send and receive meanwhile.

        Args:
            timeout_ms: For the response; also the request's deadline.

        Raises:
            InvalidStateError: if this thread has acquired none. Otherwise those of `call`, except for missing
            space.
        """
    def discard_request(self) -> None:
        """Discards the acquired request.

        Raises:
            InvalidStateError: if this thread has acquired none.
        """
    def receive_response(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for the next response that no other call waits for, in the order of arrival.

        Args:
            timeout_ms: Milliseconds; 0 polls once, None or a negative number waits without limit.

        Returns:
            A frame with the request's sequence number (it may have 0 bytes); an invalid one when the time is over.

        Raises:
            RequestFailedError, CancelledError, DeadlineExceededError: about one request, whose number is
            `error.sequence`.
            WriterDeadError, ReaderDeadError, ClosedError: about the channel, for every call from now on.
        """
    def receive_response_to(self, sequence: int, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for the response to one request.

        Raises:
            Those of `receive_response`; InvalidStateError if the outcome has been returned already, or there
            was no such request.
        """
    def call(self, data: _BytesLike, timeout_ms: Optional[float] = 5000) -> Frame:
        """Sends a request and waits for its response. Other threads may send and receive meanwhile.

        Args:
            data: The request; see `send_request`.
            timeout_ms: For sending and the response together; also the request's deadline.

        Raises:
            RequestFailedError: if the handler failed; with its message.
            DeadlineExceededError: if no response came in time. CancelledError. Those of `send_request`.
        """
    def _watch(self) -> Watched: ...
    def _look_for_calls(self) -> Optional[float]: ...
    def _next_look(self) -> Optional[float]: ...
    def _start_call(
        self, data: _BytesLike, timeout_ms: Optional[float], deliver: Callable[[Any], object]
    ) -> AsyncCall: ...
    def cancel_request(self, sequence: int) -> bool:
        """Cancels a request: its outcome is CancelledError, at once. Returns whether it was still under way.

        Raises:
            The error that ended the channel.
        """
    @property
    def is_server_connected(self) -> bool:
        """Whether the server lives and reads requests."""
    def set_metadata(self, metadata: _BytesLike) -> None:
        """Describes this client to the server, whose `on_init` gets the bytes before the next request. At most once.

        Raises:
            MetadataAlreadyWrittenError, MetadataTooLargeError, or the error that ended the channel.
        """
    def close(self) -> None:
        """Closes the client and unmaps its memory. Waiting calls of other threads raise ClosedError. Responses
        that are still held stay valid, and keep their memory mapped. A second call does nothing.
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class AsyncCall:
    """A call under way; for `zerobuffer._aio`."""
    def check(self) -> None:
        """Ends it if its time is over."""
    def cancel(self) -> None:
        """Withdraws the request."""

@disjoint_base
class ImmutableDuplexServer:
    """See `zerobuffer.duplex`."""
    def __new__(cls, channel_name: str, config: Optional[BufferConfig] = None) -> Self: ...
    @property
    def channel_name(self) -> str:
        """The channel's name."""
    def wait(self, timeout_ms: Optional[float] = None) -> bool:
        """Waits until the server no longer runs and its handlers have ended: another thread has stopped it, or it has
        ended by itself (`on_error` says why).

        Args:
            timeout_ms: Milliseconds; None or a negative number waits without limit.

        Returns:
            Whether that is so: True at once if it was not started, False at once on a thread of the server, which
            cannot wait for itself.
        """
    def stop(self) -> None:
        """Stops the server, even while it waits. Clients learn of it at once. It can be started again.

        Raises:
            HandlerBusyError: if a handler is still running after 80 ms. The handler can check `frame.is_cancelled`; its
                answer is dropped, and its thread ends when it returns.
        """
    @property
    def is_running(self) -> bool:
        """Whether requests are being processed. False while the server is being started or stopped."""
    def on_error(self, callback: Callable[[ZeroBufferError], object]) -> None:
        """Sets the function that is called with a ZeroBufferError, on a thread of the server, when a handler fails, an
        answer cannot be sent, a client has died, or the request buffer had to be created again. The server continues.

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
                bytes, a NumPy array or another contiguous buffer, which must not be changed afterwards. An exception of it
                reaches the client as RequestFailedError, for that request only.
            mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.

        Raises:
            InvalidStateError: if it runs. After a stop, those of the constructor.
        """
    def start_in_place(self, handler: Callable[[Frame, ResponseWriter], object], mode: Optional[ProcessingMode] = None) -> None:
        """Starts processing with a handler that writes its answer in place, in the response buffer.

        Args:
            handler: Called with each request, as by `start`, and with a `ResponseWriter`. What it returns does not count. If it
                writes no answer, the response has no bytes; but if it has acquired bytes and not committed them, the request
                fails.
            mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`, where answers are copied once.

        Raises:
            InvalidStateError: if it runs. After a stop, those of the constructor.
        """
    def _start_async(self, schedule: Callable[[Frame, Answer], object]) -> None: ...

@disjoint_base
class MutableDuplexServer:
    """See `zerobuffer.duplex`."""
    def __new__(cls, channel_name: str, config: Optional[BufferConfig] = None) -> Self: ...
    @property
    def channel_name(self) -> str:
        """The channel's name."""
    def wait(self, timeout_ms: Optional[float] = None) -> bool:
        """Waits until the server no longer runs and its handlers have ended: another thread has stopped it, or it has
        ended by itself (`on_error` says why).

        Args:
            timeout_ms: Milliseconds; None or a negative number waits without limit.

        Returns:
            Whether that is so: True at once if it was not started, False at once on a thread of the server, which
            cannot wait for itself.
        """
    def stop(self) -> None:
        """Stops the server, even while it waits. Clients learn of it at once. It can be started again.

        Raises:
            HandlerBusyError: if a handler is still running after 80 ms. The handler can check `frame.is_cancelled`; its
                answer is dropped, and its thread ends when it returns.
        """
    @property
    def is_running(self) -> bool:
        """Whether requests are being processed. False while the server is being started or stopped."""
    def on_error(self, callback: Callable[[ZeroBufferError], object]) -> None:
        """Sets the function that is called with a ZeroBufferError, on a thread of the server, when a handler fails, an
        answer cannot be sent, a client has died, or the request buffer had to be created again. The server continues.

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
                returns None. An exception of it reaches the client as RequestFailedError, for that request only.
            mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.

        Raises:
            InvalidStateError: if it runs. After a stop, those of the constructor.
        """

@final
class ResponseWriter:
    """Writes the answer to one request, usually in place; see `ImmutableDuplexServer.start_in_place`. Valid until the
    handler returns.
    """
    def acquire(self, size: int) -> memoryview:
        """Lends `size` bytes for the answer, to be filled and committed. Their first content is undefined.

        They are bytes of the response buffer where one thread runs all handlers; this then waits for space for as long as
        the client lives. In a thread pool they are memory of the process, which the commit copies.

        Returns:
            A writable view. It ends with the commit. Arrays made of it stay safe to use, but their content is undefined then.

        Raises:
            FrameTooLargeError: if the response buffer is too small.
            InvalidStateError: if the request has been answered, bytes are acquired already, or the handler has returned.
            OutOfMemoryError.
        """
    def commit(self, size: Optional[int] = None) -> None:
        """Answers with the acquired bytes, or the first `size` of them; 0 answers with no bytes.

        Raises:
            InvalidStateError: if nothing is acquired, or the handler has returned.
            InvalidFrameSizeError: if fewer bytes are acquired; they stay acquired.
        """
    def discard(self) -> None:
        """Discards the acquired bytes, if any. The handler may acquire others, or `write`; if it does neither, its request fails.

        Raises:
            InvalidStateError: if the handler has returned.
        """
    def frame(self, size: int) -> WritableResponse:
        """Bytes for the answer, to be filled in a `with` block: `with response.frame(n) as view: ...`

        Entering the block acquires `size` bytes (see `acquire`); leaving it commits them, or discards them if it is left by
        an exception. The block may also commit or discard them itself.
        """
    def write(self, data: _BytesLike) -> None:
        """Answers with a copy of `data`.

        Args:
            data: bytes, a NumPy array or another contiguous buffer.

        Raises:
            InvalidStateError: if the request has been answered, bytes are acquired, or the handler has returned.
        """

@final
class WritableResponse:
    """A `with` block around an answer that is filled in place; see `ResponseWriter.frame`."""
    def __enter__(self) -> memoryview: ...
    def __exit__(self, kind: Optional[Type[BaseException]] = None, *_exception: object) -> None: ...

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
