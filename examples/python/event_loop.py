"""Twenty buffers and a socket on one thread, by asyncio: `event_loop.py NAME` reads the buffers NAME-1 to NAME-20 until each writer has
closed, and one line from each client of a socket, whose port it prints. `stream.py writer NAME-1` writes to one of them."""

import asyncio
import sys

import zerobuffer

BUFFERS = 20


async def read(name: str, number: int) -> None:
    """Prints the frames of one buffer, until the writer closes."""
    with zerobuffer.Reader(f"{name}-{number}") as reader:
        async for frame in reader:
            with frame:
                print(f"{number}: {bytes(frame).decode()}")
    print(f"{number}: end of stream")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    print(f"socket: {(await reader.readline()).decode()}", end="")
    writer.close()


async def main(name: str) -> None:
    reading = [asyncio.create_task(read(name, number)) for number in range(1, BUFFERS + 1)]
    # Each has created its buffer when it waits.
    await asyncio.sleep(0)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.gather(*reading)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: event_loop.py NAME")
    asyncio.run(main(sys.argv[1]))
