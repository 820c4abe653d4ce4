"""The errors that only a broken buffer or the system can cause; the others are provoked beside what they belong to."""

import contextlib
import errno
import os
import pickle
import resource

import pytest

import zerobuffer

#: Small, and of the ring that 1.x peers know, whose frames are found at fixed places.
SMALL = zerobuffer.BufferConfig(metadata_size=64, payload_size=4096, classic=True)

#: Places of docs/PROTOCOL.md.
PAYLOAD_SIZE = 0x20
FIRST_FRAME = 128 + 64


def spoil(name, offset, number):
    """Puts a number into a buffer's file, as a broken peer would."""
    with open(f"/dev/shm/{name}", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), number.to_bytes(8, "little"), offset)


@contextlib.contextmanager
def another_user():
    """Meanwhile this process is not root, whom no file's mode stops."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@contextlib.contextmanager
def no_more_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def raised(kind, call):
    """The error, which is of just this kind and names the cause."""
    with pytest.raises(zerobuffer.ZeroBufferError) as caught:
        call()
    assert type(caught.value) is kind
    assert str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "offset, number, kind",
    [
        (FIRST_FRAME + 8, 7, zerobuffer.SequenceError),
        (FIRST_FRAME, 1 << 40, zerobuffer.CorruptBufferError),
    ],
)
def test_a_spoilt_frame_stays_an_error(name, offset, number, kind):
    with zerobuffer.Reader(name, SMALL) as reader, zerobuffer.Writer(name) as writer:
        writer.write_frame(b"x")
        spoil(name, offset, number)
        for _ in range(2):
            error = raised(kind, lambda: reader.read_frame(20_000))
            assert error.buffer == name and name in str(error)


def test_a_sequence_error_tells_both_numbers(name):
    with zerobuffer.Reader(name, SMALL) as reader, zerobuffer.Writer(name) as writer:
        writer.write_frame(b"x")
        spoil(name, FIRST_FRAME + 8, 7)
        error = raised(zerobuffer.SequenceError, lambda: reader.read_frame(20_000))
        assert (error.expected, error.got) == (1, 7)
        copy = pickle.loads(pickle.dumps(error))
        assert (copy.expected, copy.got, copy.buffer) == (1, 7, name)


def test_a_spoilt_buffer_takes_no_writer(name):
    with zerobuffer.Reader(name, SMALL):
        spoil(name, PAYLOAD_SIZE, 0)
        assert raised(zerobuffer.CorruptBufferError, lambda: zerobuffer.Writer(name)).buffer == name


def test_a_file_that_is_no_buffer_is_incompatible(name):
    path = f"/dev/shm/{name}"
    with open(path, "w") as file:
        file.write("x" * 8192)
    try:
        for call in [
            lambda: zerobuffer.Writer(name),
            lambda: zerobuffer.Reader(name, SMALL),
            lambda: zerobuffer.inspect.snapshot(name),
        ]:
            assert raised(zerobuffer.IncompatibleProtocolError, call).buffer == name
        # A file that is no buffer is not removed.
        assert os.path.getsize(path) == 8192
    finally:
        os.unlink(path)


def test_who_may_not_open_the_buffer_is_told(name):
    with zerobuffer.Reader(name, SMALL):
        os.chmod(f"/dev/shm/{name}", 0)
        with another_user():
            error = raised(zerobuffer.PermissionDeniedError, lambda: zerobuffer.Writer(name))
        assert error.errno == errno.EACCES and error.buffer == name


def test_memory_that_there_is_not(name):
    config = zerobuffer.BufferConfig(payload_size=1 << 44, preallocate=True)
    error = raised(zerobuffer.OutOfMemoryError, lambda: zerobuffer.Reader(name, config))
    assert error.errno and error.buffer == name


def test_files_that_there_are_not(name):
    with no_more_files():
        error = raised(zerobuffer.SystemError, lambda: zerobuffer.Reader(name, SMALL))
    assert error.errno == errno.EMFILE and error.buffer == name
