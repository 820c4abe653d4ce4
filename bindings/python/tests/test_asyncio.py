"""Reading in an event loop."""

import asyncio
import gc
import os
import threading
import time

import pytest

import zerobuffer
from conftest import CONFIG


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


def test_arguments_are_checked_before_anything_waits(reader):
    async def main():
        with pytest.raises(ValueError, match="not a number"):
            await asyncio.wait_for(reader.read_frame_async(float("nan")), 20)
        with pytest.raises(TypeError):
            await reader.read_frame_async("long")

    asyncio.run(main())


async def cancelled_reads(reader, writer, count, order):
    """Cancels reads whose frames have come, but which have not run since."""
    tasks = [asyncio.ensure_future(reader.read_frame_async(None)) for _ in range(count)]
    await asyncio.sleep(0.05)
    for n in range(count):
        writer.write_frame(bytes([n + 1]))
    until = time.monotonic() + 20
    # The loop is busy meanwhile.
    while reader.frames_read < 1 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    for n in order:
        tasks[n].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("batch", [False, True])
def test_frames_of_cancelled_reads_come_in_their_order(reader, writer, order, batch):
    asyncio.run(cancelled_reads(reader, writer, 3, order))
    for n in range(3, 6):
        writer.write_frame(bytes([n + 1]))
    got = [frame.sequence for frame in reader.read_frames(10, 0)] if batch else []
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


def arrived(reader, count):
    until = time.monotonic() + 20
    while reader.frames_read < count:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_coroutine_that_is_closed_leaves_its_frame(reader, writer):
    async def main():
        reading = reader.read_frame_async(None)
        reading.send(None)
        writer.write_frame(b"left")
        arrived(reader, 1)
        reading.close()

    asyncio.run(main())
    assert bytes(reader.read_frame(5000)) == b"left"


def test_a_loop_that_ends_with_a_read_pending_leaves_its_frame(reader, writer):
    loop = asyncio.new_event_loop()
    task = loop.create_task(reader.read_frame_async(None))
    loop.run_until_complete(asyncio.sleep(0.05))
    writer.write_frame(b"left")
    arrived(reader, 1)
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


def threads():
    return len(os.listdir("/proc/self/task"))


def test_many_waiting_reads_need_one_thread_and_leave_none(reader, writer):
    async def main():
        tasks = [asyncio.ensure_future(reader.read_frame_async(20_000)) for _ in range(500)]
        await asyncio.sleep(0.1)
        most = threads()
        for _ in range(500):
            writer.write_frame(b"x")
        frames = await asyncio.gather(*tasks)
        assert sorted(frame.sequence for frame in frames) == list(range(1, 501))
        return most

    before = threads()
    assert asyncio.run(main()) <= before + 2
    until = time.monotonic() + 20
    while threads() > before:
        assert time.monotonic() < until, "threads are left"
        time.sleep(0.01)


def test_an_interrupt_ends_a_waiting_task_once(reader, writer):
    async def main():
        task = asyncio.ensure_future(reader.read_frame_async(None))
        await asyncio.sleep(0.05)
        reader.interrupt()
        with pytest.raises(zerobuffer.InterruptedError):
            await task
        writer.write_frame(b"x")
        assert (await reader.read_frame_async(20_000)).is_valid

    asyncio.run(main())


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


def test_frames_that_were_read_for_a_task_that_left_are_passed_over_too(reader, writer):
    def leave_behind(count):
        """Frames that were read ahead for tasks which are gone."""

        async def main():
            for _ in range(count):
                task = asyncio.ensure_future(reader.read_frame_async(None))
                await asyncio.sleep(0.02)
                writer.write_frame(b"ahead")
                # The thread that reads for the task has the frame, and the task does not run.
                deadline = time.monotonic() + 20
                while reader.frames_read <= before and time.monotonic() < deadline:
                    time.sleep(0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        before = reader.frames_read
        asyncio.run(main())

    leave_behind(1)
    writer.write_frame(b"newer")
    writer.write_frame(b"newest")
    assert bytes(reader.read_latest_frame(20_000)) == b"newest"
    assert (reader.frames_read, reader.bytes_read, reader.frames_skipped) == (1, 6, 2)
    leave_behind(1)
    writer.close()
    # The end comes behind the frame that was read ahead, and is not lost.
    assert bytes(reader.read_latest_frame(20_000)) == b"ahead"
    assert reader.read_latest_frame(20_000).end_of_stream
    assert (reader.frames_read, reader.frames_skipped) == (2, 2)
