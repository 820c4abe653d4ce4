"""Requests that are filled in place: called with, committed, discarded, given up."""

import os
import signal
import threading
import time

import pytest

import zerobuffer

SECONDS_20 = 20_000


def in_thread(call):
    """The result or exception of `call` on a thread that is not the main one."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


#: The main thread looks after signals while it waits, the others need not.
ANY_THREAD = pytest.mark.parametrize("run", [lambda call: call(), in_thread], ids=["main thread", "thread"])


@ANY_THREAD
def test_a_request_filled_in_place_is_called_with(serve, client_of, run):
    left = []

    def handler(frame):
        left.append(frame.time_left_ms)
        if bytes(frame) == b"bad":
            raise ValueError("not this one")
        return bytes(frame).upper()

    serve(handler)
    client, stop, others = client_of(), threading.Event(), []

    def receive():
        while not stop.is_set():
            others.append(client.receive_response(5).is_valid)

    def call(data, *timeout):
        sequence, view = client.acquire_request_buffer(len(data))
        view[:] = data
        try:
            response = client.call_acquired(*timeout)
        finally:
            with pytest.raises(ValueError, match="released"):
                view[0] = 1
        assert response.sequence == sequence
        return response

    receiver = threading.Thread(target=receive)
    receiver.start()
    try:
        for n in range(50):
            word = f"word {n}".encode()
            with run(lambda word=word: call(word, SECONDS_20)) as response:
                assert response.is_valid and bytes(response) == word.upper()
        assert bytes(run(lambda: call(b"default"))) == b"DEFAULT"
        assert bytes(run(lambda: call(b"no limit", None))) == b"NO LIMIT"
        with pytest.raises(zerobuffer.RequestFailedError, match="ValueError: not this one") as caught:
            run(lambda: call(b"bad", SECONDS_20))
        assert caught.value.sequence == 53
    finally:
        stop.set()
        receiver.join()
    # The response is the caller's, and the request has its deadline.
    assert not any(others)
    assert all(10_000 < one <= SECONDS_20 for one in left[:50])
    assert 2500 < left[50] <= 5000 and left[51] is None


@ANY_THREAD
def test_calls_in_place_fail_as_calls_do(serve, client_of, run):
    go, cancelled = threading.Event(), threading.Event()

    def handler(frame):
        if bytes(frame) == b"slow":
            until = time.monotonic() + 20
            while not frame.is_cancelled and time.monotonic() < until:
                time.sleep(0.001)
            if frame.is_cancelled:
                cancelled.set()
        go.wait(20)
        return bytes(frame)

    server = serve(handler)
    client = client_of()

    def call(data, timeout):
        _, view = client.acquire_request_buffer(len(data))
        view[:] = data
        return client.call_acquired(timeout)

    def refused():
        # What is acquired stays so.
        _, view = client.acquire_request_buffer(1)
        with pytest.raises(ValueError, match="not a number"):
            client.call_acquired(float("nan"))
        view[0] = 1
        client.discard_request()
        with pytest.raises(zerobuffer.InvalidStateError, match="acquired no request"):
            client.call_acquired(SECONDS_20)

    run(refused)
    with pytest.raises(zerobuffer.DeadlineExceededError) as caught:
        run(lambda: call(b"slow", 100))
    # Those that are discarded use no number.
    assert caught.value.sequence == 1
    assert cancelled.wait(20)
    timer = threading.Timer(0.1, client.cancel_request, [2])
    timer.start()
    with pytest.raises(zerobuffer.CancelledError):
        run(lambda: call(b"cancelled", SECONDS_20))
    timer.join()
    timer = threading.Timer(0.1, client.close)
    timer.start()
    with pytest.raises(zerobuffer.ClosedError):
        run(lambda: call(b"closed", SECONDS_20))
    timer.join()
    go.set()
    client = client_of()
    assert bytes(run(lambda: call(b"again", SECONDS_20))) == b"again"
    _, view = client.acquire_request_buffer(1)
    server.stop()
    with pytest.raises(zerobuffer.ReaderDeadError):
        client.call_acquired(SECONDS_20)


def test_a_signal_handler_that_raises_gives_the_request_up(serve, client_of):
    started, cancelled = threading.Event(), threading.Event()

    def handler(frame):
        if bytes(frame) == b"slow":
            started.set()
            until = time.monotonic() + 20
            while not frame.is_cancelled and time.monotonic() < until:
                time.sleep(0.001)
            if frame.is_cancelled:
                cancelled.set()
        return bytes(frame)

    def interrupt(*_):
        raise KeyError("by the signal")

    def send_signal():
        started.wait(20)
        os.kill(os.getpid(), signal.SIGUSR1)

    serve(handler)
    client = client_of()
    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send_signal)
    sender.start()
    try:
        _, view = client.acquire_request_buffer(4)
        view[:] = b"slow"
        with pytest.raises(KeyError, match="by the signal"):
            client.call_acquired(SECONDS_20)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert cancelled.wait(20)
    _, view = client.acquire_request_buffer(2)
    view[:] = b"ok"
    assert bytes(client.call_acquired(SECONDS_20)) == b"ok"


def test_request_buffers_belong_to_a_thread(serve, client_of):
    serve(bytes)
    client = client_of(request_timeout_ms=200)
    for call in [client.commit_request, client.discard_request, client.call_acquired]:
        with pytest.raises(zerobuffer.InvalidStateError):
            call()
    _, view = client.acquire_request_buffer(3)
    with pytest.raises(zerobuffer.InvalidStateError):
        client.acquire_request_buffer(3)
    outcomes = []

    def other():
        for call in [client.commit_request, client.call_acquired, lambda: client.send_request(b"x")]:
            try:
                call()
            except zerobuffer.ZeroBufferError as error:
                outcomes.append(type(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert outcomes == [zerobuffer.InvalidStateError, zerobuffer.InvalidStateError, zerobuffer.BufferFullError]
    client.discard_request()
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    assert bytes(client.call(b"free again", SECONDS_20)) == b"free again"
