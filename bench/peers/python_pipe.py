"""multiprocessing: the Connection of a `Pipe(duplex=False)`, here over a named pipe, as its ends are two programs."""

import os
from multiprocessing.connection import Connection

from python_roles import play, until


def reading_end(channel):
    path = channel["path"] + ".made"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    # It is there from now on.
    os.rename(path, channel["path"])
    return Connection(fd, writable=False)


def writing_end(channel):
    until(lambda: os.path.exists(channel["path"]))
    return Connection(os.open(channel["path"], os.O_WRONLY), readable=False)


class Sink:
    def __init__(self, channel):
        self.end = writing_end(channel)
        self.send = self.end.send_bytes

    def finish(self):
        self.end.close()


class Source:
    def __init__(self, channel):
        self.end = reading_end(channel)
        # The reader may look before the writer has opened it, and would take that for the end.
        self.started = False

    def receive(self, target):
        if not self.started:
            self.end.poll(20)
            self.started = True
        if self.end.recv_bytes_into(target) != len(target):
            raise SystemExit("a frame of another size")

    def close(self):
        self.end.close()


if __name__ == "__main__":
    play(Sink, Source)
