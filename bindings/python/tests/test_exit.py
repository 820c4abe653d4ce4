"""The interpreter's end: it waits for what calls Python, closes everything, and says nothing."""

import gc

import pytest

from conftest import leftovers, run_alone

START = """
import logging, os, sys, threading, time, zerobuffer
from zerobuffer.duplex import DuplexChannelFactory, ImmutableDuplexServer, ProcessingMode
name, factory, config = sys.argv[1], DuplexChannelFactory(), zerobuffer.BufferConfig(1024, 1 << 16)
logging.getLogger("zerobuffer").addHandler(logging.NullHandler())
started = threading.Event()
def work():
    started.set()
    until = time.monotonic() + 0.5
    # Python code all the time, not one long wait.
    while time.monotonic() < until:
        sum(range(100))
    print("worked", flush=True)
def handler(frame):
    work()
    return b""
"""

#: Each leaves a callback running when the main thread is done.
BUSY = {
    "handler": """
server = factory.create_immutable_server(name, config)
server.start(handler)
client = factory.create_client(name)
client.send_request(b"x")
started.wait()
""",
    "pool": """
server = factory.create_immutable_server(name, config)
server.start(handler, ProcessingMode.THREAD_POOL)
client = factory.create_client(name)
client.send_request(b"x")
started.wait()
""",
    "mutable server": """
server = factory.create_mutable_server(name, config)
server.start(handler)
client = factory.create_client(name)
client.send_request(b"x")
started.wait()
""",
    "on_init": """
server = factory.create_immutable_server(name, config)
server.on_init(lambda metadata: work())
server.start(bytes)
client = factory.create_client(name)
client.set_metadata(b"x")
client.send_request(b"x")
started.wait()
""",
    "on_error": """
server = factory.create_immutable_server(name, config)
server.on_error(lambda error: work())
server.start(lambda frame: None)
client = factory.create_client(name)
client.send_request(b"x")
started.wait()
""",
    "server that was dropped": """
server = factory.create_immutable_server(name, config)
server.start(handler)
client = factory.create_client(name)
client.send_request(b"x")
started.wait()
del server
""",
    "subclass": """
class Server(ImmutableDuplexServer):
    def __init__(self, *arguments):
        pass
server = Server(name, config)
server.start(handler)
client = factory.create_client(name)
client.send_request(b"x")
started.wait()
""",
}


@pytest.mark.parametrize("what", BUSY)
def test_the_end_waits_for_every_callback(name, what):
    assert run_alone(START + BUSY[what], name) == (0, "worked")
    gc.collect()
    assert not leftovers(name)


#: Each leaves a daemon thread in a call.
DAEMONS = {
    "reads": """
reader = zerobuffer.Reader(name, config)
work = lambda: reader.read_frame(None)
""",
    "reads again and again": """
reader = zerobuffer.Reader(name, config)
def work():
    while True:
        reader.read_frame(1)
""",
    "iterates": """
reader = zerobuffer.Reader(name, config)
work = lambda: list(reader)
""",
    "waits for space": """
reader = zerobuffer.Reader(name, config)
writer = zerobuffer.Writer(name, write_timeout_ms=None)
def work():
    while True:
        writer.write_frame(bytes(5000))
""",
    "writes what a generator makes": """
reader = zerobuffer.Reader(name, config)
writer = zerobuffer.Writer(name, write_timeout_ms=None)
def frames():
    while True:
        reader.read_frame(0)
        sum(range(1000))
        yield b"x"
work = lambda: writer.write_frames(frames())
""",
    "connects": """
work = lambda: zerobuffer.Writer(name, connect_timeout_ms=None)
""",
    "calls": """
server = factory.create_immutable_server(name, config)
client = factory.create_client(name, response_config=config)
work = lambda: client.call(b"x", None)
""",
    "opens and closes": """
def work():
    while True:
        with zerobuffer.Reader(name, config) as reader, zerobuffer.Writer(name) as writer:
            writer.write_frame(b"x")
            reader.read_frame().release()
""",
    "serves": """
def work():
    while True:
        with factory.create_immutable_server(name, config) as server:
            server.start(bytes)
            with factory.create_client(name, response_config=config) as client:
                client.call(b"x")
""",
    "writes logs": """
logging.basicConfig(level=logging.DEBUG, stream=open(os.devnull, "w"))
def work():
    while True:
        with zerobuffer.Reader(name, config):
            pass
""",
}


@pytest.mark.parametrize("what", DAEMONS)
def test_daemon_threads_end_silently_and_leave_nothing(name, what):
    lines = START + DAEMONS[what] + "threading.Thread(target=work, daemon=True).start()\ntime.sleep(float(sys.argv[2]))\n"
    for n in range(4):
        assert run_alone(lines, name, 0.05 + 0.013 * n) == (0, ""), n
        assert not leftovers(name)


def test_the_end_of_a_handler_may_still_write(name):
    """Handlers come to their end before readers and writers are closed."""
    lines = START + """
out = zerobuffer.Reader(name + "-out", config)
writer = zerobuffer.Writer(name + "-out")
def handler(frame):
    work()
    print("wrote", writer.write_frame(frame), flush=True)
    return b""
server = factory.create_immutable_server(name, config)
server.start(handler)
client = factory.create_client(name)
client.send_request(b"x")
started.wait()
"""
    assert run_alone(lines, name) == (0, "worked\nwrote 1")


def test_other_exit_functions_may_use_what_they_open(name):
    """Those that were registered earlier run later."""
    lines = """
import atexit, sys
def late():
    import zerobuffer
    with zerobuffer.Reader(sys.argv[1]) as reader, zerobuffer.Writer(sys.argv[1]) as writer:
        writer.write_frame(b"x")
        print(bytes(reader.read_frame()))
    try:
        early.read_frame()
    except zerobuffer.ClosedError:
        print("closed")
atexit.register(late)
import zerobuffer
early = zerobuffer.Reader(sys.argv[1] + "-early")
"""
    assert run_alone(lines, name) == (0, "b'x'\nclosed")
    assert not leftovers(name)


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
def create():
    for arguments in [("legacy",), ()]:
        try:
            return interpreters.create(*arguments)
        except TypeError:
            pass
    return interpreters.create(isolated=False)
lines = '''
try:
    import zerobuffer
except ImportError as error:
    print("refused", "subinterpreter" in str(error), flush=True)
'''
def run():
    try:
        interpreters.run_string(create(), lines)
    except Exception as error:
        print(type(error), error)
run()
import zerobuffer
run()
try:
    zerobuffer.Writer(sys.argv[1])
except zerobuffer.BufferNotFoundError:
    print("caught")
"""


def test_a_subinterpreter_is_refused_and_does_no_harm(name):
    assert run_alone(SUBINTERPRETER, name) == (0, "refused True\nrefused True\ncaught")
