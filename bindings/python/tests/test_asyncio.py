"""Reading in an event loop. Writing, and what ends while tasks wait: test_asyncio_ends.py."""

import asyncio
import gc
import selectors
import threading
import time

import pytest

import zerobuffer
from conftest import CONFIG, many_files, thread_count


def ready_now(reader):
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        return bool(selector.select(0))


def ready(reader):
    """Whether there is something to read within 20 s."""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        return bool(selector.select(20))


def test_async_for_ends_with_the_stream_and_lets_others_run(run, name, reader):
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

    assert run(main()) == list(range(1000))
    assert turns > 20


def test_no_frame_is_lost_by_cancelled_reads(run, reader, writer):
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

    got, cancelled = run(main())
    assert got == list(range(count))
    assert cancelled > 0


def test_time_outs_and_errors_come_to_the_task(run, name, reader):
    async def main():
        assert not (await reader.read_frame_async(30)).is_valid
        assert not (await reader.read_frame_async(0)).is_valid
        task = asyncio.create_task(reader.read_frame_async(None))
        await asyncio.sleep(0.1)
        reader.close()
        with pytest.raises(zerobuffer.ClosedError):
            await task

    run(main())


def test_arguments_are_checked_before_anything_waits(run, reader):
    async def main():
        with pytest.raises(ValueError, match="not a number"):
            await asyncio.wait_for(reader.read_frame_async(float("nan")), 20)
        with pytest.raises(TypeError):
            await reader.read_frame_async("long")

    run(main())


