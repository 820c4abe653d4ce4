"""Shared by all tests: unique names, peers in separate processes, and checks that nothing is left behind."""

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import zerobuffer
from zerobuffer.duplex import DuplexChannelFactory, ProcessingMode

_numbers = itertools.count(1)

#: Removes what the tests' names have left when this process has ended, be it killed: then the pipe ends, and `cat` with it.
_CLEANER = "cat; rm -rf /dev/shm/*zbtest-py-$0-* /tmp/zerobuffer/*zbtest-py-$0-*"


def _clean_up_after_this_process():
    end, begin = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, end, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    arguments = ["sh", "-c", _CLEANER, str(os.getpid())]
    # A group of its own: a signal to that of the tests, as by Ctrl-C, is not for it.
    os.posix_spawnp("sh", arguments, os.environ, file_actions=actions, setpgroup=0)
    os.close(end)
    return begin


_clean_up_after_this_process()

# Where a shell runs the tests in its background, or nohup(1) does, these are ignored, and peers would inherit that.
for _number, _usual in [(signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)]:
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)

#: Small enough to be filled at once, large enough for every frame of the tests.
CONFIG = zerobuffer.BufferConfig(metadata_size=1024, payload_size=1 << 20)


def leftovers(part):
    """Files of buffers whose name contains `part`."""
    folders = [Path("/dev/shm"), Path("/tmp/zerobuffer")]
    return [path for folder in folders if folder.exists() for path in folder.iterdir() if part in path.name]


@pytest.fixture
def name():
    """A buffer's name that no other test has; what is left under it is a failure."""
    name = f"zbtest-py-{os.getpid()}-{next(_numbers)}"
    yield name
    gc.collect()
    left = leftovers(name)
    for path in left:
        path.unlink()
    assert not left


@pytest.fixture
def reader(name):
    with zerobuffer.Reader(name, CONFIG) as reader:
        yield reader


@pytest.fixture
def writer(reader):
    with zerobuffer.Writer(reader.name) as writer:
        yield writer


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """`asyncio.run`, and that of uvloop where it is installed."""
    if request.param == "asyncio":
        return asyncio.run
    return pytest.importorskip("uvloop").run


def thread_count():
    """All threads of the process, Python's and the core's."""
    return len(os.listdir("/proc/self/task"))


@contextlib.contextmanager
def many_files(count):
    """Allows this process so many open files meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def channel(name):
    return name


@pytest.fixture
def factory():
    return DuplexChannelFactory()


@pytest.fixture
def serve(channel, factory):
    """Makes and starts an immutable server; stops it at the end."""
    servers = []

    def start(handler, mode=ProcessingMode.SINGLE_THREAD, how="start"):
        server = factory.create_immutable_server(channel, CONFIG)
        getattr(server, how)(handler, mode)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def client_of(channel, factory):
    clients = []

    def connect(**options):
        clients.append(factory.create_client(channel, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


class Script:
    """A Python process that runs a few lines, told and asked by lines."""

    def __init__(self, lines, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(lines), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line=""):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self):
        return self.process.stdout.readline().strip()

    def end(self):
        """Waits for its end. Returns the rest of its output."""
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, output
        return output.strip()


def run_alone(lines, *arguments, seconds=60):
    """Runs a script to its end; returns its exit code and all that it said. One that hangs is a failure."""
    guard = "import faulthandler as _f\n_f.dump_traceback_later(%d, exit=True)\n" % (seconds - 10)
    done = subprocess.run(
        [sys.executable, "-c", guard + textwrap.dedent(lines), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    return done.returncode, done.stdout.strip()


@pytest.fixture
def script():
    """Starts scripts; whatever becomes of the test, they end."""
    scripts = []

    def start(lines, *arguments):
        scripts.append(Script(lines, *arguments))
        return scripts[-1]

    yield start
    for one in scripts:
        one.process.kill()
        one.process.communicate()
