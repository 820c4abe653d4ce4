"""Reading for asyncio: a thread waits, the event loop goes on.

Nothing is lost when the task that waits is cancelled at the very moment a frame comes: the frame travels in a ticket, and
goes to the next read if the ticket has been withdrawn.
"""

import asyncio
import itertools
import os
import queue
import threading
from typing import Callable, List, Optional

from ._native import Frame, Reader, Ticket

# Frames that are there already are handed out without a pause; after so many, other tasks get their turn.
_BURST = 32
_count = itertools.count(1)


class _Worker(threading.Thread):
    """A daemon thread that waits for whoever wants it to, and is kept for the next one."""

    def __init__(self) -> None:
        super().__init__(name="zerobuffer-aio", daemon=True)
        self.jobs: "queue.SimpleQueue[Callable[[], None]]" = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            job = self.jobs.get()
            job()
            # The job keeps the reader.
            del job
            _idle.append(self)


_idle: List[_Worker] = []
# Threads do not live on in a forked child.
os.register_at_fork(after_in_child=_idle.clear)


def _in_thread(job: Callable[[], None]) -> None:
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        worker.start()
    worker.jobs.put(job)


async def _wait(reader: Reader, timeout_ms: Optional[float]) -> Frame:
    loop = asyncio.get_running_loop()
    done: "asyncio.Future[None]" = loop.create_future()
    ticket = Ticket()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def job() -> None:
        reader._read_for(ticket, timeout_ms)
        try:
            loop.call_soon_threadsafe(finish)
        except RuntimeError:
            # The loop has been closed.
            reader._withdraw(ticket)

    _in_thread(job)
    try:
        await done
    except asyncio.CancelledError:
        reader._withdraw(ticket)
        raise
    return ticket.take()


async def read_frame(reader: Reader, timeout_ms: Optional[float]) -> Frame:
    """What `Reader.read_frame_async` does."""
    if next(_count) % _BURST == 0:
        await asyncio.sleep(0)
    frame = reader.try_read_frame()
    if frame.is_valid or frame.end_of_stream or timeout_ms == 0:
        return frame
    return await _wait(reader, timeout_ms)


async def next_frame(reader: Reader) -> Frame:
    """What `Reader.__anext__` does."""
    frame = await read_frame(reader, None)
    if frame.end_of_stream:
        raise StopAsyncIteration
    return frame
