"""Calls of asyncio: the event loop reads the responses, for any number of clients, without a thread for any of them."""

import asyncio
import contextlib
import os
import threading
import time

import pytest

import zerobuffer
from conftest import CONFIG, many_files, thread_count
from zerobuffer.duplex import ProcessingMode

SECONDS_20 = 20_000

#: Servers in a process of their own.
ECHO = """
    import sys
    from zerobuffer import BufferConfig
    from zerobuffer.duplex import DuplexChannelFactory, ProcessingMode
    config = BufferConfig(metadata_size=1024, payload_size=65536)
    servers = [DuplexChannelFactory().create_immutable_server(name, config) for name in sys.argv[1:]]
    def handler(frame):
        if bytes(frame) == b"die":
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        return bytes(frame).upper()
    for server in servers:
        server.start(handler)
    print("serving", flush=True)
    sys.stdin.readline()
    for server in servers:
        server.stop()
"""


def test_many_clients_call_without_a_thread_for_any_of_them(factory, name, script, run):
    names = [f"{name}-{number}" for number in range(60)]

    async def main(clients):
        async def talk(client, number):
            for turn in range(30):
                word = f"{number} {turn} x".encode()
                with await client.call_async(word, SECONDS_20) as response:
                    assert bytes(response) == word.upper()

        await talk(clients[0], 0)
        before = thread_count()
        await asyncio.gather(*(talk(client, number) for number, client in enumerate(clients) for _ in range(2)))
        # One for each 127 descriptors was there before.
        assert thread_count() == before

    with many_files(2000), contextlib.ExitStack() as stack:
        server = script(ECHO, *names)
        assert server.hear() == "serving"
        clients = [stack.enter_context(factory.create_client(each)) for each in names]
        run(main(clients))
        server.tell()
        server.end()


def test_a_loop_that_waits_for_a_response_does_not_wake(serve, client_of, run, monkeypatch):
    release = threading.Event()
    serve(lambda frame: release.wait(20) and b"late" or b"")
    client = client_of()
    looks = []
    look = zerobuffer._aio._Calls._look
    monkeypatch.setattr(zerobuffer._aio._Calls, "_look", lambda calls: looks.append(look(calls)))

    async def main():
        call = asyncio.create_task(client.call_async(b"x", SECONDS_20))
        await asyncio.sleep(0.3)
        waiting = len(looks)
        await asyncio.sleep(0.5)
        assert len(looks) == waiting > 0
        release.set()
        assert bytes(await call) == b"late"

    run(main())


