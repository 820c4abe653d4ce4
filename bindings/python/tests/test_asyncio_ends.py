"""Writing in an event loop, and what ends while tasks wait."""

import asyncio
import gc
import threading

import pytest

import zerobuffer
from conftest import CONFIG
from test_asyncio import ready_now

SMALL = zerobuffer.BufferConfig(64, 4096)


@pytest.fixture
def full(name):
    """A reader, and a writer that finds no space for 1000 bytes."""
    with zerobuffer.Reader(name, SMALL) as reader, zerobuffer.Writer(name) as writer:
        while writer.try_write_frame(bytes(1000)) is not None:
            pass
        yield reader, writer


async def waiting(coroutine, end):
    """A task that waits for a reader or writer, whose descriptor it has armed."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    while ready_now(end):
        await asyncio.sleep(0)
    return task


def test_tasks_write_in_their_order_when_there_is_space(run, full):
    reader, writer = full
    before = writer.frames_written

    async def main():
        tasks = [await waiting(writer.write_frame_async(bytes([n]) * 1000), writer) for n in range(5)]
        got = []
        for _ in range(before + 5):
            frame = await reader.read_frame_async(20_000)
            got.append((frame.sequence, bytes(frame)[0]))
            frame.release()
        assert [await task for task in tasks] == [before + n + 1 for n in range(5)]
        return got[before:]

    assert run(main()) == [(before + n + 1, n) for n in range(5)]


def test_a_write_has_the_writers_time_out(run, full):
    _, writer = full
    writer.write_timeout_ms = 30

    async def main():
        with pytest.raises(zerobuffer.BufferFullError, match="1000 bytes"):
            await writer.write_frame_async(bytes(1000))
        with pytest.raises(TypeError):
            await writer.write_frame_async("text")
        with pytest.raises(zerobuffer.FrameTooLargeError):
            await writer.write_frame_async(bytes(5000))

    run(main())


def test_a_cancelled_write_has_written_all_or_nothing(run, name):
    """What a task has been told is there, in its order; what it has not been told may be there."""
    with zerobuffer.Reader(name, SMALL) as reader, zerobuffer.Writer(name) as writer:
        got, told, last = [], [], 500

        async def main():
            async def read():
                while got[-1:] != [last]:
                    frame = await reader.read_frame_async(20_000)
                    assert set(bytes(frame)) == {frame.size % 251}
                    got.append(frame.size)
                    frame.release()
                    await asyncio.sleep(0.0002)

            reading = asyncio.ensure_future(read())
            cancelled = 0
            for n in range(1, 400):
                size = 500 + n
                task = asyncio.ensure_future(writer.write_frame_async(bytes([size % 251]) * size))
                try:
                    await asyncio.wait_for(task, 0.0001 * (n % 5))
                    told.append(size)
                except asyncio.TimeoutError:
                    cancelled += 1
            await writer.write_frame_async(bytes([last % 251]) * last)
            told.append(last)
            await reading
            return cancelled

        assert run(main()) > 0
        assert [size for size in got if size in told] == told
        assert len(set(got)) == len(got)


def test_a_task_waits_while_another_thread_fills_a_frame(run, reader, writer):
    acquired, go_on = threading.Event(), threading.Event()

    def fill():
        with writer.frame(3) as view:
            acquired.set()
            go_on.wait(20)
            view[:] = b"own"

    async def main():
        thread = threading.Thread(target=fill)
        thread.start()
        acquired.wait(20)
        task = asyncio.ensure_future(writer.write_frame_async(b"task"))
        for _ in range(3):
            await asyncio.sleep(0.005)
        assert not task.done()
        go_on.set()
        assert await task == 2
        thread.join()

    run(main())
    assert [bytes(reader.read_frame()) for _ in range(2)] == [b"own", b"task"]


@pytest.mark.parametrize("by", ["task", "thread"])
def test_closing_ends_all_waiting_tasks(run, full, by):
    reader, writer = full
    for _ in range(writer.frames_written):
        reader.read_frame().release()

    async def main():
        tasks = [await waiting(reader.read_frame_async(None), reader) for _ in range(5)]
        if by == "task":
            reader.close()
        else:
            thread = threading.Thread(target=reader.close)
            thread.start()
            thread.join()
        # The number may be another file's by now, which no task may take for the reader's.
        with zerobuffer.Reader(f"{reader.name}-next", SMALL) as other:
            other.fileno()
            ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert [type(end) for end in ends] == 5 * [zerobuffer.ClosedError], ends
        with pytest.raises(zerobuffer.ClosedError):
            await reader.read_frame_async(None)
        # The other side's tasks are told, too.
        with pytest.raises(zerobuffer.ReaderDeadError):
            while True:
                await writer.write_frame_async(bytes(1000))

    run(main())


@pytest.mark.parametrize("by", ["task", "thread"])
def test_closing_a_writer_ends_all_waiting_tasks(run, full, by):
    _, writer = full

    async def main():
        writer.write_timeout_ms = None
        tasks = [await waiting(writer.write_frame_async(bytes(1000)), writer) for _ in range(5)]
        if by == "task":
            writer.close()
        else:
            thread = threading.Thread(target=writer.close)
            thread.start()
            thread.join()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert [type(end) for end in ends] == 5 * [zerobuffer.ClosedError], ends

    run(main())


def test_the_end_of_the_other_side_ends_a_wait(run, name, script):
    async def main():
        peer = script(
            """
            import sys, zerobuffer
            writer = zerobuffer.Writer(sys.argv[1])
            print("there", flush=True)
            sys.stdin.readline()
            """,
            name,
        )
        assert peer.hear() == "there"
        task = await waiting(reader.read_frame_async(None), reader)
        peer.process.kill()
        with pytest.raises(zerobuffer.WriterDeadError):
            await asyncio.wait_for(task, 20)

    with zerobuffer.Reader(name, CONFIG) as reader:
        run(main())


def test_a_waiting_task_ends_with_its_loop(run, reader, writer):
    """`run` cancels what is left."""

    async def main():
        asyncio.ensure_future(reader.read_frame_async(None))
        await asyncio.sleep(0.01)

    for _ in range(2):
        run(main())
    gc.collect()
    writer.write_frame(b"kept")
    assert bytes(reader.read_frame(20_000)) == b"kept"


def test_a_loop_rests_when_nobody_waits_for_what_is_there(reader, writer):
    async def main():
        task = await waiting(reader.read_frame_async(None), reader)
        writer.write_frame(b"one")
        writer.write_frame(b"two")
        assert bytes(await task) == b"one"
        task = asyncio.ensure_future(reader.read_frame_async(None))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        loop, selects = asyncio.get_running_loop(), 0
        select = loop._selector.select

        def counting(timeout):
            nonlocal selects
            selects += 1
            return select(timeout)

        loop._selector.select = counting
        await asyncio.sleep(0.2)
        return selects

    assert asyncio.run(main()) < 10
