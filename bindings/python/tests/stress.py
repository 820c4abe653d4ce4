"""Random calls by eight threads that share readers, writers, a server and a client; see test_stress.py.

`python stress.py NAME SEED SECONDS`: runs for so long, or ends sooner, at a random moment, with threads in the middle of
calls. Prints nothing and exits with 0, whatever happens; anything else is a fault.
"""

import asyncio
import contextlib
import faulthandler
import gc
import io
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings

import zerobuffer
from zerobuffer.duplex import DuplexChannelFactory, ProcessingMode

NAME, SEED, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
THREADS = 8
CONFIG = zerobuffer.BufferConfig(256, 1 << 14)
#: The share of forks.
FORKS = 0.05

#: What calls on closed, busy or dead things may raise. A forked child's writer may have been taken over by its parent.
EXPECTED = (zerobuffer.ZeroBufferError, ValueError, BufferError)

factory = DuplexChannelFactory()
failures = []
#: The objects that all threads use, replaced at any time.
shared = {}


class Alarm(Exception):
    """Raised by the signal handler in the middle of calls."""


class Session:
    """In a cycle, and closes what it has when the garbage collector finds it."""

    def __init__(self, handle):
        self.handle, self.self = handle, self

    def __del__(self):
        with contextlib.suppress(Exception):
            self.handle.close()


class Service:
    """An owner whose methods are its server's callbacks."""

    def __init__(self, mode, in_place):
        self.server = factory.create_immutable_server(f"{NAME}-d", CONFIG)
        self.server.on_error(self.failed)
        self.server.on_init(self.began)
        self.server.set_pool_size(2)
        if in_place:
            self.server.start_in_place(self.fill, mode)
        else:
            self.server.start(self.handle, mode)

    def handle(self, frame):
        if frame.size % 7 == 0:
            raise KeyError("unlucky")
        return frame if frame.size % 2 else bytes(frame)

    def fill(self, frame, response):
        if frame.size % 7 == 0:
            raise KeyError("unlucky")
        view = response.acquire(frame.size)
        view[:] = frame.data
        if frame.size % 3:
            response.commit()
        elif frame.size % 2:
            self.response = response

    def failed(self, error):
        self.error = error

    def began(self, metadata):
        # The collector may have taken the attributes of an owner that nothing refers to any more.
        with contextlib.suppress(AttributeError):
            self.server.on_init(lambda metadata: None)


def reader(rng):
    return shared.get(("reader", rng.randrange(2)))


def writer(rng):
    return shared.get(("writer", rng.randrange(2)))


def data(rng):
    size = rng.choice([1, 7, 64, 200, 3000])
    return rng.choice([bytes, bytearray])(size)


def open_reader(rng):
    number = rng.randrange(2)
    shared["reader", number] = zerobuffer.Reader(f"{NAME}-{number}", CONFIG)


def open_writer(rng):
    number = rng.randrange(2)
    shared["writer", number] = zerobuffer.Writer(f"{NAME}-{number}", write_timeout_ms=rng.choice([0, 5, 50]))


def close(rng):
    handle = shared.get(rng.choice([("reader", 0), ("reader", 1), ("writer", 0), ("writer", 1), ("client", 0)]))
    if rng.random() < 0.3 and hasattr(handle, "interrupt"):
        handle.interrupt()
    else:
        handle.close()


def read(rng):
    frame = reader(rng).read_frame(rng.choice([0, 0, 1, 20]))
    kind = rng.randrange(5)
    if frame.is_valid and kind == 0:
        view = frame.data
        frame.release()
        assert len(bytes(view)) == frame.size
    elif kind == 1:
        reader(rng).release_frame(frame)
    elif kind == 2:
        writer(rng).write_frame(frame)
    elif kind == 3:
        io.BytesIO(b"x").readinto(frame)


def read_more(rng):
    reader(rng).read_frames(rng.randrange(5), rng.choice([0, 5]))
    reader(rng).is_writer_connected(rng.choice([None, 0, 3]))
    reader(rng).get_metadata()
    reader(rng).try_read_frame().release()


def write(rng):
    one = writer(rng)
    kind = rng.randrange(5)
    if kind == 0:
        one.write_frames(data(rng) for _ in range(5))
    elif kind == 1:
        one.try_write_frame(data(rng))
    elif kind == 2:
        one.set_metadata(b"metadata")
    else:
        one.write_frame(data(rng))


def fill(rng):
    one = writer(rng)
    if rng.random() < 0.5:
        with one.frame(rng.choice([1, 100])) as view:
            view[0] = 1
            if rng.random() < 0.1:
                raise ValueError
        return
    view = one.acquire_frame_buffer(100)
    part = view[3:]
    kind = rng.randrange(4)
    if kind == 0:
        one.commit_frame(50)
    elif kind == 1:
        one.discard_frame()
        one.write_frame(part)
    elif kind == 2:
        one.commit_frame(101)


