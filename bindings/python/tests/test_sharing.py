"""Writers and clients that threads share, and views that outlive their frames."""

import io
import os
import threading
import time

import pytest

import zerobuffer
from conftest import CONFIG
from zerobuffer.duplex import DuplexChannelFactory

np = pytest.importorskip("numpy")


def on_thread(call):
    """Runs `call` on a thread; returns the thread and a list for what it returns or raises."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except zerobuffer.ZeroBufferError as error:
            outcome.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize(
    "write",
    [
        lambda writer: writer.write_frame(b"other"),
        lambda writer: writer.write_frame(bytes(100_000)),
        lambda writer: writer.write_frame(bytearray(100_000)),
        lambda writer: writer.write_frames([b"other"]),
    ],
    ids=["small", "large", "mutable", "several"],
)
def test_others_wait_while_one_fills_a_frame(reader, writer, write):
    with writer.frame(4) as view:
        thread, outcome = on_thread(lambda: write(writer))
        time.sleep(0.1)
        assert not outcome
        view[:] = b"mine"
    thread.join()
    assert outcome in ([2], [1])
    assert bytes(reader.read_frame()) == b"mine"
    assert reader.read_frame().sequence == 2


def test_many_threads_fill_frames_in_place(reader, writer):
    writer.write_timeout_ms = 20_000

    def work(number):
        for _ in range(200):
            with writer.frame(8) as view:
                view[:4] = bytes([number]) * 4
                view[4:] = bytes([number]) * 4

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for _ in range(800):
        with reader.read_frame(20_000) as frame:
            assert len(set(bytes(frame))) == 1
    for thread in threads:
        thread.join()


def test_waiting_for_another_thread_has_a_time_out(reader, writer):
    writer.write_timeout_ms = 50
    view = writer.acquire_frame_buffer(4)
    for call in [lambda: writer.write_frame(b"x"), lambda: writer.acquire_frame_buffer(5)]:
        thread, outcome = on_thread(call)
        thread.join()
        assert outcome == [zerobuffer.BufferFullError]
    for call in [lambda: writer.try_write_frame(b"x"), lambda: writer.try_acquire_frame_buffer(5)]:
        thread, outcome = on_thread(call)
        thread.join()
        assert outcome == [None]
    with pytest.raises(zerobuffer.InvalidStateError, match="acquired"):
        writer.write_frame(b"x")
    view[:] = b"mine"
    writer.commit_frame()


def test_what_a_thread_left_acquired_is_discarded(reader, writer):
    views = []
    thread, _ = on_thread(lambda: views.append(writer.acquire_frame_buffer(4)))
    thread.join()
    assert writer.write_frame(b"mine") == 1
    with pytest.raises(ValueError, match="released"):
        views[0][0] = 1
    assert bytes(reader.read_frame()) == b"mine"


def test_what_a_thread_left_of_a_request_is_discarded(name):
    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        server.start(bytes)
        with DuplexChannelFactory().create_client(name, response_config=CONFIG) as client:
            for send in [
                lambda: bytes(client.call(b"mine", 20_000)),
                lambda: bytes(client.receive_response_to(client.send_request(b"mine"), 20_000)),
            ]:
                thread, _ = on_thread(lambda: client.acquire_request_buffer(4))
                thread.join()
                assert send() == b"mine"


def test_a_block_whose_writer_was_closed_says_so(name, reader):
    writer = zerobuffer.Writer(name)
    with pytest.raises(zerobuffer.ClosedError), writer.frame(4) as view:
        view[:] = b"lost"
        writer.close()
    writer = zerobuffer.Writer(name)
    with pytest.raises(KeyError), writer.frame(4):
        writer.close()
        raise KeyError


@pytest.mark.parametrize("size", [1000, 200_000])
@pytest.mark.parametrize("shift", [1, 16, 100])
@pytest.mark.parametrize("between", [0, 1, 48, 500])
def test_a_slice_of_a_discarded_frame_can_be_written(reader, writer, size, shift, between):
    """It lies in the very space that it is copied to."""
    rng = np.random.default_rng(1)
    for n in range(3):
        view = writer.acquire_frame_buffer(size)
        view[:] = rng.integers(0, 256, size, np.uint8).tobytes()
        part = view[shift:]
        array = np.asarray(part)
        writer.discard_frame()
        if between:
            writer.write_frame(bytes(between))
            reader.read_frame().release()
        content = bytes(part)
        writer.write_frame(part if n % 2 else array)
        with reader.read_frame() as frame:
            assert bytes(frame) == content


def test_a_slice_of_a_discarded_request_can_be_sent(name):
    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        server.start(bytes)
        with DuplexChannelFactory().create_client(name, response_config=CONFIG) as client:
            content = np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes()
            _, view = client.acquire_request_buffer(5000)
            view[:] = content
            part = view[7:]
            client.discard_request()
            assert bytes(client.call(part, 20_000)) == content[7:]


def segments(name):
    """The inodes of the segments of these names."""
    return {entry.inode() for entry in os.scandir("/dev/shm") if entry.name.startswith(name)}


def mapped(inodes):
    """How many bytes of these files are mapped."""
    with open("/proc/self/maps") as file:
        ranges = [line.split()[0].split("-") for line in file if int(line.split()[4]) in inodes]
    return sum(int(end, 16) - int(start, 16) for start, end in ranges)


def test_closed_means_unmapped(name):
    reader = zerobuffer.Reader(name, CONFIG)
    files = segments(name)
    for_reader = mapped(files)
    writer = zerobuffer.Writer(name)
    writer.write_frame(b"kept")
    frame = reader.read_frame()
    view = writer.acquire_frame_buffer(5)
    assert mapped(files) > for_reader > 0
    writer.close()
    assert mapped(files) == for_reader
    reader.close()
    assert mapped(files) and bytes(frame) == b"kept"
    frame.release()
    assert mapped(files) == 0
    assert reader.closed and writer.closed and view is not None
    reader.interrupt()
    writer.interrupt()


def test_closed_means_unmapped_for_channels(name):
    server = DuplexChannelFactory().create_immutable_server(name, CONFIG)
    server.start(bytes)
    client = DuplexChannelFactory().create_client(name, response_config=CONFIG)
    response = client.call(b"kept", 20_000)
    files = segments(name)
    client.close()
    server.stop()
    until = time.monotonic() + 20
    assert mapped(files) and bytes(response) == b"kept"
    response.release()
    # The thread that read for calls may be about to end.
    while mapped(files):
        assert time.monotonic() < until
        time.sleep(0.001)
    for call in [lambda: client.call(b"x"), lambda: client.receive_response(0), lambda: client.acquire_request_buffer(1)]:
        with pytest.raises(zerobuffer.ClosedError, match=name):
            call()
    assert not client.is_server_connected and client.channel_name == name
    client.close()


def test_a_refused_write_into_a_frame_does_not_hold_it(reader, writer):
    writer.write_frame(bytes(100_000))
    frame = reader.read_frame()
    for refused in [lambda: io.BytesIO(b"x").readinto(frame), lambda: os.readv(0, [frame])]:
        with pytest.raises((TypeError, BufferError)):
            refused()
    frame.release()
    assert not reader.try_read_frame().is_valid
    assert zerobuffer.inspect.snapshot(reader.name).payload_free >= CONFIG.payload_size - 1000


def test_a_small_frame_needs_no_more_room_when_it_waits(name):
    config = zerobuffer.BufferConfig(metadata_size=64, payload_size=1024)
    for data in (b"x" * 200, bytearray(200), np.zeros(200, np.uint8)):
        with zerobuffer.Reader(name, config) as reader, zerobuffer.Writer(name, write_timeout_ms=500) as writer:
            while writer.try_write_frame(data):
                pass
            written = writer.frames_written
            thread, outcome = on_thread(lambda: writer.write_frame(data))
            time.sleep(0.1)
            assert not outcome
            reader.read_frame().release()
            thread.join()
            assert outcome == [written + 1]
