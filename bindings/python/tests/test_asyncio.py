"""Reading in an event loop."""

import asyncio
import threading

import pytest

import zerobuffer


def test_async_for_ends_with_the_stream_and_lets_others_run(name, reader):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def write():
        with zerobuffer.Writer(name) as writer:
            writer.write_frames(f"{n}".encode() for n in range(1000))

    async def main():
        other = asyncio.create_task(others())
        thread = threading.Thread(target=write)
        thread.start()
        got = []
        async for frame in reader:
            with frame:
                got.append(int(bytes(frame)))
        thread.join()
        other.cancel()
        return got

    assert asyncio.run(main()) == list(range(1000))
    assert turns > 20


def test_no_frame_is_lost_by_cancelled_reads(reader, writer):
    count = 400

    async def main():
        got = []

        async def write():
            for n in range(count):
                writer.write_frame(f"{n}".encode())
                await asyncio.sleep(0.0007 * (n % 3))

        writing = asyncio.create_task(write())
        cancelled = 0
        while len(got) < count:
            try:
                frame = await asyncio.wait_for(reader.read_frame_async(None), 0.0005)
            except asyncio.TimeoutError:
                cancelled += 1
                continue
            got.append(int(bytes(frame)))
            frame.release()
        await writing
        return got, cancelled

    got, cancelled = asyncio.run(main())
    assert got == list(range(count))
    assert cancelled > 0


def test_time_outs_and_errors_come_to_the_task(name, reader):
    async def main():
        assert not (await reader.read_frame_async(30)).is_valid
        assert not (await reader.read_frame_async(0)).is_valid
        task = asyncio.create_task(reader.read_frame_async(None))
        await asyncio.sleep(0.1)
        reader.close()
        with pytest.raises(zerobuffer.ClosedError):
            await task

    asyncio.run(main())
