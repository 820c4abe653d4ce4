"""Answers that handlers write in place."""

import functools
import gc
import threading
import time
from pathlib import Path

import pytest

import zerobuffer
from conftest import CONFIG
from zerobuffer.duplex import ProcessingMode, ResponseWriter

SECONDS_20 = 20_000

MODES = pytest.mark.parametrize("mode", ProcessingMode)


@pytest.fixture
def serve_in_place(serve):
    return functools.partial(serve, how="start_in_place")


def in_a_response_buffer(address):
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return "_response" in line
    return False


@MODES
def test_a_handler_fills_its_answer(serve_in_place, client_of, mode):
    def reverse(frame, response):
        assert isinstance(response, ResponseWriter)
        with response.frame(len(frame)) as view:
            assert not view.readonly
            view[:] = bytes(frame)[::-1]

    serve_in_place(reverse, mode)
    client = client_of()
    for size in [1, 17, 200_000]:
        request = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
        with client.call(request, SECONDS_20) as response:
            assert bytes(response) == request[::-1]


@MODES
def test_arrays_show_the_response_buffer_itself_where_one_thread_answers(serve_in_place, client_of, mode):
    np = pytest.importorskip("numpy")
    kept = []

    def handler(frame, response):
        array = np.frombuffer(response.acquire(1000), dtype=np.uint8)
        array[:] = in_a_response_buffer(array.ctypes.data)
        kept.append(array)
        response.commit(1)

    server = serve_in_place(handler, mode)
    client = client_of()
    for _ in range(3):
        with client.call(b"where?", SECONDS_20) as response:
            assert bytes(response) == bytes([mode is ProcessingMode.SINGLE_THREAD])
    client.close()
    server.stop()
    del server
    gc.collect()
    # Their memory is still there.
    assert [len(array) for array in kept] == [1000] * 3 and all(int(array.sum()) >= 0 for array in kept)


@MODES
def test_a_view_ends_with_its_answer(serve_in_place, client_of, mode):
    views = []

    def handler(frame, response):
        views.append(response.acquire(3))
        views[-1][:] = b"abc"
        if bytes(frame) == b"keep":
            return
        response.commit()

    serve_in_place(handler, mode)
    client = client_of()
    assert bytes(client.call(b"x", SECONDS_20)) == b"abc"
    with pytest.raises(zerobuffer.RequestFailedError, match="committed none"):
        client.call(b"keep", SECONDS_20)
    for view in views:
        with pytest.raises(ValueError, match="released"):
            view[0]


@MODES
def test_what_is_never_committed_fails_its_request_alone(serve_in_place, client_of, mode, caplog):
    def handler(frame, response):
        order = bytes(frame)
        if order == b"nothing":
            return
        view = response.acquire(10)
        view[:] = b"0123456789"
        if order == b"raise":
            raise ValueError("on purpose")
        if order == b"discard":
            response.discard()
            response.discard()
        if order == b"none":
            response.commit(0)
        if order == b"again":
            response.discard()
            response.acquire(2)[:] = b"ok"
            response.commit()
        if order == b"copy":
            response.discard()
            response.write(bytearray(b"ok"))
        if order == b"part":
            response.commit(2)
        if order == b"block":
            response.discard()
            with pytest.raises(KeyError):
                with response.frame(5):
                    raise KeyError
            with response.frame(5) as block:
                block[:2] = b"ok"
                response.commit(2)

    serve_in_place(handler, mode)
    client = client_of()
    for order, words in [(b"raise", "on purpose"), (b"forget", "committed none"), (b"discard", "committed none")]:
        with pytest.raises(zerobuffer.RequestFailedError, match=words):
            client.call(order, SECONDS_20)
        assert bytes(client.call(b"part", SECONDS_20)) == b"01"
    for order, expected in [(b"nothing", b""), (b"none", b""), (b"again", b"ok"), (b"copy", b"ok"), (b"block", b"ok")]:
        assert bytes(client.call(order, SECONDS_20)) == expected, order


@MODES
def test_misuse_is_told(serve_in_place, client_of, mode):
    failures = []
    leaked = []

    def handler(frame, response):
        leaked.append(response)
        try:
            with pytest.raises(zerobuffer.InvalidStateError):
                response.commit()
            with pytest.raises(zerobuffer.FrameTooLargeError):
                response.acquire(1 << 30)
            for size in (-1, 1 << 80):
                with pytest.raises(zerobuffer.InvalidFrameSizeError):
                    response.acquire(size)
            with pytest.raises(TypeError):
                response.acquire("many")
            with pytest.raises(TypeError):
                response.write("text")
            response.acquire(4)[:] = b"done"
            for misuse in (lambda: response.acquire(4), lambda: response.write(b"x"), lambda: response.frame(1).__enter__()):
                with pytest.raises(zerobuffer.InvalidStateError):
                    misuse()
            with pytest.raises(zerobuffer.InvalidFrameSizeError):
                response.commit(5)
            response.commit()
            for misuse in (lambda: response.acquire(4), lambda: response.write(b"x"), response.commit):
                with pytest.raises(zerobuffer.InvalidStateError):
                    misuse()
        except BaseException as error:
            failures.append(error)
            raise

    serve_in_place(handler, mode)
    client = client_of(response_config=CONFIG)
    assert bytes(client.call(b"x", SECONDS_20)) == b"done"
    assert not failures
    # The answer may come before its handler returns.
    end = time.monotonic() + 20
    told = ""
    while "has returned" not in told:
        assert time.monotonic() < end, told
        with pytest.raises(zerobuffer.InvalidStateError) as caught:
            leaked[0].acquire(1)
        told = str(caught.value)
    for misuse in (lambda: leaked[0].acquire(1), lambda: leaked[0].write(b"x"), leaked[0].commit, leaked[0].discard):
        with pytest.raises(zerobuffer.InvalidStateError, match="has returned"):
            misuse()


def test_another_thread_may_answer_while_the_handler_waits_for_it(serve_in_place, client_of):
    def handler(frame, response):
        def work():
            with response.frame(5) as view:
                view[:] = b"there"

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    serve_in_place(handler)
    client = client_of()
    for _ in range(20):
        assert bytes(client.call(b"x", SECONDS_20)) == b"there"


def test_the_end_of_a_handler_waits_for_a_call_of_another_thread(channel, serve_in_place, client_of):
    began = threading.Event()
    results = []
    threads = []

    def handler(frame, response):
        if bytes(frame) == b"fill":
            response.write(bytes(40_000))
            return

        def work():
            began.set()
            try:
                results.append(bytes(response.acquire(40_000)[:0]))
            except zerobuffer.ZeroBufferError as error:
                results.append(error)

        # Waits for space, as the client reads nothing, while the handler returns.
        threads.append(threading.Thread(target=work))
        threads[0].start()
        began.wait()

    serve_in_place(handler)
    client = client_of(response_config=zerobuffer.BufferConfig(payload_size=1 << 16))
    first = client.send_request(b"fill")
    second = client.send_request(b"wait")
    began.wait()
    assert client.receive_response_to(first, SECONDS_20).is_valid
    with pytest.raises(zerobuffer.RequestFailedError, match="committed none"):
        client.receive_response_to(second, SECONDS_20)
    threads[0].join()
    assert results == [b""]