async def cancelled_reads(reader, writer, count, order, turns):
    """Cancels reads whose frames have come, when the loop has gone round `turns` times since."""
    tasks = [asyncio.ensure_future(reader.read_frame_async(None)) for _ in range(count)]
    while ready_now(reader):
        await asyncio.sleep(0)
    for n in range(count):
        writer.write_frame(bytes([n + 1]))
    assert ready(reader)
    for _ in range(turns):
        await asyncio.sleep(0)
    for n in order:
        tasks[n].cancel()
    got = await asyncio.gather(*tasks, return_exceptions=True)
    return [frame.sequence for frame in got if not isinstance(frame, BaseException)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("batch", [False, True])
def test_frames_of_cancelled_reads_come_in_their_order(run, reader, writer, order, turns, batch):
    got = run(cancelled_reads(reader, writer, 3, order, turns))
    for n in range(3, 6):
        writer.write_frame(bytes([n + 1]))
    if batch:
        got += [frame.sequence for frame in reader.read_frames(10, 0)]
    while len(got) < 6:
        frame = reader.read_frame(5000)
        assert frame.is_valid
        got.append(frame.sequence)
    assert got == [1, 2, 3, 4, 5, 6]


def test_an_end_of_stream_stays_before_the_next_writers_frames(name, reader):
    async def main():
        tasks = [asyncio.ensure_future(reader.read_frame_async(None)) for _ in range(3)]
        await asyncio.sleep(0.05)
        for text in (b"first", b"second"):
            with zerobuffer.Writer(name) as writer:
                writer.write_frame(text)
        time.sleep(0.2)
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    got = []
    while got[-1:] != ["end"] or b"second" not in got:
        frame = reader.read_frame(5000)
        got.append("end" if frame.end_of_stream else bytes(frame))
    # Ends that come together may be reported as one.
    assert got in ([b"first", "end", b"second", "end"], [b"first", b"second", "end"])


def test_a_coroutine_that_is_closed_leaves_its_frame(reader, writer):
    async def main():
        reading = reader.read_frame_async(None)
        reading.send(None)
        writer.write_frame(b"left")
        assert ready(reader)
        reading.close()

    asyncio.run(main())
    assert bytes(reader.read_frame(5000)) == b"left"


def test_a_loop_that_ends_with_a_read_pending_leaves_its_frame(reader, writer):
    loop = asyncio.new_event_loop()
    task = loop.create_task(reader.read_frame_async(None))
    loop.run_until_complete(asyncio.sleep(0.05))
    writer.write_frame(b"left")
    assert ready(reader)
    loop.close()
    assert bytes(reader.read_frame(5000)) == b"left"
    # Its warning would be an error here.
    task._log_destroy_pending = False
    del task
    gc.collect()
    writer.write_frame(b"next")
    assert bytes(reader.read_frame(5000)) == b"next"


def test_a_poll_after_a_cancelled_read_finds_its_frame(reader, writer):
    async def main():
        for n in range(30):
            task = asyncio.ensure_future(reader.read_frame_async(None))
            await asyncio.sleep(0.001 * (n % 4))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            writer.write_frame(bytes([n + 1]))
            frame = reader.read_frame(0)
            assert frame.is_valid and frame.sequence == n + 1

    asyncio.run(main())


def test_a_thousand_readers_are_awaited_by_one_thread(run, name):
    """Beside it there is one for each 127 descriptors (docs/API.md), and one that tells of deaths."""
    count = 1000
    most = count // 127 + 1 + 1
    with many_files(4 * count + 100):
        readers = [zerobuffer.Reader(f"{name}-{n}", zerobuffer.BufferConfig(64, 4096)) for n in range(count)]
        before = thread_count()

        async def main():
            tasks = [asyncio.ensure_future(reader.read_frame_async(None)) for reader in readers]
            # Each finds that there is nothing, and arms its descriptor.
            while any(ready_now(reader) for reader in readers):
                await asyncio.sleep(0)
            threads = thread_count()
            for n, reader in enumerate(readers):
                with zerobuffer.Writer(reader.name) as writer:
                    writer.write_frame(f"{n}".encode())
            return threads, [int(bytes(await task)) for task in tasks]

        threads, got = run(main())
        for reader in readers:
            reader.close()
    assert got == list(range(count))
    assert threads <= before + most, f"{before} threads before, {threads} while {count} readers are awaited"


def test_many_waiting_reads_of_one_reader_get_their_frames(run, reader, writer):
    async def main():
        tasks = [asyncio.ensure_future(reader.read_frame_async(20_000)) for _ in range(500)]
        while ready_now(reader):
            await asyncio.sleep(0)
        for _ in range(500):
            writer.write_frame(b"x")
        return [frame.sequence for frame in await asyncio.gather(*tasks)]

    assert run(main()) == list(range(1, 501))


def test_a_reader_is_awaited_in_one_loop_after_the_other(run, reader, writer):
    async def main(number):
        task = asyncio.ensure_future(reader.read_frame_async(20_000))
        while ready_now(reader):
            await asyncio.sleep(0)
        writer.write_frame(bytes([number]))
        return bytes(await task)

    assert [run(main(number)) for number in (1, 2, 3)] == [b"\1", b"\2", b"\3"]


def test_a_task_waits_beside_a_thread_that_blocks(run, reader, writer):
    got = []
    thread = threading.Thread(target=lambda: got.append(reader.read_frame(20_000).sequence))

    async def main():
        waiting = asyncio.ensure_future(reader.read_frame_async(20_000))
        await asyncio.sleep(0)
        thread.start()
        writer.write_frame(b"one")
        writer.write_frame(b"two")
        got.append((await waiting).sequence)

    run(main())
    thread.join()
    assert sorted(got) == [1, 2]


def test_an_interrupt_ends_a_waiting_task_once(run, reader, writer):
    async def main():
        task = asyncio.ensure_future(reader.read_frame_async(None))
        await asyncio.sleep(0.05)
        reader.interrupt()
        with pytest.raises(zerobuffer.InterruptedError):
            await task
        writer.write_frame(b"x")
        assert (await reader.read_frame_async(20_000)).is_valid

    run(main())


def test_tasks_of_two_loops_share_a_reader(reader, writer):
    got = []

    async def read():
        for _ in range(100):
            frame = await reader.read_frame_async(20_000)
            got.append(frame.sequence)

    loops = [threading.Thread(target=asyncio.run, args=(read(),)) for _ in range(2)]
    for loop in loops:
        loop.start()
    for n in range(200):
        writer.write_frame(b"x")
        time.sleep(0.0001 * (n % 3))
    for loop in loops:
        loop.join()
    assert sorted(got) == list(range(1, 201))


def test_a_reader_with_a_waiting_task_is_collected(name):
    reader = zerobuffer.Reader(name, CONFIG)

    async def main():
        task = asyncio.ensure_future(reader.read_frame_async(None))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    del reader, main
    gc.collect()
    # Its name is free.
    zerobuffer.Reader(name, CONFIG).close()


def test_a_task_gets_the_newest_frame(run, reader, writer):
    async def main():
        assert not (await reader.read_latest_frame_async(0)).is_valid
        assert not (await reader.read_latest_frame_async(30)).is_valid
        for text in (b"old", b"older", b"newest"):
            writer.write_frame(text)
        got = [bytes(await reader.read_latest_frame_async(20_000))]
        newest = reader.latest_frames().__aiter__()
        following = asyncio.ensure_future(newest.__anext__())
        while ready_now(reader):
            await asyncio.sleep(0)
        writer.write_frame(b"next")
        got.append(bytes(await following))
        writer.write_frame(b"skipped")
        writer.write_frame(b"last")
        writer.close()
        async for frame in newest:
            got.append(bytes(frame))
        return got

    assert run(main()) == [b"newest", b"next", b"last"]
    assert (reader.frames_read, reader.frames_skipped) == (3, 3)
