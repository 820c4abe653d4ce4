"""Odd arguments: refused in plain words, before anything waits or is taken."""

import asyncio
import ctypes
import time

import pytest

import zerobuffer
from conftest import CONFIG
from zerobuffer.duplex import DuplexChannelFactory

np = pytest.importorskip("numpy")


def test_sizes_that_cannot_be(name):
    for arguments in [(-1, 5), (5, -1), (1 << 70, 5)]:
        with pytest.raises(zerobuffer.InvalidConfigError, match="size is"):
            zerobuffer.BufferConfig(*arguments)
    with pytest.raises(zerobuffer.InvalidConfigError, match="mode"):
        zerobuffer.BufferConfig(mode=-1)
    with pytest.raises(zerobuffer.InvalidConfigError):
        zerobuffer.Reader(name, zerobuffer.BufferConfig(mode=1 << 40))
    with pytest.raises(TypeError):
        zerobuffer.BufferConfig("large")


def test_counts_that_cannot_be(reader, writer):
    for size in (-1, 1 << 70, 0):
        for call in (writer.acquire_frame_buffer, writer.try_acquire_frame_buffer, lambda size: writer.frame(size).__enter__()):
            with pytest.raises(zerobuffer.InvalidFrameSizeError):
                call(size)
    writer.acquire_frame_buffer(10)
    for size in (-1, 0, 11, 1 << 70):
        with pytest.raises(zerobuffer.InvalidFrameSizeError):
            writer.commit_frame(size)
    writer.discard_frame()
    with pytest.raises(ValueError, match="max_frames"):
        reader.read_frames(-1)
    assert reader.read_frames(1 << 60, 0) == []


def test_time_outs_are_checked_before_anything_waits(name):
    start = time.monotonic()
    with zerobuffer.Reader(name, CONFIG) as reader:
        for call in [
            lambda: zerobuffer.Writer(name + "-none", write_timeout_ms=float("nan"), connect_timeout_ms=20_000),
            lambda: DuplexChannelFactory().create_client(name + "-none", request_timeout_ms=float("nan"), connect_timeout_ms=20_000),
            lambda: reader.is_writer_connected(float("nan")),
            lambda: reader.read_frames(1, float("nan")),
            lambda: reader.read_frame_async(float("nan")),
        ]:
            with pytest.raises(ValueError, match="not a number"):
                call()
    assert time.monotonic() - start < 10


def test_only_what_can_be_called_is_a_handler(name):
    for create in (DuplexChannelFactory().create_immutable_server, DuplexChannelFactory().create_mutable_server):
        with create(name, CONFIG) as server:
            for call in (server.start, server.on_error, server.on_init):
                with pytest.raises(TypeError, match="callable"):
                    call(5)
            for size in (-1, 1025, 10**9, 1 << 70):
                with pytest.raises(zerobuffer.InvalidConfigError, match="pool"):
                    server.set_pool_size(size)
            server.set_pool_size(1024)
            assert not server.is_running

    async def main():
        with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
            with pytest.raises(TypeError, match="callable"):
                await server.start_async(5)

    asyncio.run(main())


def test_requests_that_cannot_be(name):
    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        server.start(bytes)
        with DuplexChannelFactory().create_client(name, response_config=CONFIG) as client:
            for size in (-1, 1 << 70):
                with pytest.raises(zerobuffer.InvalidFrameSizeError):
                    client.acquire_request_buffer(size)
                with pytest.raises(ValueError, match="sequence"):
                    client.cancel_request(size)
                with pytest.raises(ValueError, match="sequence"):
                    client.receive_response_to(size, 0)
            with pytest.raises(TypeError, match="objects"):
                client.send_request(np.array([client], object))
        with pytest.raises(TypeError):
            DuplexChannelFactory().create_client(name, conect_timeout_ms=1)


POINTERS = [
    np.array([1, "two", None], object),
    np.zeros(3, [("number", "<i4"), ("object", "O")]),
    np.zeros(3, [("date", "<M8[s]"), ("object", "O")]),
    (ctypes.py_object * 2)(1, 2),
    (ctypes.c_char_p * 2)(b"1", b"2"),
    (ctypes.POINTER(ctypes.c_int) * 2)(),
    (ctypes.c_void_p * 2)(),
]


@pytest.mark.parametrize("data", POINTERS, ids=range(len(POINTERS)))
def test_pointers_are_not_written(writer, data):
    for call in (writer.write_frame, writer.try_write_frame, writer.set_metadata, zerobuffer.Frame.from_bytes):
        with pytest.raises(TypeError, match="objects or pointers"):
            call(data)
    assert writer.frames_written == 0


def test_every_kind_of_number_is_written(reader, writer):
    plain = [
        np.ones(3, kind)
        for kind in ["?", "<i2", ">u4", "f2", "f4", "f8", "g", "c8", "c16", "G", "<M8[s]", "<m8[ms]"]
    ]
    plain += [np.zeros(2, [("Original", "<i4"), ("P", "<f8", (2,))]), np.array([b"abc"]), np.array(["abc"])]
    for array in plain:
        writer.write_frame(array)
        with reader.read_frame() as frame:
            assert bytes(frame) == array.tobytes(), array.dtype
    structure = type("Structure", (ctypes.Structure,), {"_fields_": [("X", ctypes.c_int), ("Oz", ctypes.c_double)]})
    writer.write_frame(structure(1, 2.0))
    assert reader.read_frame().size == ctypes.sizeof(structure)


def test_frames_are_made_of_bytes():
    frame = zerobuffer.Frame.from_bytes(b"hello")
    assert (bytes(frame), frame.sequence, frame.size, frame.is_valid, frame.end_of_stream) == (b"hello", 1, 5, True, False)
    assert frame.data.readonly and not frame.as_numpy().flags.writeable
    assert (frame.is_cancelled, frame.time_left_ms) == (False, None)
    with frame:
        view = frame.as_numpy()
    assert not frame.is_valid and bytes(view) == b"hello"
    source = bytearray(b"abc")
    frame = zerobuffer.Frame.from_bytes(source, sequence=7, writable=True)
    source[0] = 0
    frame.as_numpy()[1] = ord("x")
    assert bytes(frame) == b"axc" and frame.sequence == 7
    frame = zerobuffer.Frame.from_bytes(b"")
    assert frame.is_valid and frame.size == 0 and bytes(frame) == b"" and frame.as_numpy().size == 0


def test_a_handler_can_be_tested_without_a_server():
    def handler(frame):
        return bytes(frame).upper()

    assert handler(zerobuffer.Frame.from_bytes(b"hello")) == b"HELLO"


def test_errors_name_the_package_in_tracebacks(name):
    import traceback

    with pytest.raises(zerobuffer.BufferNotFoundError) as caught:
        zerobuffer.Writer(name)
    assert traceback.format_exception_only(type(caught.value), caught.value)[0].startswith("zerobuffer.BufferNotFoundError: ")
