"""Frames: their content, and its lifetime."""

import gc
import hashlib
import weakref

import pytest

import zerobuffer
from conftest import CONFIG

np = pytest.importorskip("numpy")


def free_bytes(name):
    return zerobuffer.inspect.snapshot(name).payload_free


def overwrite(reader, writer):
    """Writes over all of the ring that is not held: space goes back in ring order."""
    for _ in range(40):
        if writer.try_write_frame(b"\xff" * 100_000):
            reader.read_frame().release()


def test_a_frame_shows_its_bytes_in_every_way(reader, writer):
    assert writer.write_frame(b"hello") == 1
    frame = reader.read_frame()
    assert (frame.is_valid, frame.end_of_stream, frame.sequence, frame.size) == (True, False, 1, 5)
    assert (len(frame), bool(frame), bytes(frame)) == (5, True, b"hello")
    assert (frame.data.format, frame.data.ndim, frame.data.readonly) == ("B", 1, True)
    assert frame.data == memoryview(frame) == b"hello"
    assert hashlib.sha256(frame).digest() == hashlib.sha256(b"hello").digest()
    assert bytearray(frame) == b"hello"
    assert repr(frame) == "<zerobuffer.Frame sequence=1 size=5>"
    with pytest.raises(TypeError):
        frame.data[0] = 1


def test_arrays_are_in_place_read_only_and_of_any_shape(reader, writer):
    picture = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    writer.write_frame(picture)
    with reader.read_frame() as frame:
        plain = frame.as_numpy()
        assert (plain.dtype, plain.shape, plain.flags.writeable) == (np.uint8, (96,), False)
        assert plain.__array_interface__["data"][0] == np.asarray(frame).__array_interface__["data"][0]
        for shape in [(2, 3, 4), [2, -1, 4], (np.int64(2), 12), -1, None]:
            array = frame.as_numpy(np.float32, shape)
            assert np.array_equal(array.reshape(-1), picture.reshape(-1)), shape
        assert frame.as_numpy("<f4", (2, 3, 4)).shape == (2, 3, 4)
        assert frame.as_numpy(shape=(4, 24)).dtype == np.uint8
        assert frame.as_numpy(dtype=[("x", "<u4"), ("y", "<f4")]).shape == (12,)
        with pytest.raises(ValueError, match="read-only"):
            plain[0] = 1
        with pytest.raises(ValueError):
            plain.flags.writeable = True


def test_shapes_that_do_not_fit_say_what_would(reader, writer):
    writer.write_frame(bytes(10))
    frame = reader.read_frame()
    for dtype, shape in [("f4", None), ("u1", (3, 3)), ("u1", (3, -1)), ("u1", (-1, -1)), ("u1", (-2, 5)), ("u1", (2**40,) * 3)]:
        with pytest.raises(ValueError, match="10 bytes"):
            frame.as_numpy(dtype, shape)
    with pytest.raises(TypeError, match="Python objects"):
        frame.as_numpy(object)


def test_views_survive_release_and_close_and_hold_their_space(name):
    """Decision 8: the frame counts as released, its bytes go back when the last view dies."""
    reader = zerobuffer.Reader(name, CONFIG)
    writer = zerobuffer.Writer(name)
    makers = [
        lambda frame: frame.as_numpy(),
        lambda frame: frame.data,
        memoryview,
        np.asarray,
        lambda frame: np.frombuffer(frame, np.uint8),
        lambda frame: np.from_dlpack(frame) if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else frame.data,
    ]
    for number, make in enumerate(makers):
        writer.write_frame(bytes([number]) * 100_000)
        frame = reader.read_frame()
        view = make(frame)
        reader.release_frame(frame)
        assert not frame.is_valid
        overwrite(reader, writer)
        assert free_bytes(name) < CONFIG.payload_size - 99_000
        assert bytes(view) == bytes([number]) * 100_000
        del view
        # Given back at the latest when the reader runs out of frames.
        assert not reader.try_read_frame().is_valid
        assert free_bytes(name) >= CONFIG.payload_size - 1000, number
    writer.write_frame(b"the last one")
    view = reader.read_frame().as_numpy()
    writer.close()
    reader.close()
    del reader, writer
    gc.collect()
    assert view.tobytes() == b"the last one"


