"""No Python code runs under a lock, be it a finaliser, a callback's end or a signal handler; and nothing waits long."""

import fcntl
import gc
import os
import re
import signal
import threading
import time
import weakref
from pathlib import Path

import pytest

import zerobuffer
from conftest import CONFIG, run_alone
from zerobuffer.duplex import DuplexChannelFactory

FINALISER = """
import gc, os, sys, time, zerobuffer
which, name = sys.argv[1:]
reader = zerobuffer.Reader(name, zerobuffer.BufferConfig(1024, 1 << 16))
writer = zerobuffer.Writer(name)
class Session:
    # In a cycle, so that the garbage collector finds it, and closes what it has.
    def __init__(self, handle):
        self.handle, self.self = handle, self
    def __del__(self):
        self.handle.close()
gc.disable()
def go(handle, call):
    gc.collect()
    Session(handle)
    gc.enable()
    gc.set_threshold(1)
    try:
        call()
    except zerobuffer.ZeroBufferError as error:
        print(type(error).__name__)
    gc.disable()
    gc.collect()
    print(handle.closed)
if which == "commit":
    go(writer, writer.commit_frame)
elif which == "metadata":
    writer.set_metadata(b"x")
    go(writer, lambda: writer.set_metadata(b"y"))
elif which == "write":
    go(writer, lambda: writer.write_frame(b""))
elif which == "acquire":
    go(writer, lambda: writer.acquire_frame_buffer(100))
elif which == "poll":
    writer.write_frame(b"x")
    go(reader, lambda: [reader.read_frame(0), reader.read_frame(0)])
elif which == "death":
    writer.close()
    assert reader.read_frame(1000).end_of_stream
    child = os.fork()
    if child == 0:
        zerobuffer.Writer(name).write_frame(b"x")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    reader.read_frame(1000)
    go(reader, lambda: reader.read_frame(1000))
"""


@pytest.mark.parametrize(
    "which, error",
    [
        ("commit", "InvalidStateError"),
        ("metadata", "MetadataAlreadyWrittenError"),
        ("write", "InvalidFrameSizeError"),
        ("acquire", None),
        ("poll", None),
        ("death", "WriterDeadError"),
    ],
)
def test_a_finaliser_may_close_the_handle_of_the_call_that_it_interrupts(name, which, error):
    code, said = run_alone(FINALISER, which, name, seconds=30)
    assert code == 0, said
    # Where the garbage collector runs within the call the handle is closed already.
    assert said in [f"{error}\nTrue", "ClosedError\nTrue", "True"]


CALLBACK = """
import sys
from zerobuffer.duplex import DuplexChannelFactory
which, name = sys.argv[1:]
server = DuplexChannelFactory().create_immutable_server(name)
class Callback:
    def __call__(self, argument):
        pass
    def __del__(self):
        getattr(server, which)(print)
        print("replaced", flush=True)
getattr(server, which)(Callback())
getattr(server, which)(print)
"""


@pytest.mark.parametrize("which", ["on_error", "on_init"])
def test_the_end_of_a_callback_may_set_another(name, which):
    assert run_alone(CALLBACK, which, name, seconds=30) == (0, "replaced")


def test_owners_of_servers_are_collected(name):
    class Service:
        def __init__(self, server):
            self.server = server
            server.on_error(self.failed)
            server.on_init(self.began)
            server.start(self.handle)

        def handle(self, frame):
            return bytes(frame)

        def failed(self, error):
            pass

        def began(self, metadata):
            pass

    for create in (DuplexChannelFactory().create_immutable_server, DuplexChannelFactory().create_mutable_server):
        service = Service(create(name, CONFIG))
        with DuplexChannelFactory().create_client(name) as client:
            client.call(b"x", 20_000).release()
        gone = weakref.ref(service)
        del service
        gc.collect()
        assert gone() is None


def locks():
    """The only files that may use a lock as it is: elsewhere closures that are `Send` keep Python code away from it."""
    for path in (Path(__file__).parents[1] / "src").rglob("*.rs"):
        if re.search(r"\bMutex\b|\bRwLock\b|\bRefCell\b", path.read_text()):
            yield path.name


def test_locks_are_used_in_three_places():
    assert sorted(locks()) == ["gate.rs", "lock.rs", "memory.rs"]


@pytest.fixture
def held(name):
    """Another process, as it were, holds the locks of the buffers' names."""
    os.makedirs("/tmp/zerobuffer", exist_ok=True)
    files = []
    for part in ("", "_request"):
        file = open(f"/tmp/zerobuffer/{name}{part}.lock", "w")
        os.chmod(file.name, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        files.append(file)
    yield
    for file in files:
        if os.path.exists(file.name):
            os.unlink(file.name)
        file.close()


class Alarm(Exception):
    pass


def raise_alarm(*_):
    raise Alarm


@pytest.mark.parametrize(
    "call",
    [
        lambda name: zerobuffer.Reader(name, CONFIG),
        lambda name: DuplexChannelFactory().create_immutable_server(name, CONFIG),
        lambda name: DuplexChannelFactory().create_mutable_server(name, CONFIG),
    ],
    ids=["reader", "immutable server", "mutable server"],
)
def test_signals_are_seen_while_a_name_is_locked(name, held, call):
    before = signal.signal(signal.SIGALRM, raise_alarm)
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            call(name)
        assert time.monotonic() - start < 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_nothing_waits_for_a_server_that_is_being_started(name):
    server = DuplexChannelFactory().create_immutable_server(name, CONFIG)
    # After a stop the request buffer is made by the start.
    server.stop()
    os.makedirs("/tmp/zerobuffer", exist_ok=True)
    with open(f"/tmp/zerobuffer/{name}_request.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcome = []

        def start():
            try:
                server.start(bytes)
                outcome.append("started")
            except zerobuffer.ZeroBufferError as error:
                outcome.append(type(error))

        thread = threading.Thread(target=start)
        thread.start()
        longest = 0
        while thread.is_alive():
            before = time.monotonic()
            assert not server.is_running or outcome
            server.set_pool_size(3)
            longest = max(longest, time.monotonic() - before)
        os.unlink(file.name)
    thread.join()
    server.stop()
    assert longest < 1
