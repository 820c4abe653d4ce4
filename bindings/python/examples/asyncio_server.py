"""A server whose handler is a coroutine, so that slow requests wait side by side, and a client that asks for many at once.

    python asyncio_server.py
"""

import asyncio
import multiprocessing
import os

import zerobuffer
from zerobuffer.duplex import DuplexChannelFactory


async def look_up(frame):
    """Answers after a while, as a database or a network would."""
    # The frame is given back when this coroutine ends: its bytes may be used until then.
    word = bytes(frame)
    await asyncio.sleep(0.1)
    return word.upper()


async def serve(channel, stop):
    config = zerobuffer.BufferConfig(payload_size=1 << 20)
    with DuplexChannelFactory().create_immutable_server(channel, config) as server:
        await server.start_async(look_up)
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)


def server(channel, stop):
    asyncio.run(serve(channel, stop))


async def ask(channel):
    with DuplexChannelFactory().create_client(channel, connect_timeout_ms=20_000) as client:
        # Twenty requests under way at once, each with its own response.
        words = [f"word {number}" for number in range(20)]
        calls = [asyncio.create_task(client.call_async(word.encode(), 10_000)) for word in words]
        given_up = asyncio.create_task(client.call_async(b"never mind", 10_000))
        await asyncio.sleep(0.01)
        # A task that is cancelled cancels its request, too.
        given_up.cancel()
        for word, call in zip(words, calls):
            with await call as response:
                print(f"{word} -> {bytes(response).decode()}")
        try:
            await given_up
        except asyncio.CancelledError:
            print("never mind -> cancelled")


def main():
    channel = os.environ.get("BUFFER_NAME", f"words-{os.getpid()}")
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=server, args=(channel, stop))
    process.start()
    try:
        asyncio.run(ask(channel))
    finally:
        stop.set()
        process.join()


if __name__ == "__main__":
    main()
