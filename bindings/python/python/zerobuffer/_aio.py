"""Reading for asyncio: a thread of the native half waits, the event loop goes on.

A task that has to wait joins the reader's line. The thread puts what it reads into the reader's queue and wakes the first
task of the line, which takes the head of the queue. A task that ends for any reason before it has taken anything leaves
the frame where it is, for the next one.
"""

import asyncio
import functools
import itertools
from typing import Optional

from ._native import Frame, Reader

# Frames that are there already are handed out without a pause; after so many, other tasks get their turn.
_BURST = 32
_count = itertools.count(1)


def _finish(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)


async def read_frame(reader: Reader, seconds: Optional[float]) -> Frame:
    """The implementation of `Reader.read_frame_async`."""
    if next(_count) % _BURST == 0:
        await asyncio.sleep(0)
    if seconds == 0:
        return reader.read_frame(0)
    frame = reader._in_turn()
    if frame.is_valid or frame.end_of_stream:
        return frame
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    while True:
        woken: "asyncio.Future[None]" = loop.create_future()
        place = reader._join(functools.partial(loop.call_soon_threadsafe, _finish, woken))
        timer = None
        try:
            if deadline is not None:
                timer = loop.call_at(deadline, _finish, woken)
            await woken
            frame = reader._at_hand()
        finally:
            reader._leave(place)
            if timer is not None:
                timer.cancel()
        # Another thread may have taken what there was.
        if frame.is_valid or frame.end_of_stream or (deadline is not None and loop.time() >= deadline):
            return frame


async def next_frame(reader: Reader) -> Frame:
    """The implementation of `Reader.__anext__`."""
    frame = await read_frame(reader, None)
    if frame.end_of_stream:
        raise StopAsyncIteration
    return frame
