"""multiprocessing: a `Queue` of 8 items at most.

A queue is handed from parent to child; here its two ends are two programs, so it is put together from a named pipe and a
named semaphore, and works on them as it does on its own.
"""

import _multiprocessing
import threading
from multiprocessing.queues import Queue

from python_pipe import reading_end, writing_end
from python_roles import PATIENCE, play

ITEMS = 8
SEMAPHORE = 1


class End:
    """In place of the end that the other program has."""

    send_bytes = recv_bytes = poll = None

    def fileno(self):
        return -1

    def close(self):
        pass


def queue(reader, writer, room):
    made = Queue.__new__(Queue)
    made.__setstate__((False, ITEMS, reader, writer, threading.Lock(), threading.Lock(), room, 0))
    return made


class Sink:
    def __init__(self, channel):
        end = writing_end(channel)
        room = _multiprocessing.SemLock._rebuild(0, SEMAPHORE, ITEMS, "/" + channel["name"])
        self.queue = queue(End(), end, room)

    def send(self, data):
        # The queue pickles it later, on its thread, so it needs a copy.
        self.queue.put(bytes(data), timeout=PATIENCE)

    def finish(self):
        self.queue.close()
        self.queue.join_thread()


class Source:
    def __init__(self, channel):
        # The semaphore must be there when the other side finds the pipe.
        room = _multiprocessing.SemLock(SEMAPHORE, ITEMS, ITEMS, "/" + channel["name"], False)
        self.queue = queue(reading_end(channel), End(), room)

    def receive(self, target):
        target[:] = self.queue.get(timeout=PATIENCE)

    def close(self):
        pass


if __name__ == "__main__":
    play(Sink, Source)
