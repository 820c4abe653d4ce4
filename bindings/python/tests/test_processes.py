"""Other processes: deaths, forks, spawns, signals, the interpreter's end, and what is left behind."""

import gc
import multiprocessing
import os
import signal
import threading
import time

import pytest

import zerobuffer
from conftest import CONFIG, leftovers

READER = """
    import sys, zerobuffer
    config = zerobuffer.BufferConfig(1024, 1 << 20)
    reader = zerobuffer.Reader(sys.argv[1], config)
"""
WRITER = """
    import sys, zerobuffer
    writer = zerobuffer.Writer(sys.argv[1], connect_timeout_ms=20000, write_timeout_ms=None)
"""


def test_frames_cross_processes(name, script, reader):
    peer = script(WRITER + "    writer.write_frames(bytes([n % 251]) * (n % 5000 + 1) for n in range(5000))\n", name)
    total = 0
    for frame in reader:
        with frame:
            n = frame.sequence - 1
            assert bytes(frame) == bytes([n % 251]) * (n % 5000 + 1)
            total += 1
    assert total == 5000
    peer.end()


def test_a_killed_writer_is_dead_after_its_last_frame(name, script, reader):
    peer = script(WRITER + "    writer.write_frame(b'last')\n    print('ready', flush=True)\n    sys.stdin.read()\n", name)
    assert peer.hear() == "ready"
    killer = threading.Timer(0.1, peer.process.kill)
    assert bytes(reader.read_frame(20_000)) == b"last"
    killer.start()
    with pytest.raises(zerobuffer.WriterDeadError) as caught:
        reader.read_frame(None)
    assert caught.value.buffer == name
    killer.join()
    assert not reader.is_writer_connected()


def test_a_killed_reader_is_dead_for_its_writer(name, script):
    peer = script(READER + "    print('ready', flush=True)\n    sys.stdin.read()\n", name)
    assert peer.hear() == "ready"
    writer = zerobuffer.Writer(name, write_timeout_ms=None)
    threading.Timer(0.1, peer.process.kill).start()
    with pytest.raises(zerobuffer.ReaderDeadError):
        while True:
            writer.write_frame(bytes(100_000))
    writer.close()


BLOCKED = {
    "read": READER + "    call = lambda: reader.read_frame(None)\n",
    "iterate": READER + "    call = lambda: list(reader)\n",
    "wait for a writer": READER + "    call = lambda: reader.is_writer_connected(-1)\n",
    "write": READER + WRITER + "    call = lambda: [writer.write_frame(bytes(1000)) for _ in range(5000)]\n",
    "write much": READER + WRITER + "    call = lambda: [writer.write_frame(bytes(500_000)) for _ in range(5)]\n",
    "acquire": READER + WRITER + "    writer.write_frame(bytes(1_000_000))\n    call = lambda: writer.acquire_frame_buffer(900_000)\n",
    "connect": "    import sys, zerobuffer\n    call = lambda: zerobuffer.Writer(sys.argv[1], connect_timeout_ms=None)\n",
    "call": """
    import sys, time, zerobuffer
    from zerobuffer.duplex import DuplexChannelFactory
    server = DuplexChannelFactory().create_immutable_server(sys.argv[1])
    client = DuplexChannelFactory().create_client(sys.argv[1])
    call = lambda: client.call(b"no answer", None)
""",
    "call in place": """
    import sys, time, zerobuffer
    from zerobuffer.duplex import DuplexChannelFactory
    server = DuplexChannelFactory().create_immutable_server(sys.argv[1])
    client = DuplexChannelFactory().create_client(sys.argv[1])
    client.acquire_request_buffer(10)
    call = lambda: client.call_acquired(20_000)
""",
    "receive": """
    import sys, time, zerobuffer
    from zerobuffer.duplex import DuplexChannelFactory
    server = DuplexChannelFactory().create_immutable_server(sys.argv[1])
    client = DuplexChannelFactory().create_client(sys.argv[1])
    call = lambda: client.receive_response(None)
""",
}


