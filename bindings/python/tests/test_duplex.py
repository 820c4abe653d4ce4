"""Duplex channels: servers, clients, failures, tasks."""

import asyncio
import gc
import threading
import time

import pytest

import zerobuffer
from conftest import CONFIG
from zerobuffer import duplex
from zerobuffer.duplex import DuplexChannelFactory, ProcessingMode

SECONDS_20 = 20_000


def test_the_words_asked_for_exist(channel, factory):
    assert DuplexChannelFactory.get_instance() is DuplexChannelFactory.get_instance()
    assert isinstance(factory, duplex.IDuplexChannelFactory)
    with factory.create_immutable_server(channel, CONFIG) as server, factory.create_client(channel) as client:
        assert isinstance(server, duplex.IImmutableDuplexServer) and isinstance(server, duplex.IDuplexServer)
        assert isinstance(client, duplex.IDuplexClient)
        assert (server.channel_name, client.channel_name, server.is_running) == (channel, channel, False)
    with factory.create_mutable_server(channel, CONFIG) as server:
        assert isinstance(server, duplex.IMutableDuplexServer)
    assert ProcessingMode("single_thread") is ProcessingMode.SINGLE_THREAD
    assert ProcessingMode("thread_pool") is ProcessingMode.THREAD_POOL
    for name in duplex.__all__:
        assert getattr(duplex, name).__doc__, name


def test_a_response_has_its_requests_number(serve, client_of):
    serve(lambda frame: bytes(frame.data).upper())
    client = client_of()
    assert client.is_server_connected
    sequence = client.send_request(b"hello")
    response = client.receive_response(timeout_ms=SECONDS_20)
    assert response.is_valid and response.sequence == sequence == 1
    with response:
        assert bytes(response.data) == b"HELLO"
    assert not client.receive_response(timeout_ms=20).is_valid
    sequence, view = client.acquire_request_buffer(4)
    view[:] = b"ping"
    client.commit_request()
    assert bytes(client.receive_response_to(sequence, SECONDS_20)) == b"PING"
    with client.call(bytearray(b"call"), SECONDS_20) as response:
        assert bytes(response) == b"CALL"


@pytest.mark.parametrize(
    "make",
    [bytes, bytearray, memoryview, lambda frame: frame, lambda frame: frame.as_numpy(), lambda frame: b""],
    ids=["bytes", "bytearray", "memoryview", "frame", "array", "nothing"],
)
@pytest.mark.parametrize("mode", ProcessingMode)
def test_a_handler_answers_with_any_buffer(serve, client_of, make, mode):
    pytest.importorskip("numpy")
    serve(make, mode)
    client = client_of()
    for size in [1, 200_000]:
        response = client.call(b"x" * size, SECONDS_20)
        assert response.is_valid
        assert bytes(response) in (b"x" * size, b"")
        response.release()


def test_a_mutable_server_changes_requests_in_place(channel, factory, client_of):
    np = pytest.importorskip("numpy")

    def invert(frame):
        array = frame.as_numpy()
        np.subtract(255, array, out=array)
        frame.data[0] = 7

    with factory.create_mutable_server(channel, CONFIG) as server:
        server.start(invert)
        assert server.is_running
        with client_of().call(bytes([0, 1, 255]), SECONDS_20) as response:
            assert bytes(response) == bytes([7, 254, 0])
            assert response.data.readonly
    assert not server.is_running


def test_a_failing_handler_is_told_to_its_client_and_the_server_goes_on(serve, client_of, caplog):
    def handler(frame):
        if bytes(frame) == b"bad":
            raise ValueError("not this one")
        return None if bytes(frame) == b"none" else b"good"

    errors = []
    server = serve(handler)
    server.on_error(errors.append)
    client = client_of()
    with pytest.raises(zerobuffer.RequestFailedError, match="ValueError: not this one") as caught:
        client.call(b"bad", SECONDS_20)
    assert caught.value.sequence == 1
    with pytest.raises(zerobuffer.RequestFailedError, match="bytes"):
        client.call(b"none", SECONDS_20)
    assert bytes(client.call(b"ok", SECONDS_20)) == b"good"
    assert [(type(error), error.sequence) for error in errors] == [(zerobuffer.RequestFailedError, n) for n in (1, 2)]
    assert any("ValueError" in (record.exc_text or "") or record.exc_info for record in caplog.records)


