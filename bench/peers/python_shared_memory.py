"""multiprocessing: `SharedMemory` used as a ring of 8 frames, with a semaphore for the free and one for the full ones, which
is what one has to write oneself to stream over it."""

import _multiprocessing
import os
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

from python_roles import PATIENCE, play, until

FRAMES = 8
SEMAPHORE = 1


def names(channel):
    return channel["name"], f"/{channel['name']}-free", f"/{channel['name']}-full"


class Sink:
    def __init__(self, channel):
        until(lambda: os.path.exists(channel["path"]))
        memory, free, full = names(channel)
        self.memory = SharedMemory(memory)
        # It is the other side's to remove.
        resource_tracker.unregister(self.memory._name, "shared_memory")
        self.slots = slots(self.memory, channel["size"])
        self.free = _multiprocessing.SemLock._rebuild(0, SEMAPHORE, FRAMES, free)
        self.full = _multiprocessing.SemLock._rebuild(0, SEMAPHORE, FRAMES, full)
        self.next = 0

    def send(self, data):
        self.acquire(len(data))[:] = data
        self.commit()

    def acquire(self, _size):
        if not self.free.acquire(True, PATIENCE):
            raise SystemExit("no room")
        return self.slots[self.next]

    def commit(self):
        self.next = (self.next + 1) % FRAMES
        self.full.release()

    def finish(self):
        self.slots.clear()
        self.memory.close()


class Source:
    def __init__(self, channel):
        memory, free, full = names(channel)
        self.memory = SharedMemory(memory, create=True, size=FRAMES * channel["size"])
        self.slots = slots(self.memory, channel["size"])
        self.free = _multiprocessing.SemLock(SEMAPHORE, FRAMES, FRAMES, free, False)
        self.full = _multiprocessing.SemLock(SEMAPHORE, 0, FRAMES, full, False)
        self.next = 0
        open(channel["path"], "w").close()

    def receive(self, target):
        target[:] = self.take()
        self.give_back()

    def take(self):
        if not self.full.acquire(True, PATIENCE):
            raise SystemExit("no frame")
        return self.slots[self.next]

    def give_back(self):
        self.next = (self.next + 1) % FRAMES
        self.free.release()

    def close(self):
        self.slots.clear()
        self.memory.close()
        self.memory.unlink()


def slots(memory, size):
    return [memory.buf[at * size : (at + 1) * size] for at in range(FRAMES)]


if __name__ == "__main__":
    play(Sink, Source)