def serve(rng):
    shared["service"] = None
    shared["service"] = Service(rng.choice(list(ProcessingMode)), rng.random() < 0.5)


def stop(rng):
    service = shared.get("service")
    if service is not None:
        service.server.stop()


def connect(rng):
    shared["client", 0] = factory.create_client(f"{NAME}-d", request_timeout_ms=20, response_config=CONFIG)


def call(rng):
    client = shared.get(("client", 0))
    kind = rng.randrange(6)
    if kind == 0:
        client.cancel_request(client.send_request(data(rng)))
    elif kind == 1:
        client.receive_response(rng.choice([0, 5]))
    elif kind == 2:
        _, view = client.acquire_request_buffer(10)
        view[0] = 1
        if rng.random() < 0.5:
            client.call_acquired(20)
        elif rng.random() < 0.5:
            client.commit_request()
    elif kind == 3:
        client.set_metadata(b"x")
    else:
        client.call(data(rng), 30).release()


def collect(rng):
    Session(shared.get(rng.choice([("reader", 0), ("writer", 1)])))
    if rng.random() < 0.2:
        gc.collect()


def fork(rng):
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        for action in (read, write, fill, call, read_more):
            with contextlib.suppress(*EXPECTED, AttributeError, TypeError):
                action(rng)
        for handle in list(shared.values()):
            if hasattr(handle, "close"):
                handle.close()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status != 0:
        failures.append(f"a forked child ended with {status}")


async def tasks(rng):
    async def one():
        with contextlib.suppress(*EXPECTED, AttributeError, TypeError):
            if rng.random() < 0.3:
                await shared.get(("client", 0)).call_async(data(rng), 30)
            else:
                await reader(rng).read_frame_async(rng.choice([0, 1, 10, None]))

    running = [asyncio.ensure_future(one()) for _ in range(5)]
    await asyncio.sleep(rng.random() * 0.01)
    rng.shuffle(running)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def run_tasks(rng):
    asyncio.run(tasks(rng))


ACTIONS = [open_reader] * 3 + [open_writer] * 3 + [close] + [read] * 6 + [read_more] * 2 + [write] * 6 + [fill] * 4
ACTIONS += [serve, stop, connect, connect] + [call] * 5 + [collect] + [run_tasks] * 2


def act(action, rng):
    try:
        action(rng)
    except EXPECTED:
        pass
    except (AttributeError, TypeError) as error:
        # None, where there is no such object now, and a frame that is not writable.
        if "NoneType" not in str(error) and "read-write" not in str(error):
            failures.append(traceback.format_exc())
    except Alarm:
        pass
    except BaseException:
        failures.append(traceback.format_exc())


can_be_disturbed = False


def disturbed(action, rng):
    """Acts, while the signal handler may raise."""
    global can_be_disturbed
    try:
        # Event loops that are disturbed while they are made print warnings of their own.
        can_be_disturbed = action not in (fork, run_tasks)
        act(action, rng)
        can_be_disturbed = False
    except Alarm:
        can_be_disturbed = False


def work(seed, until):
    rng = random.Random(seed)
    while time.monotonic() < until and not failures:
        act(rng.choice(ACTIONS), rng)


def on_alarm(*_):
    rng = random.Random()
    act(rng.choice([close, read, write]), rng)
    if can_be_disturbed and rng.random() < 0.3:
        raise Alarm


def unraisable(what):
    # Of a finaliser that the signal handler has disturbed.
    if not isinstance(what.exc_value, (Alarm, *EXPECTED)):
        sys.__unraisablehook__(what)


def main():
    sys.unraisablehook = unraisable
    faulthandler.dump_traceback_later(SECONDS + 60, exit=True)
    warnings.simplefilter("ignore")
    rng = random.Random(SEED)
    gc.set_threshold(1)
    signal.signal(signal.SIGALRM, on_alarm)
    until = time.monotonic() + SECONDS
    in_the_middle = rng.random() < 0.6
    threads = [
        threading.Thread(target=work, args=(SEED * 100 + n, until), daemon=in_the_middle) for n in range(THREADS - 1)
    ]
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.013)
    for thread in threads:
        thread.start()
    end = time.monotonic() + rng.random() * SECONDS if in_the_middle else until
    while time.monotonic() < end and not failures:
        # Only the main thread forks: the others' locks are Python's own affair.
        disturbed(fork if rng.random() < FORKS else rng.choice(ACTIONS), rng)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    if not in_the_middle:
        for thread in threads:
            thread.join()
    if failures:
        print(*failures, sep="\n", flush=True)
        os._exit(1)


if __name__ == "__main__":
    import logging

    logging.getLogger("zerobuffer").addHandler(logging.NullHandler())
    logging.getLogger("zerobuffer").propagate = False
    logging.getLogger("asyncio").disabled = True
    main()
