"""Not run: code that type checkers must accept, on every version of Python."""

import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

import zerobuffer
from zerobuffer.duplex import DuplexChannelFactory, DuplexClient

writer = zerobuffer.Writer("name")
writer.write_frame(np.zeros(3))
writer.write_frame(np.zeros((2, 3), np.uint8))
writer.write_frames([b"x", bytearray(3), memoryview(b"x"), np.zeros(3), array.array("B", b"x")])
reader = zerobuffer.Reader("name", zerobuffer.BufferConfig(payload_size=4096))
writer.write_frame(reader.read_frame())
writer.set_metadata(np.zeros(3))
factory = DuplexChannelFactory()
client: DuplexClient = factory.create_client(
    "name", request_timeout_ms=None, connect_timeout_ms=3, response_config=zerobuffer.BufferConfig()
)
client.call(np.zeros(3)).release()


def handler(frame: zerobuffer.Frame) -> "NDArray[Any]":
    return frame.as_numpy(np.float32, (2, 3))


async def coroutine(frame: zerobuffer.Frame) -> bytes:
    return bytes(frame)


server = factory.create_immutable_server("name")
server.start(handler)
server.start(lambda frame: bytes(frame))
server.start(lambda frame: frame)
handler(zerobuffer.Frame.from_bytes(b"x", sequence=2))


async def main() -> None:
    await server.start_async(coroutine)
    frame = await client.call_async(np.zeros(3))
    async for frame in reader:
        frame.release()