def test_calls_are_cancelled_late_and_answered_side_by_side(channel, factory, client_of, run):
    begun, ended = [], []

    def handler(frame):
        if bytes(frame) != b"slow":
            return bytes(frame)
        begun.append(frame.sequence)
        until = time.monotonic() + 20
        while not frame.is_cancelled and time.monotonic() < until:
            time.sleep(0.001)
        ended.append(frame.is_cancelled)
        return b""

    async def main():
        client = client_of()
        slow = [asyncio.create_task(client.call_async(b"slow", SECONDS_20)) for _ in range(3)]
        while len(begun) < 3:
            await asyncio.sleep(0.001)
        late = [asyncio.create_task(client.call_async(b"slow", 150)) for _ in range(3)]
        quick = [await client.call_async(f"{n}".encode(), SECONDS_20) for n in range(20)]
        assert [bytes(response) for response in quick] == [f"{n}".encode() for n in range(20)]
        begin = time.monotonic()
        outcomes = await asyncio.gather(*late, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {zerobuffer.DeadlineExceededError}
        assert time.monotonic() - begin < 10
        for task in slow:
            task.cancel()
        outcomes = await asyncio.gather(*slow, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
        assert bytes(await client.call_async(b"after", SECONDS_20)) == b"after"

    with factory.create_immutable_server(channel, CONFIG) as server:
        server.set_pool_size(8)
        server.start(handler, ProcessingMode.THREAD_POOL)
        run(main())
        until = time.monotonic() + 20
        while len(ended) < len(begun) and time.monotonic() < until:
            time.sleep(0.01)
        assert len(ended) == len(begun) >= 3 and all(ended)


def test_a_dead_server_ends_all_calls_at_once(factory, channel, script, run):
    async def main(client):
        with await client.call_async(b"x", SECONDS_20) as response:
            assert bytes(response) == b"X"
        begin = time.monotonic()
        words = [b"die"] + [b"never"] * 20
        outcomes = await asyncio.gather(*(client.call_async(word, None) for word in words), return_exceptions=True)
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds <= {zerobuffer.WriterDeadError, zerobuffer.ReaderDeadError}, outcomes
        assert time.monotonic() - begin < 10
        with pytest.raises((zerobuffer.WriterDeadError, zerobuffer.ReaderDeadError)):
            await client.call_async(b"again", SECONDS_20)

    server = script(ECHO, channel)
    assert server.hear() == "serving"
    with factory.create_client(channel) as client:
        run(main(client))


def test_a_server_that_dies_before_it_has_answered_anything_ends_all_calls(factory, channel, script, run):
    async def main(client):
        outcomes = await asyncio.gather(*(client.call_async(b"die", None) for _ in range(3)), return_exceptions=True)
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds <= {zerobuffer.WriterDeadError, zerobuffer.ReaderDeadError}, outcomes

    server = script(ECHO, channel)
    assert server.hear() == "serving"
    with factory.create_client(channel) as client:
        run(main(client))


def test_a_client_that_is_closed_ends_its_calls(serve, client_of, run):
    release = threading.Event()
    serve(lambda frame: release.wait(20) and b"" or b"")
    client = client_of()

    async def main():
        calls = [asyncio.create_task(client.call_async(b"x", None)) for _ in range(5)]
        await asyncio.sleep(0.05)
        threading.Thread(target=client.close).start()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {zerobuffer.ClosedError}
        with pytest.raises(zerobuffer.ClosedError):
            await client.call_async(b"x", None)

    run(main())
    release.set()


def test_calls_that_find_no_space_wait_for_it(channel, factory, run):
    config = zerobuffer.BufferConfig(metadata_size=1024, payload_size=16384)

    def handler(frame):
        time.sleep(0.001)
        return bytes(frame)[:8]

    async def main(client):
        words = [f"{number:08}".encode() * 500 for number in range(60)]
        responses = await asyncio.gather(*(client.call_async(word, SECONDS_20) for word in words))
        assert [bytes(response) for response in responses] == [word[:8] for word in words]

    with factory.create_immutable_server(channel, config) as server:
        server.start(handler)
        with factory.create_client(channel) as client:
            run(main(client))


def test_two_loops_and_threads_share_a_client(serve, client_of):
    serve(bytes, ProcessingMode.THREAD_POOL)
    client = client_of()
    failures = []
    turns = 2000 if os.environ.get("ZEROBUFFER_FULL") else 300

    async def talk(number):
        async def one(task):
            for turn in range(turns):
                word = f"{number} {task} {turn}".encode()
                with await client.call_async(word, SECONDS_20) as response:
                    assert bytes(response) == word

        await asyncio.gather(*(one(task) for task in range(3)))

    def loop(number):
        try:
            asyncio.run(talk(number))
        except BaseException as error:
            failures.append(error)

    def block(number):
        try:
            for turn in range(turns):
                word = f"thread {number} {turn}".encode()
                with client.call(word, SECONDS_20) as response:
                    assert bytes(response) == word
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(2)]
    threads += [threading.Thread(target=block, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_calls_begin_while_a_thread_blocks_in_the_client(serve, client_of, run):
    serve(bytes)
    client = client_of()
    ends = []

    def receive():
        try:
            client.receive_response(None)
        except zerobuffer.ClosedError as error:
            ends.append(error)

    async def main():
        begin = time.monotonic()
        for number in range(10):
            word = f"{number}".encode()
            assert bytes(await client.call_async(word, SECONDS_20)) == word
        assert time.monotonic() - begin < 4

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.1)
    run(main())
    client.close()
    thread.join()
    assert len(ends) == 1


def test_a_loop_that_ends_leaves_its_calls(serve, client_of, run):
    release = threading.Event()
    serve(lambda frame: b"quick" if bytes(frame) == b"quick" else (release.wait(20) and b"" or b""), ProcessingMode.THREAD_POOL)
    client = client_of()

    async def leave():
        asyncio.create_task(client.call_async(b"x", None))
        await asyncio.sleep(0.05)

    async def call():
        assert bytes(await client.call_async(b"quick", SECONDS_20)) == b"quick"

    run(leave())
    run(call())
    run(leave())
    release.set()
    run(call())