@pytest.mark.parametrize("what", BLOCKED)
def test_ctrl_c_ends_a_blocked_call_at_once(name, script, what):
    lines = BLOCKED[what] + """
    import time
    print("ready", flush=True)
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", time.monotonic(), flush=True)
    """
    peer = script(lines, name)
    assert peer.hear() == "ready"
    # Blocked, or about to be: either way the signal counts.
    time.sleep(0.2)
    sent = time.monotonic()
    peer.process.send_signal(signal.SIGINT)
    word, when = peer.hear().split()
    assert word == "interrupted"
    # At most 45 ms, on a machine that has a processor for it.
    assert float(when) - sent < 2
    peer.end()


def test_a_signal_handler_may_close_what_it_interrupts(name, script):
    lines = READER + """
    import signal
    signal.signal(signal.SIGUSR1, lambda *_: reader.close())
    print("ready", flush=True)
    try:
        reader.read_frame(None)
    except zerobuffer.ClosedError:
        print("closed", flush=True)
    """
    peer = script(lines, name)
    assert peer.hear() == "ready"
    peer.process.send_signal(signal.SIGUSR1)
    assert peer.hear() == "closed"
    peer.end()


def child_of_fork(reader, writer, frame, results):
    outcomes = [bytes(frame)]
    for call in [lambda: reader.read_frame(0), lambda: writer.write_frame(b"x"), lambda: reader.is_writer_connected(0)]:
        try:
            call()
            outcomes.append("worked")
        except zerobuffer.InvalidStateError:
            outcomes.append("refused")
    frame.release()
    reader.close()
    writer.close()
    results.put(outcomes)


#: From 3.12 on the interpreter warns of a fork beside threads; those of earlier tests may still be ending.
BESIDE_THREADS = pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")


@BESIDE_THREADS
def test_a_forked_child_can_look_but_not_touch(name, reader, writer):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    writer.write_frame(b"before the fork")
    frame = reader.read_frame()
    child = context.Process(target=child_of_fork, args=(reader, writer, frame, results))
    child.start()
    assert results.get() == [b"before the fork", "refused", "refused", "refused"]
    child.join()
    assert child.exitcode == 0
    # Nothing has been closed or removed.
    writer.write_frame(b"after it")
    assert bytes(reader.read_frame()) == b"after it"
    assert bytes(frame) == b"before the fork"
    assert leftovers(name)


def test_a_child_that_a_signal_handler_forks_leaves_the_call_to_its_parent(name, script):
    lines = """
    import os, signal, sys, time, warnings, zerobuffer
    from zerobuffer.duplex import DuplexChannelFactory
    warnings.simplefilter("ignore", DeprecationWarning)
    def handler(frame):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.3)
        return b"answer"
    children = []
    signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
    factory = DuplexChannelFactory()
    with factory.create_immutable_server(sys.argv[1]) as server, factory.create_client(sys.argv[1]) as client:
        server.start(handler)
        client.acquire_request_buffer(10)
        try:
            answer = bytes(client.call_acquired(20_000))
        except zerobuffer.InvalidStateError:
            os._exit(7)
        until = time.monotonic() + 20
        ended = (0, 0)
        while ended == (0, 0) and time.monotonic() < until:
            ended = os.waitpid(children[0], os.WNOHANG)
            time.sleep(0.01)
        if ended == (0, 0):
            os.kill(children[0], signal.SIGKILL)
        print(answer, ended[1] >> 8)
    """
    assert script(lines, name).end() == "b'answer' 7"


def test_a_forked_child_that_ends_leaves_server_and_client_to_its_parent(name, script):
    lines = """
    import os, signal, sys, warnings
    from zerobuffer.duplex import DuplexChannelFactory
    warnings.simplefilter("ignore", DeprecationWarning)
    factory = DuplexChannelFactory()
    server = factory.create_immutable_server(sys.argv[1])
    server.start(lambda request: bytes(request))
    client = factory.create_client(sys.argv[1])
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        # Where an error at the interpreter's end would be seen.
        sys.stderr = sys.stdout
        sys.exit(0)
    print(os.waitpid(child, 0)[1], bytes(client.call(b"alive")))
    """
    assert script(lines, name).end() == "0 b'alive'"


def forked_writer(name):
    with zerobuffer.Writer(name) as writer:
        writer.write_frames(f"{n}".encode() for n in range(500))