def test_an_array_that_bypasses_the_buffer_protocol_does_not_dangle(reader, writer):
    """numpy.ndarray(buffer=...) keeps the pointer, but not the view."""
    writer.write_frame(b"a" * 100_000)
    frame = reader.read_frame()
    array = np.ndarray(100_000, np.uint8, frame)
    frame.release()
    overwrite(reader, writer)
    assert array.tobytes() == b"a" * 100_000
    del frame, array
    assert not reader.try_read_frame().is_valid
    assert free_bytes(reader.name) >= CONFIG.payload_size - 1000


def test_frames_are_released_in_any_order(reader, writer):
    writer.write_frames(bytes([n]) * 1000 for n in range(20))
    frames = reader.read_frames(100)
    assert [frame.sequence for frame in frames] == list(range(1, 21))
    for frame in frames[1::2] + frames[-2::-2]:
        assert bytes(frame) == bytes([frame.sequence - 1]) * 1000
        frame.release()
        frame.release()
    assert not reader.try_read_frame()
    assert free_bytes(reader.name) >= CONFIG.payload_size - 1000


def test_a_released_frame_says_so(reader, writer):
    writer.write_frame(b"x")
    frame = reader.read_frame()
    with frame:
        pass
    assert (frame.is_valid, bool(frame), frame.size, frame.sequence) == (False, False, 1, 1)
    for use in [lambda: frame.data, frame.as_numpy, lambda: bytes(frame), lambda: memoryview(frame), lambda: writer.write_frame(frame)]:
        with pytest.raises(zerobuffer.InvalidStateError, match="released"):
            use()
    assert "released" in repr(frame)


def test_an_invalid_frame_says_so(reader):
    frame = reader.read_frame(timeout_ms=0)
    assert (frame.is_valid, bool(frame), frame.size, frame.sequence, len(frame)) == (False, False, 0, 0, 0)
    with pytest.raises(zerobuffer.InvalidStateError, match="timed out"):
        frame.as_numpy()
    reader.release_frame(frame)
    assert "invalid" in repr(frame)


def test_garbage_collection_releases_frames_in_cycles(reader, writer):
    class Holder:
        pass

    writer.write_frame(bytes(100_000))
    holder = Holder()
    holder.own, holder.frame, holder.array = holder, reader.read_frame(), None
    holder.array = holder.frame.as_numpy()
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None
    assert not reader.try_read_frame()
    assert free_bytes(reader.name) >= CONFIG.payload_size - 1000


def test_a_frame_can_be_written_on(name, reader, writer):
    other = name + "-out"
    with zerobuffer.Reader(other, CONFIG) as out, zerobuffer.Writer(other) as relay:
        writer.write_frame(b"passed on")
        with reader.read_frame() as frame:
            relay.write_frame(frame)
        assert bytes(out.read_frame()) == b"passed on"


def test_dlpack_needs_a_consumer_that_knows_read_only(reader, writer):
    writer.write_frame(b"tensor")
    frame = reader.read_frame()
    assert frame.__dlpack_device__() == (1, 0)
    capsule = frame.__dlpack__(max_version=(1, 0))
    assert "dltensor_versioned" in repr(capsule)
    del capsule
    for wrong in [{}, {"max_version": (1, 0), "dl_device": (2, 0)}, {"max_version": (1, 0), "copy": True}]:
        with pytest.raises(BufferError):
            frame.__dlpack__(**wrong)
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        tensor = np.from_dlpack(frame)
        assert (tensor.tobytes(), tensor.dtype, tensor.flags.writeable) == (b"tensor", np.uint8, False)
