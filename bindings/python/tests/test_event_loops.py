"""Readers and writers in event loops, by their file descriptors."""

import asyncio
import os
import selectors
import threading

import pytest

import zerobuffer
from conftest import CONFIG


def ready(end, seconds=0.0):
    with selectors.DefaultSelector() as selector:
        selector.register(end, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def test_a_readers_descriptor_is_ready_while_there_is_something_to_read(reader, writer):
    assert ready(reader), "at first"
    assert not reader.try_read_frame().is_valid
    assert not ready(reader)
    writer.write_frame(b"one")
    writer.write_frame(b"two")
    assert ready(reader, 20)
    assert bytes(reader.try_read_frame()) == b"one"
    assert ready(reader)
    assert bytes(reader.read_frame(0)) == b"two"
    assert not reader.read_frame(0).is_valid
    assert not ready(reader)
    writer.write_frame(b"old")
    writer.write_frame(b"new")
    assert ready(reader, 20)
    assert bytes(reader.read_latest_frame(0)) == b"new"
    assert not reader.read_latest_frame(0).is_valid
    assert not ready(reader)
    writer.close()
    assert ready(reader, 20)
    assert reader.try_read_frame().end_of_stream


def test_a_writers_descriptor_is_ready_when_there_is_space(name):
    with zerobuffer.Reader(name, zerobuffer.BufferConfig(64, 4096)) as reader, zerobuffer.Writer(name) as writer:
        assert ready(writer)
        while writer.try_write_frame(bytes(1000)) is not None:
            pass
        assert not ready(writer)
        for _ in range(2):
            reader.read_frame().release()
        assert ready(writer, 20)
        assert writer.try_write_frame(bytes(1000)) is not None


def test_an_event_loop_reads_many_readers_and_a_pipe_in_one_thread(name):
    count, frames = 20, 50
    names = [f"{name}-{number}" for number in range(count)]

    async def main():
        readers = [zerobuffer.Reader(name, CONFIG) for name in names]
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        got, ended = {name: [] for name in names}, []
        threads = threading.active_count()

        def take(reader):
            while True:
                frame = reader.try_read_frame()
                if frame.end_of_stream:
                    loop.remove_reader(reader)
                    ended.append(reader.name)
                    return
                if not frame.is_valid:
                    return
                got[reader.name].append(int(bytes(frame)))

        for reader in readers:
            loop.add_reader(reader, take, reader)
        receiving, sending = os.pipe()
        loop.add_reader(receiving, lambda: (os.read(receiving, 1), done.set()))

        def write():
            writers = [zerobuffer.Writer(name) for name in names]
            for number in range(frames):
                for writer in writers:
                    writer.write_frame(f"{number}".encode())
            for writer in writers:
                writer.close()
            os.write(sending, b"!")

        writing = threading.Thread(target=write)
        writing.start()
        await asyncio.wait_for(done.wait(), 60)
        while len(ended) < count:
            await asyncio.sleep(0.001)
        writing.join()
        assert threading.active_count() <= threads
        loop.remove_reader(receiving)
        for reader in readers:
            reader.close()
        os.close(receiving)
        os.close(sending)
        return got

    assert asyncio.run(main()) == {name: list(range(frames)) for name in names}


def test_a_closed_reader_or_writer_has_no_descriptor(reader, writer):
    assert reader.fileno() == reader.fileno() > 2
    assert writer.fileno() > 2
    for end in (writer, reader):
        end.close()
        with pytest.raises(zerobuffer.ClosedError):
            end.fileno()