@BESIDE_THREADS
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_every_kind_write_and_clean_up(name, reader, method):
    child = multiprocessing.get_context(method).Process(target=forked_writer, args=(name,))
    child.start()
    assert [int(bytes(frame)) for frame in reader] == list(range(500))
    child.join()
    assert child.exitcode == 0


def test_handles_cannot_be_sent_to_other_processes(reader, writer):
    import pickle

    for handle in [reader, writer, reader.read_frame(0)]:
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(handle)


ENDS = {
    "daemon thread that reads": READER
    + "    import threading\n    threading.Thread(target=lambda: reader.read_frame(None), daemon=True).start()\n",
    "daemon thread of a client": """
    import sys, threading, zerobuffer
    from zerobuffer.duplex import DuplexChannelFactory
    server = DuplexChannelFactory().create_immutable_server(sys.argv[1])
    client = DuplexChannelFactory().create_client(sys.argv[1])
    threading.Thread(target=lambda: client.call(b"x", None), daemon=True).start()
    server.start(bytes)
    threading.Thread(target=lambda: client.receive_response(None), daemon=True).start()
""",
    "asyncio task that reads": READER
    + """
    import asyncio
    async def main():
        task = asyncio.ensure_future(reader.read_frame_async(None))
        await asyncio.sleep(0.05)
        task.cancel()
    asyncio.run(main())
""",
    "frame and views": READER
    + WRITER
    + "    writer.write_frame(b'x')\n    frame = reader.read_frame()\n    view = memoryview(frame)\n    own = writer.acquire_frame_buffer(5)\n",
    "running server": """
    import sys, zerobuffer
    from zerobuffer.duplex import DuplexChannelFactory
    server = DuplexChannelFactory().create_immutable_server(sys.argv[1])
    server.start(bytes)
    client = DuplexChannelFactory().create_client(sys.argv[1])
    client.call(b"x")
""",
    "busy server": """
    import sys, time, threading, zerobuffer
    from zerobuffer.duplex import DuplexChannelFactory
    started = threading.Event()
    def handler(frame):
        started.set()
        time.sleep(0.3)
        return b""
    server = DuplexChannelFactory().create_immutable_server(sys.argv[1])
    server.start(handler)
    client = DuplexChannelFactory().create_client(sys.argv[1])
    client.send_request(b"x")
    started.wait()
""",
}


@pytest.mark.parametrize("what", ENDS)
def test_the_interpreter_ends_in_good_order(name, script, what):
    peer = script(ENDS[what], name)
    assert peer.end() == ""
    gc.collect()
    assert not leftovers(name)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_hundred_thousand_frames_leak_nothing(name, reader, writer):
    np = pytest.importorskip("numpy")
    data = np.arange(100, dtype=np.uint8)

    def frames(count):
        for n in range(count):
            if n % 3:
                writer.write_frame(data)
            else:
                with writer.frame(100) as view:
                    view[:] = data
            frame = reader.read_frame()
            frame.as_numpy(np.uint8, (10, 10))
            frame.data
            if n % 2:
                reader.release_frame(frame)
            reader.read_frame(0)

    frames(20_000)
    gc.collect()
    before = (resident(), len(os.listdir("/proc/self/fd")), len(gc.get_objects()))
    frames(100_000)
    gc.collect()
    after = (resident(), len(os.listdir("/proc/self/fd")), len(gc.get_objects()))
    assert after[0] - before[0] < 4 << 20
    assert after[1] == before[1]
    assert after[2] - before[2] < 1000
    assert zerobuffer.inspect.snapshot(name).payload_free >= CONFIG.payload_size - 1000


def test_a_thousand_buffers_leak_nothing(name):
    def buffers(count):
        for n in range(count):
            reader = zerobuffer.Reader(name, CONFIG)
            writer = zerobuffer.Writer(name)
            writer.write_frame(b"x")
            view = memoryview(reader.read_frame())
            own = writer.acquire_frame_buffer(10)
            if n % 2:
                reader.close()
                writer.close()
            del reader, writer, own
            assert bytes(view) == b"x"

    def maps():
        with open("/proc/self/maps") as file:
            return sum("zbtest-" in line for line in file)

    buffers(50)
    before = (len(os.listdir("/proc/self/fd")), maps())
    buffers(1000)
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), maps()) == before
