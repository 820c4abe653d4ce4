"""Checks of a fresh wheel on any version of Python, without NumPy or pytest."""

import asyncio
import os
import sys

import zerobuffer

name = f"zbtest-py-smoke-{os.getpid()}"


async def stream(reader):
    return [bytes(frame) async for frame in reader]


with zerobuffer.Reader(name, zerobuffer.BufferConfig(1024, 1 << 20)) as reader:
    with zerobuffer.Writer(name) as writer:
        assert writer.write_frame(b"one") == 1
        with writer.frame(3) as view:
            view[:] = b"two"
        writer.write_frame(bytearray(200_000))
    with reader.read_frame() as frame:
        view = memoryview(frame)
    assert view.tobytes() == b"one" and view.readonly
    del view
    sizes = [len(data) for data in asyncio.run(stream(reader))]
    assert sizes == [3, 200_000], sizes
    assert not reader.read_frame(timeout_ms=1).is_valid
try:
    zerobuffer.Writer(name)
except zerobuffer.BufferNotFoundError as error:
    assert error.buffer == name
else:
    raise AssertionError("connected to nothing")
print("CPython", sys.version.split()[0], "and zerobuffer", zerobuffer.__version__, "work")
