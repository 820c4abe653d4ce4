"""Requests and responses over two buffers: a channel has one server and one client at a time.

A server::

    factory = DuplexChannelFactory()
    server = factory.create_immutable_server("upper-case", BufferConfig())
    server.start(lambda frame: bytes(frame).upper())

and a client, which any number of threads may use at once::

    client = DuplexChannelFactory().create_client("upper-case")
    with client.call(b"hello") as response:
        assert bytes(response) == b"HELLO"

A failed handler, a cancelled request and a dead peer are each reported to the caller concerned. A server outlives its
clients.
"""

import asyncio
import enum
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Awaitable, Callable, Optional, Tuple

from . import _aio, _native
from ._native import BufferConfig, Frame, ResponseWriter

if TYPE_CHECKING:
    from ._native import _BytesLike

__all__ = [
    "DuplexChannelFactory",
    "DuplexClient",
    "IDuplexChannelFactory",
    "IDuplexClient",
    "IDuplexServer",
    "IImmutableDuplexServer",
    "IMutableDuplexServer",
    "ImmutableDuplexServer",
    "MutableDuplexServer",
    "ProcessingMode",
    "ResponseWriter",
]


class ProcessingMode(enum.Enum):
    """How a server runs its handler."""

    #: One request after the other, on the one thread that reads the request buffer.
    SINGLE_THREAD = "single_thread"
    #: Several requests at once, one thread for each processor. Responses may overtake each other, except those to a 1.x
    #: client.
    THREAD_POOL = "thread_pool"


class IDuplexClient(ABC):
    """What the client of a channel can do; see `DuplexClient`."""

    @abstractmethod
    def send_request(self, data: "_BytesLike") -> int:
        """Sends a request, copied; returns its sequence number."""

    @abstractmethod
    def acquire_request_buffer(self, size: int) -> Tuple[int, memoryview]:
        """Lends bytes of the request buffer, to be filled in place. Returns the request's sequence number and the bytes."""

    @abstractmethod
    def commit_request(self) -> None:
        """Sends the acquired request."""

    @abstractmethod
    def receive_response(self, timeout_ms: Optional[float] = 5000) -> Frame:
        """Waits for the next response."""

    @property
    @abstractmethod
    def is_server_connected(self) -> bool:
        """Whether the server lives and reads requests."""


