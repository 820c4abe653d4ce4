"""Waiting in asyncio: the event loop itself watches the descriptors of readers, writers and clients.

A task that finds nothing takes a place in the line of its loop for that reader or writer. When the descriptor is ready, the first
task of the line is woken, and looks. A task takes a frame, or writes one, only in the step that returns it, so whatever ends it
before that leaves the frame for the next one.

The descriptor that is watched is a copy (`Watched`), which the line keeps open. When the reader or writer is closed, be it by
another thread, the copy is ready for good: each task of the line looks, and finds that.

Calls of a client need no line, as each of them has a response of its own: when the descriptor is ready, the loop takes what has
come, for all of them.
"""

import asyncio
import functools
import heapq
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple, TypeVar, Union

from ._native import AsyncCall, DuplexClient, Frame, Reader, Watched, Writer

if TYPE_CHECKING:
    from ._native import _BytesLike

_T = TypeVar("_T")

# Frames that are there already are handed out without a pause; after so many, other tasks get their turn.
_BURST = 32
_count = itertools.count(1)

# While another thread blocks in a call of the same reader or writer, a task looks again after so many seconds, at first and at
# most: nothing tells it when that thread lets go.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02

# A call's time may be over a little after its timer: then it is checked again, so many seconds later. Loops take no endless timers.
_CHECK_AGAIN = 0.002
_LONGEST_TIMER = 86400.0


class _Sleeper:
    """A task that sleeps until it is its turn."""

    __slots__ = ("_woken", "is_asleep", "place")

    def __init__(self, loop: asyncio.AbstractEventLoop, place: int) -> None:
        self.place = place
        self._woken: "asyncio.Future[None]" = loop.create_future()
        #: False once it has left, whatever has ended its sleep.
        self.is_asleep = True

    def __lt__(self, other: "_Sleeper") -> bool:
        return self.place < other.place

    async def sleep(self) -> None:
        await self._woken

    def wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


class _Line:
    """The tasks of one event loop that wait for one reader or writer. Used in the loop's thread only."""

    __slots__ = ("__weakref__", "_asleep", "_handle", "_loop", "_places", "_watched", "taken")

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: "Union[Reader, Writer]", watched: Watched) -> None:
        # It is found by the identities of the loop and the handle, so it keeps both.
        self._loop = loop
        self._handle = handle
        self._watched = watched
        self._places = itertools.count()
        #: A heap of those that sleep. The loop watches while there is any.
        self._asleep: "List[_Sleeper]" = []
        #: How many have a place.
        self.taken = 0

    def join(self) -> int:
        self.taken += 1
        return next(self._places)

    async def sleep(self, place: int, deadline: Optional[float]) -> None:
        """Returns when it is the turn of `place` to look, or the time is over."""
        while True:
            await self._sleep_once(place, deadline)
            if not (self._asleep and self._asleep[0].place < place):
                return
            # One before it has begun to sleep again meanwhile.
            self._wake_first()

    async def _sleep_once(self, place: int, deadline: Optional[float]) -> None:
        sleeper = _Sleeper(self._loop, place)
        if not self._asleep:
            self._loop.add_reader(self._watched, self._wake_first)
        heapq.heappush(self._asleep, sleeper)
        timer = None if deadline is None else self._loop.call_at(deadline, sleeper.wake)
        try:
            await sleeper.sleep()
        finally:
            if timer is not None:
                timer.cancel()
            sleeper.is_asleep = False
            self._forget_woken()

    def _wake_first(self) -> None:
        self._forget_woken()
        if self._asleep:
            heapq.heappop(self._asleep).wake()
            self._rest()

    def _forget_woken(self) -> None:
        if self._asleep:
            while self._asleep and not self._asleep[0].is_asleep:
                heapq.heappop(self._asleep)
            self._rest()

    def _rest(self) -> None:
        if not self._asleep:
            self._loop.remove_reader(self._watched)


#: The lines in which tasks wait, by the identities of loop and handle.
_lines: "weakref.WeakValueDictionary[Tuple[int, int], _Line]" = weakref.WeakValueDictionary()


async def _find(handle: "Union[Reader, Writer]", look: Callable[[], Optional[_T]], seconds: Optional[float]) -> Optional[_T]:
    """Calls `look` in turn, until it returns something or the time is over."""
    loop = asyncio.get_running_loop()
    key = (id(loop), id(handle))
    line = _lines.get(key)
    is_first = line is None or line.taken == 0
    pauses = is_first and next(_count) % _BURST == 0
    if (is_first and not pauses) or seconds == 0:
        found = look()
        if found is not None or seconds == 0:
            return found
    deadline = None if seconds is None else loop.time() + seconds
    pause = _FIRST_PAUSE
    while line is None:
        watched = handle._watch()
        if watched is not None:
            line = _lines[key] = _Line(loop, handle, watched)
            break
        await asyncio.sleep(pause)
        if deadline is not None and loop.time() >= deadline:
            return None
        pause = min(2 * pause, _LONGEST_PAUSE)
        line = _lines.get(key)
    place = line.join()
    try:
        while True:
            if pauses:
                # In the line, so that tasks which come meanwhile are behind this one.
                await asyncio.sleep(0)
                pauses = False
            else:
                await line.sleep(place, deadline)
            found = look()
            if found is not None or (deadline is not None and loop.time() >= deadline):
                return found
            if handle._is_taken():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
    finally:
        line.taken -= 1


