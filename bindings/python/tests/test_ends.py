"""Ends of streams in batches, answers that coroutines owe, and forked children."""

import asyncio
import os
import signal
import threading
import time

import pytest

import zerobuffer
from conftest import CONFIG
from zerobuffer.duplex import DuplexChannelFactory

BESIDE_THREADS = pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")


@BESIDE_THREADS
@pytest.mark.parametrize("dies", [False, True], ids=["closes", "dies"])
@pytest.mark.parametrize("count, most", [(1, 100), (2, 100), (3, 100), (2, 2), (2, 3)])
def test_a_batch_leaves_the_end_to_the_next_call(name, reader, dies, count, most):
    child = os.fork()
    if child == 0:
        writer = zerobuffer.Writer(name)
        for _ in range(count):
            writer.write_frame(b"x")
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    got = []
    while len(got) < count:
        frames = reader.read_frames(most, 5000)
        assert frames and all(frame.is_valid for frame in frames)
        got += frames
    if dies:
        with pytest.raises(zerobuffer.WriterDeadError):
            reader.read_frames(most, 5000)
    else:
        (end,) = reader.read_frames(most, 5000)
        assert end.end_of_stream
    assert reader.read_frames(most, 0) == []


class Outcome(BaseException):
    pass


@pytest.mark.parametrize("how", ["base exception", "generator exit", "cancelled at once", "cancelled later", "not awaitable"])
def test_a_coroutine_that_ends_oddly_fails_its_request_at_once(name, how):
    async def handler(frame):
        if how == "base exception":
            raise Outcome("odd")
        if how == "generator exit":
            raise GeneratorExit
        await asyncio.sleep(20)
        return b"late"

    def cancel_handlers(own):
        return [task.cancel() for task in asyncio.all_tasks() if task is not own]

    async def main():
        loop, own = asyncio.get_running_loop(), asyncio.current_task()
        loop.set_exception_handler(lambda loop, context: None)
        with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
            await server.start_async((lambda frame: 5) if how == "not awaitable" else handler)
            outcome = []

            def call():
                with DuplexChannelFactory().create_client(name, response_config=CONFIG) as client:
                    try:
                        outcome.append(bytes(client.call(b"x", 10_000)))
                    except zerobuffer.ZeroBufferError as error:
                        outcome.append(type(error))

            thread = threading.Thread(target=call)
            start = time.monotonic()
            thread.start()
            while thread.is_alive():
                if how == "cancelled at once":
                    cancel_handlers(own)
                    await asyncio.sleep(0)
                elif how == "cancelled later":
                    await asyncio.sleep(0.05)
                    cancel_handlers(own)
                else:
                    await asyncio.sleep(0.001)
            assert outcome == [zerobuffer.RequestFailedError]
            assert time.monotonic() - start < 5

    asyncio.run(main())


def test_a_loop_that_ends_fails_the_requests_of_its_handlers(name):
    outcome, started = [], threading.Event()

    async def handler(frame):
        started.set()
        await asyncio.sleep(20)

    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        with DuplexChannelFactory().create_client(name, response_config=CONFIG) as client:

            def call():
                try:
                    client.call(b"x", 10_000)
                except zerobuffer.ZeroBufferError as error:
                    outcome.append(type(error))

            thread = threading.Thread(target=call)

            async def main():
                await server.start_async(handler)
                thread.start()
                while not started.is_set():
                    await asyncio.sleep(0.001)

            start = time.monotonic()
            asyncio.run(main())
            thread.join()
            assert outcome == [zerobuffer.RequestFailedError]
            assert time.monotonic() - start < 5


def in_child(call):
    """Runs `call` in a forked child; returns what it says. One that hangs is killed."""
    end, begin = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        os.close(end)
        try:
            said = call()
        except BaseException as error:
            said = type(error).__name__
        os.write(begin, str(said).encode())
        os._exit(0)
    os.close(begin)
    with open(end) as file:
        said = file.read()
    status = os.waitpid(child, 0)[1]
    assert status == 0, "the child hung" if status == signal.SIGALRM else status
    return said


@BESIDE_THREADS
def test_a_child_is_refused_though_a_thread_of_its_parent_reads(name):
    reader = zerobuffer.Reader(name, CONFIG)
    ended = []

    def read():
        try:
            reader.read_frame(None)
        except zerobuffer.ClosedError:
            ended.append(True)

    thread = threading.Thread(target=read)
    thread.start()
    # The thread waits, and has the reader.
    time.sleep(0.2)
    for call in [
        lambda: reader.read_frame(0),
        lambda: reader.read_frame(1000),
        reader.try_read_frame,
        lambda: reader.read_frames(3, 0),
        lambda: next(reader),
        reader.is_writer_connected,
        lambda: reader.is_writer_connected(1000),
        reader.get_metadata,
        lambda: asyncio.run(reader.read_frame_async(0)),
        lambda: asyncio.run(reader.read_frame_async(1000)),
    ]:
        assert in_child(call) == "InvalidStateError"
    assert in_child(reader.close) == "None"
    assert not ended
    reader.close()
    thread.join()
    assert ended


@BESIDE_THREADS
def test_a_child_may_close_what_its_parents_threads_use(name, reader):
    writer = zerobuffer.Writer(name, write_timeout_ms=None)
    writer.write_frame(bytes(1_000_000))
    thread = threading.Thread(target=lambda: writer.write_frame(bytes(500_000)))
    thread.start()
    time.sleep(0.2)
    assert in_child(writer.close) == "None"
    assert in_child(lambda: writer.write_frame(b"x")) == "InvalidStateError"
    assert in_child(lambda: writer.try_write_frame(b"x")) == "InvalidStateError"
    reader.read_frame().release()
    thread.join()
    writer.close()
    assert reader.read_frame(5000).size == 500_000
    with DuplexChannelFactory().create_immutable_server(name + "-d", CONFIG) as server:
        server.start(lambda frame: time.sleep(0.5) or b"answer")
        with DuplexChannelFactory().create_client(name + "-d", response_config=CONFIG) as client:
            got = []
            thread = threading.Thread(target=lambda: got.append(bytes(client.call(b"x", 20_000))))
            thread.start()
            time.sleep(0.1)
            assert in_child(client.close) == "None"
            assert in_child(lambda: client.call(b"x", 1000)) == "InvalidStateError"
            thread.join()
            assert got == [b"answer"]


def test_a_servers_end_can_be_waited_for(name):
    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        assert server.wait()
        within = []

        def handler(frame):
            within.append(server.wait())
            return b"done"

        server.start(handler)
        assert not server.wait(60) and not server.wait(0)
        with DuplexChannelFactory().create_client(name, response_config=CONFIG) as client:
            assert bytes(client.call(b"x", 20_000)) == b"done"
        # A thread of the server cannot wait for itself.
        assert within == [False]
        timer = threading.Timer(0.1, server.stop)
        timer.start()
        assert server.wait()
        timer.join()


def test_the_death_of_a_client_is_told(name, script):
    errors, told = [], threading.Event()
    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        server.on_error(lambda error: (errors.append(error), told.set()))
        server.start(bytes)
        lines = """
            import os, sys
            from zerobuffer.duplex import DuplexChannelFactory
            client = DuplexChannelFactory().create_client(sys.argv[1])
            client.call(b"x").release()
            os.kill(os.getpid(), 9)
        """
        script(lines, name).process.wait(60)
        assert told.wait(20)
        assert type(errors[0]) is zerobuffer.WriterDeadError and errors[0].buffer == name