def test_views_of_a_request_outlive_its_handler(serve, client_of):
    np = pytest.importorskip("numpy")
    kept = []

    def handler(frame):
        kept.append((frame, frame.as_numpy()))
        return b"ok"

    serve(handler)
    client = client_of()
    for n in range(8):
        client.call(bytes([n]) * 100_000, SECONDS_20).release()
    assert [int(np.unique(array)[0]) for _, array in kept] == list(range(8))
    assert not any(frame.is_valid for frame, _ in kept)
    kept.clear()
    for _ in range(20):
        client.call(bytes(100_000), SECONDS_20).release()
        kept.clear()


def test_cancelled_and_late_requests(serve, client_of):
    go, seen = threading.Event(), []

    def handler(frame):
        go.wait(20)
        seen.append(frame.is_cancelled)
        return b"late"

    serve(handler)
    client = client_of()
    first, second = client.send_request(b"1"), client.send_request(b"2")
    assert client.cancel_request(second) and not client.cancel_request(second)
    with pytest.raises(zerobuffer.CancelledError) as caught:
        client.receive_response(SECONDS_20)
    assert caught.value.sequence == second
    with pytest.raises(zerobuffer.DeadlineExceededError):
        client.call(b"3", 50)
    go.set()
    assert client.receive_response(SECONDS_20).sequence == first
    with pytest.raises(zerobuffer.InvalidStateError):
        client.receive_response_to(second, 0)
    assert seen == [False]


@pytest.mark.parametrize("create", ["create_immutable_server", "create_mutable_server"])
def test_a_handler_sees_how_long_its_client_still_waits(channel, factory, client_of, create):
    seen, kept, given_up = [], [], threading.Event()

    def handler(frame):
        seen.append(frame.time_left_ms)
        if bytes(frame) == b"short":
            until = time.monotonic() + 20
            while frame.time_left_ms > 0 and time.monotonic() < until:
                time.sleep(0.001)
            seen.append(frame.time_left_ms)
            given_up.wait(20)
        kept.append(frame)
        return b"done" if create == "create_immutable_server" else None

    with getattr(factory, create)(channel, CONFIG) as server:
        server.start(handler)
        client = client_of()
        with client.call(b"long", SECONDS_20) as response:
            assert response.time_left_ms is None
        for timeout in [None, -1]:
            client.call(b"no limit", timeout).release()
        client.send_request(b"no limit")
        client.receive_response(SECONDS_20).release()
        with pytest.raises(zerobuffer.DeadlineExceededError):
            client.call(b"short", 300)
        given_up.set()
        client.call(b"the last", SECONDS_20).release()
        client.send_request(b"sent", deadline_ms=SECONDS_20)
        client.receive_response(SECONDS_20).release()
        # A request whose handler has returned has no time left to tell.
        assert [frame.time_left_ms for frame in kept] == [None] * 7
        kept.clear()
    first, *never, short, over, last, sent = seen
    assert never == [None] * 3 and over == 0
    assert 0 < short <= 300
    # Only a machine that stands still for long uses them up.
    for left in (first, last, sent):
        assert type(left) is float and 0.5 * SECONDS_20 < left <= SECONDS_20


def test_other_frames_have_no_time_left(reader, writer):
    writer.write_frame(b"x")
    assert [reader.read_frame().time_left_ms, reader.read_frame(0).time_left_ms] == [None, None]


@pytest.mark.parametrize("create", ["create_immutable_server", "create_mutable_server"])
def test_a_pool_of_no_threads_has_one(channel, factory, client_of, create):
    lock, overlaps = threading.Lock(), []

    def handler(frame):
        free = lock.acquire(blocking=False)
        overlaps.append(not free)
        time.sleep(0.02)
        if free:
            lock.release()
        return bytes(frame) if create == "create_immutable_server" else None

    with getattr(factory, create)(channel, CONFIG) as server:
        assert "0 counts as 1" in server.set_pool_size.__doc__
        server.set_pool_size(0)
        server.start(handler, ProcessingMode.THREAD_POOL)
        client = client_of()
        sent = {client.send_request(b"x") for _ in range(10)}
        assert {client.receive_response(SECONDS_20).sequence for _ in sent} == sent
    assert overlaps == [False] * 10