def _or_nothing(frame: Optional[Frame]) -> Frame:
    # An end is found too, and a frame with a length of 0 is false.
    return Reader._nothing() if frame is None else frame


async def read_frame(reader: Reader, seconds: Optional[float]) -> Frame:
    """The implementation of `Reader.read_frame_async`."""
    return _or_nothing(await _find(reader, reader._look, seconds))


async def read_latest_frame(reader: Reader, seconds: Optional[float]) -> Frame:
    """The implementation of `Reader.read_latest_frame_async`."""
    return _or_nothing(await _find(reader, reader._look_for_latest, seconds))


def _unless_ended(frame: Frame) -> Frame:
    if frame.end_of_stream:
        raise StopAsyncIteration
    return frame


async def next_frame(reader: Reader) -> Frame:
    """The implementation of `Reader.__anext__`."""
    return _unless_ended(await read_frame(reader, None))


async def next_latest_frame(reader: Reader) -> Frame:
    """The implementation of the `__anext__` of `Reader.latest_frames()`."""
    return _unless_ended(await read_latest_frame(reader, None))


async def write_frame(writer: Writer, data: "_BytesLike", seconds: Optional[float]) -> int:
    """The implementation of `Writer.write_frame_async`."""
    sequence = await _find(writer, functools.partial(writer._write_now, data), seconds)
    if sequence is None:
        writer._raise_full(data)
    return sequence


class _Calls:
    """The calls of one event loop to one client. Used in the loop's thread only."""

    __slots__ = ("__weakref__", "_client", "_loop", "_timer", "_under_way", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop, client: DuplexClient) -> None:
        # It is found by the identities of the loop and the client, so it keeps both.
        self._loop = loop
        self._client = client
        self._watched = client._watch()
        self._under_way = 0
        self._timer: Optional[asyncio.TimerHandle] = None

    def begin(self) -> None:
        if self._under_way == 0:
            self._loop.add_reader(self._watched, self._look)
        self._under_way += 1

    def end(self) -> None:
        self._under_way -= 1
        if self._under_way == 0:
            self._loop.remove_reader(self._watched)
            self._set_timer(None)

    def sent(self) -> None:
        """A call has been started, and may wait for space."""
        if self._timer is None:
            self._set_timer(self._client._next_look())

    def _look(self) -> None:
        self._set_timer(self._client._look_for_calls())

    def _set_timer(self, seconds: Optional[float]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._look)


#: The calls under way, by the identities of loop and client.
_calls: "weakref.WeakValueDictionary[Tuple[int, int], _Calls]" = weakref.WeakValueDictionary()


class _Call:
    """One call, whose outcome may come on any thread."""

    __slots__ = ("_call", "_deadline", "_loop", "_thread", "_timer", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._deadline = 0.0
        self._call: Optional[AsyncCall] = None
        self.outcome: "asyncio.Future[Frame]" = loop.create_future()

    def start(self, client: DuplexClient, data: "_BytesLike", timeout_ms: Optional[float]) -> None:
        self._call = client._start_call(data, timeout_ms, self._deliver)
        if timeout_ms is not None and not self.outcome.done():
            self._deadline = self._loop.time() + timeout_ms / 1000
            self._set_timer()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None:
            # Withdraws the request if the task has been cancelled, or closed.
            self._call.cancel()

    def _check(self) -> None:
        assert self._call is not None
        self._call.check()
        self._set_timer()

    def _set_timer(self) -> None:
        left = max(self._deadline - self._loop.time(), _CHECK_AGAIN)
        self._timer = self._loop.call_later(min(left, _LONGEST_TIMER), self._check)

    def _deliver(self, result: Union[Frame, BaseException]) -> None:
        if threading.get_ident() == self._thread:
            self._settle(result)
        else:
            self._loop.call_soon_threadsafe(self._settle, result)

    def _settle(self, result: Union[Frame, BaseException]) -> None:
        if self.outcome.done():
            if isinstance(result, Frame):
                result.release()
        elif isinstance(result, BaseException):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)


async def call(client: DuplexClient, data: "_BytesLike", timeout_ms: Optional[float]) -> Frame:
    """The implementation of `DuplexClient.call_async`."""
    loop = asyncio.get_running_loop()
    key = (id(loop), id(client))
    calls = _calls.get(key)
    if calls is None:
        calls = _calls[key] = _Calls(loop, client)
    this = _Call(loop)
    calls.begin()
    try:
        this.start(client, data, timeout_ms)
        calls.sent()
        return await this.outcome
    finally:
        this.end()
        calls.end()