class IDuplexServer(ABC):
    """What every server can do."""

    @abstractmethod
    def stop(self) -> None:
        """Stops processing."""

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether requests are being processed."""


class IImmutableDuplexServer(IDuplexServer):
    """A server whose handler answers with bytes of its own; see `ImmutableDuplexServer`."""

    @abstractmethod
    def start(
        self, handler: "Callable[[Frame], _BytesLike]", mode: ProcessingMode = ProcessingMode.SINGLE_THREAD
    ) -> None:
        """Starts processing, and returns at once."""

    @abstractmethod
    async def start_async(self, handler: "Callable[[Frame], Awaitable[_BytesLike]]") -> None:
        """Starts processing with a coroutine function, whose calls run as tasks of the current event loop."""


class IMutableDuplexServer(IDuplexServer):
    """A server whose handler changes requests in place; see `MutableDuplexServer`."""

    @abstractmethod
    def start(
        self, handler: Callable[[Frame], None], mode: ProcessingMode = ProcessingMode.SINGLE_THREAD
    ) -> None:
        """Starts processing, and returns at once."""


class IDuplexChannelFactory(ABC):
    """What makes servers and clients; see `DuplexChannelFactory`."""

    @abstractmethod
    def create_immutable_server(self, channel_name: str, config: Optional[BufferConfig] = None) -> IImmutableDuplexServer:
        """Creates a server whose handler answers with bytes of its own."""

    @abstractmethod
    def create_mutable_server(self, channel_name: str, config: Optional[BufferConfig] = None) -> IMutableDuplexServer:
        """Creates a server whose handler changes requests in place."""

    @abstractmethod
    def create_client(self, channel_name: str) -> IDuplexClient:
        """Connects to the server of a channel."""


class DuplexClient(_native.DuplexClient, IDuplexClient):
    """The client of a channel, for any number of threads and tasks at once.

    Args:
        channel_name: The channel's name.
        request_timeout_ms: How long sending waits for space; None waits without limit. A call has a time-out of its own.
        connect_timeout_ms: How long to wait for a server (default: fail at once).
        response_config: Sizes and rights of the response buffer, which the client creates.

    Every request has one outcome, for the call that waits for it: a response, or RequestFailedError, CancelledError or
    DeadlineExceededError with the request's number. The end of the channel is the outcome of every call from then on.

    Raises:
        BufferNotFoundError: if there is no server within the time.
        WriterAlreadyConnectedError: if it has a client.
        ReaderDeadError: if the server is dead. Those of `Reader` for the response buffer.
    """

    async def call_async(self, data: "_BytesLike", timeout_ms: Optional[float] = 5000) -> Frame:
        """Like `call`, for asyncio: other tasks run meanwhile. Cancelling the task cancels the request.

        Raises:
            Those of `call`.
        """
        return await _aio.call(self, data, timeout_ms)


class ImmutableDuplexServer(_native.ImmutableDuplexServer, IImmutableDuplexServer):
    """A server whose handler reads each request and answers with bytes of its own.

    Args:
        channel_name: The channel's name.
        config: Sizes and rights of the request buffer (default: `BufferConfig()`).

    It outlives its clients: when one leaves or dies it takes the next. A `with` block stops it.

    Raises:
        Those of `zerobuffer.Reader`; InvalidNameError if the name is too long for a channel.
    """
    async def start_async(self, handler: "Callable[[Frame], Awaitable[_BytesLike]]") -> None:
        """Starts processing with a coroutine function, and returns at once.

        Each request becomes a task of the current event loop, with a frame that is released when the task is done. As many
        run at once as the request buffer has room for. Stop the server before the loop ends.

        Raises:
            InvalidStateError: if it runs. After a stop, as the constructor.
        """
        if not callable(handler):
            raise TypeError(f"the handler must be callable, and {type(handler).__name__} is not")
        loop = asyncio.get_running_loop()
        tasks = set()

        async def run(frame: Frame, answer: _native.Answer) -> None:
            try:
                answer.send(frame, await handler(frame))
            except BaseException as error:
                # At once: some of these end the loop.
                answer.fail(frame, error)
                if not isinstance(error, Exception):
                    raise

        def start(frame: Frame, answer: _native.Answer) -> None:
            def finish(task: "asyncio.Task[None]") -> None:
                tasks.discard(task)
                if task.cancelled():
                    # Perhaps before its first step. Only the first answer counts.
                    answer.fail(frame, asyncio.CancelledError())

            task = loop.create_task(run(frame, answer))
            tasks.add(task)
            task.add_done_callback(finish)

        def schedule(frame: Frame, answer: _native.Answer) -> None:
            loop.call_soon_threadsafe(start, frame, answer)

        self._start_async(schedule)


class MutableDuplexServer(_native.MutableDuplexServer, IMutableDuplexServer):
    """A server whose handler changes each request in place, in shared memory; the changed bytes are the response.

    Args:
        channel_name: The channel's name.
        config: Sizes and rights of the request buffer (default: `BufferConfig()`).

    It outlives its clients: when one leaves or dies it takes the next. A `with` block stops it.

    Raises:
        Those of `zerobuffer.Reader`; InvalidNameError if the name is too long for a channel.
    """

class DuplexChannelFactory(IDuplexChannelFactory):
    """Makes the servers and clients of duplex channels. All factories are the same."""

    _instance: "Optional[DuplexChannelFactory]" = None

    @classmethod
    def get_instance(cls) -> "DuplexChannelFactory":
        """The shared factory of this process."""
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    def create_immutable_server(self, channel_name: str, config: Optional[BufferConfig] = None) -> ImmutableDuplexServer:
        """Creates the request buffer of a channel and its server, whose handler answers with bytes of its own.

        Raises:
            Those of `ImmutableDuplexServer`.
        """
        return ImmutableDuplexServer(channel_name, config)

    def create_mutable_server(self, channel_name: str, config: Optional[BufferConfig] = None) -> MutableDuplexServer:
        """Creates the request buffer of a channel and its server, whose handler changes requests in place.

        Raises:
            Those of `MutableDuplexServer`.
        """
        return MutableDuplexServer(channel_name, config)

    def create_client(
        self,
        channel_name: str,
        *,
        request_timeout_ms: Optional[float] = 5000,
        connect_timeout_ms: Optional[float] = 0,
        response_config: Optional[BufferConfig] = None,
    ) -> DuplexClient:
        """Connects to the server of a channel, and creates the response buffer.

        Args:
            channel_name: The channel's name.
            request_timeout_ms: How long sending waits for space; None waits without limit.
            connect_timeout_ms: How long to wait for a server (default: fail at once).
            response_config: Sizes and rights of the response buffer.

        Raises:
            Those of `DuplexClient`.
        """
        return DuplexClient(
            channel_name,
            request_timeout_ms=request_timeout_ms,
            connect_timeout_ms=connect_timeout_ms,
            response_config=response_config,
        )