def test_many_threads_share_a_client(serve, client_of):
    serve(lambda frame: bytes(frame)[::-1], ProcessingMode.THREAD_POOL)
    client, wrong = client_of(), []

    def work(number):
        for n in range(100):
            word = f"{number} {n}".encode()
            with client.call(word, SECONDS_20) as response:
                if bytes(response) != word[::-1]:
                    wrong.append(word)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_ends_of_a_channel(channel, factory, serve, client_of):
    with pytest.raises(zerobuffer.BufferNotFoundError):
        factory.create_client(channel)
    server = serve(bytes)
    client = client_of()
    with pytest.raises(zerobuffer.WriterAlreadyConnectedError):
        factory.create_client(channel)
    assert bytes(client.call(b"x", SECONDS_20)) == b"x"
    timer = threading.Timer(0.1, server.stop)
    timer.start()
    with pytest.raises(zerobuffer.ReaderDeadError):
        client.receive_response(None)
    timer.join()
    assert not client.is_server_connected
    # Every call after the end of a channel raises that end.
    client.close()
    with pytest.raises(zerobuffer.ReaderDeadError):
        client.send_request(b"x")
    server.start(lambda frame: b"again")
    with pytest.raises(zerobuffer.InvalidStateError):
        server.start(bytes)
    assert bytes(client_of().call(b"x", SECONDS_20)) == b"again"


def test_stop_does_not_wait_for_a_busy_handler(serve, client_of):
    started, go, ended = threading.Event(), threading.Event(), threading.Event()

    def handler(frame):
        started.set()
        go.wait(20)
        ended.set()
        return b""

    server = serve(handler)
    client_of().send_request(b"x")
    assert started.wait(20)
    start = time.monotonic()
    with pytest.raises(zerobuffer.HandlerBusyError):
        server.stop()
    assert time.monotonic() - start < 10
    go.set()
    assert ended.wait(20)


def test_a_server_that_is_forgotten_stops(channel, factory, client_of):
    server = factory.create_immutable_server(channel, CONFIG)
    server.start(bytes)
    client = client_of()
    del server
    gc.collect()
    with pytest.raises(zerobuffer.ReaderDeadError):
        client.call(b"x", SECONDS_20)


def test_metadata_of_a_client_reaches_on_init(serve, client_of):
    described = []
    server = serve(lambda frame: bytes(len(described)) or b"none")
    server.on_init(described.append)
    client = client_of()
    client.set_metadata(b"I am a test")
    assert bytes(client.call(b"x", SECONDS_20)) == b"\0"
    assert described == [b"I am a test"]


def test_a_blocked_client_is_closed_by_another_thread(serve, client_of):
    serve(bytes)
    client = client_of()
    timer = threading.Timer(0.1, client.close)
    timer.start()
    with pytest.raises(zerobuffer.ClosedError):
        client.receive_response(None)
    timer.join()


def test_coroutines_serve_and_call(channel, factory, client_of):
    async def handler(frame):
        await asyncio.sleep(0.01)
        if bytes(frame) == b"bad":
            raise KeyError("bad")
        return bytes(frame).upper()

    async def main():
        with factory.create_immutable_server(channel, CONFIG) as server:
            await server.start_async(handler)
            client = client_of()
            words = [f"word {n}".encode() for n in range(50)]
            responses = await asyncio.gather(*(client.call_async(word, SECONDS_20) for word in words))
            assert [bytes(response) for response in responses] == [word.upper() for word in words]
            with pytest.raises(zerobuffer.RequestFailedError, match="KeyError"):
                await client.call_async(b"bad", SECONDS_20)
            with pytest.raises(zerobuffer.DeadlineExceededError):
                await client.call_async(b"late", 0.001)
            with pytest.raises(TypeError):
                await client.call_async("text")

    asyncio.run(main())


def test_cancelling_the_task_cancels_the_request(channel, factory, client_of):
    started, cancelled = threading.Event(), threading.Event()

    def handler(frame):
        started.set()
        until = time.monotonic() + 20
        while not frame.is_cancelled and time.monotonic() < until:
            time.sleep(0.001)
        if frame.is_cancelled:
            cancelled.set()
        return b""

    async def main():
        client = client_of()
        task = asyncio.create_task(client.call_async(b"x", SECONDS_20))
        while not started.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with factory.create_immutable_server(channel, CONFIG) as server:
        server.start(handler)
        asyncio.run(main())
        assert cancelled.wait(20)
