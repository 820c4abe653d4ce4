"""A forked child finds no lock taken, whatever the threads of its parent are doing."""

import asyncio
import os
import select
import signal
import threading

import pytest

import zerobuffer
from conftest import CONFIG
from zerobuffer.duplex import DuplexChannelFactory

#: How often each test forks.
FORKS = 50

# CPython from 3.12 on warns of forks beside threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def fork(*calls):
    """Makes calls in a forked child, which are refused or do nothing there, and waits for it. One that hangs is killed."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        for call in calls:
            try:
                call()
            except (zerobuffer.InvalidStateError, zerobuffer.ClosedError):
                pass
        os._exit(0)
    # A child that hangs within the fork itself has no alarm yet.
    if hasattr(os, "pidfd_open"):
        pidfd = os.pidfd_open(child)
        if not select.select([pidfd], [], [], 20)[0]:
            os.kill(child, signal.SIGKILL)
        os.close(pidfd)
    status = os.waitpid(child, 0)[1]
    assert status == 0, "the child hung" if status in (signal.SIGALRM, signal.SIGKILL) else status


class Busy:
    """Threads that call functions over and over, until the block ends."""

    def __init__(self, *functions):
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(function,)) for function in functions]

    def run(self, function):
        while not self.over.is_set():
            try:
                function()
            except zerobuffer.ZeroBufferError:
                pass

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def test_while_threads_fill_frames_in_place(reader, writer):
    writer.write_timeout_ms = 1

    def fill():
        with writer.frame(100) as view:
            view[0] = 1

    with Busy(fill, fill, fill, lambda: reader.read_frames(100, 1)):
        for _ in range(FORKS):
            fork(lambda: writer.write_frame(b"x"), fill, writer.discard_frame, writer.close, reader.close)


def test_while_tasks_read(reader, writer):
    async def read():
        await asyncio.gather(*(reader.read_frame_async(1) for _ in range(5)))

    with Busy(lambda: asyncio.run(read()), lambda: writer.write_frame(b"x")):
        for _ in range(FORKS):
            fork(reader.try_read_frame, lambda: reader.read_frame(1), lambda: reader.read_frames(5, 0), reader.close)


def test_while_threads_fill_requests(name):
    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        server.start(bytes)
        with DuplexChannelFactory().create_client(name, request_timeout_ms=1, response_config=CONFIG) as client:

            def call():
                client.acquire_request_buffer(10)[1][0] = 1
                client.call_acquired(100).release()

            with Busy(call, call, lambda: client.call(b"x", 100).release()):
                for _ in range(FORKS):
                    fork(call, client.discard_request, lambda: client.send_request(b"x"), client.close, server.stop)


def test_a_child_has_locks_of_its_own(name, reader):
    """What a child makes works, though its parent's threads wait for theirs."""

    def stream():
        with zerobuffer.Reader(f"{name}-{os.getpid()}", CONFIG) as reader:
            with zerobuffer.Writer(reader.name) as writer:
                threads = [threading.Thread(target=lambda: writer.write_frame(b"x")) for _ in range(3)]
                for thread in threads:
                    thread.start()
                for _ in threads:
                    assert reader.read_frame(20_000).size == 1
                for thread in threads:
                    thread.join()

    poll = lambda: reader.read_frame(1)  # noqa: E731
    with Busy(poll, poll, poll):
        for _ in range(10):
            fork(stream)
