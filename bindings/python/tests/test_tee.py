"""One reader, many outputs."""

import threading
import time

import pytest

import zerobuffer
from conftest import leftovers

SHARING = zerobuffer.BufferConfig(payload_size=1 << 20, allow_payload_sharing=True)
SIZE = 100_000


def sharing(name):
    return zerobuffer.Reader(name, SHARING)


def requesting(name):
    return zerobuffer.Writer(name, request_payload_sharing=True)


def seen(reader):
    """The byte that the reader's next frame consists of."""
    with reader.read_frame() as frame:
        content = bytes(frame)
        assert content == content[:1] * len(content)
        return content[0]


def test_block_outputs_get_every_frame_and_drop_outputs_what_they_have_room_for(name):
    archive, first, second = (f"{name}-{what}" for what in ("archive", "first", "second"))
    source_reader = sharing(name)
    with sharing(archive) as recorder, sharing(first) as viewer, sharing(second) as stopped:
        with zerobuffer.Tee(source_reader) as tee:
            assert tee.name == name and source_reader.closed
            writer = requesting(archive)
            tee.add_block_output(writer)
            assert writer.closed
            tee.add_drop_output(requesting(first))
            tee.add_drop_output(requesting(second), 1)
            source = zerobuffer.Writer(name)
            for number in range(30):
                source.write_frame(bytes([number]) * SIZE)
                if number % 2 == 0:
                    assert tee.step()
                    expected = number
                else:
                    # A filter in place.
                    frame = tee.read_frame()
                    expected = number + 100
                    frame.make_mut()[:] = bytes([expected]) * SIZE
                    tee.forward(frame)
                    with pytest.raises(zerobuffer.InvalidStateError):
                        tee.forward(frame)
                assert [seen(recorder), seen(viewer)] == [expected, expected]
            outputs = tee.outputs()
            assert [output.name for output in outputs] == [archive, first, second]
            assert [output.bound for output in outputs] == [None, 2, 1]
            assert [output.frames_shared for output in outputs] == [29, 29, 0]
            assert [output.frames_copied for output in outputs] == [1, 1, 1]
            assert [output.frames_dropped for output in outputs] == [0, 0, 29]
            assert all(output.ended is None for output in outputs)
            assert seen(stopped) == 0
            assert tee.remove_output(second) and not tee.remove_output(second)
            assert stopped.read_frame().end_of_stream
            source.close()
            tee.run()
            assert not tee.step(0)
    assert tee.closed
    assert leftovers(name) == []


def test_an_output_whose_reader_has_gone_ends_and_its_exception_names_it(name):
    with zerobuffer.Tee(sharing(name)) as tee, sharing(f"{name}-display") as viewer:
        with sharing(f"{name}-archive"):
            tee.add_block_output(zerobuffer.Writer(f"{name}-archive"))
            tee.add_block_output(zerobuffer.Writer(f"{name}-display"))
        # A writer looks at its reader every 10 ms.
        time.sleep(0.05)
        with zerobuffer.Writer(name) as source:
            source.write_frame(b"\7" * SIZE)
            with pytest.raises(zerobuffer.ReaderDeadError, match=f"{name}-archive"):
                tee.step()
            assert seen(viewer) == 7
            assert [output.ended for output in tee.outputs()] == ["ReaderDead", None]
            source.write_frame(b"\x08" * SIZE)
            assert tee.step()
            assert seen(viewer) == 8


@pytest.mark.parametrize("write_timeout_ms", [0, 200])
def test_a_full_output_keeps_its_frame(name, write_timeout_ms):
    small = zerobuffer.BufferConfig(payload_size=4096)
    with zerobuffer.Tee(sharing(name)) as tee, zerobuffer.Reader(f"{name}-display", small) as viewer:
        tee.add_block_output(zerobuffer.Writer(f"{name}-display", write_timeout_ms=write_timeout_ms))
        with zerobuffer.Writer(name) as source:
            for number in range(6):
                source.write_frame(bytes([number]) * 1000)
            for _ in range(4):
                assert tee.step()
            began = time.monotonic()
            with pytest.raises(zerobuffer.BufferFullError):
                tee.step()
            assert time.monotonic() - began >= write_timeout_ms / 1000 - 0.05
            with pytest.raises(zerobuffer.BufferFullError):
                tee.flush()
            assert [seen(viewer) for _ in range(4)] == [0, 1, 2, 3]
            assert not viewer.try_read_frame().is_valid
            tee.flush()
            assert seen(viewer) == 4
            frame = tee.read_frame()
            view = memoryview(frame)
            tee.forward(frame)
            assert view[0] == 5
            assert seen(viewer) == 5


def test_waits_end_by_an_interrupt_and_a_close(name):
    tee = zerobuffer.Tee(sharing(name))
    tee.interrupt()
    with pytest.raises(zerobuffer.InterruptedError):
        tee.step(None)
    closer = threading.Timer(0.1, tee.close)
    closer.start()
    with pytest.raises(zerobuffer.ClosedError):
        tee.run()
    closer.join()
    with pytest.raises(zerobuffer.ClosedError):
        tee.outputs()


def test_a_tee_takes_what_is_open_only(name):
    reader = sharing(name)
    reader.close()
    with pytest.raises(zerobuffer.ClosedError):
        zerobuffer.Tee(reader)
    with zerobuffer.Tee(sharing(name)) as tee, sharing(f"{name}-display"):
        writer = requesting(f"{name}-display")
        writer.close()
        with pytest.raises(zerobuffer.ClosedError):
            tee.add_block_output(writer)
        with pytest.raises(zerobuffer.InvalidStateError):
            tee.forward(tee.read_frame(0))
        assert repr(tee) == f"<zerobuffer.Tee '{name}'>"


def test_shared_writers_are_outputs_which_keep_their_buffers_for_readers_that_come_later(name):
    archive, display, late = (f"{name}-{what}" for what in ("archive", "display", "late"))
    reader = sharing(name)
    outputs = [zerobuffer.SharedWriter(output, reader) for output in (archive, display, late)]
    with zerobuffer.Tee(reader) as tee, zerobuffer.Writer(name) as source:
        tee.add_block_output(outputs[0])
        tee.add_drop_output(outputs[1])
        tee.add_block_output(outputs[2])
        assert all(output.closed for output in outputs)
        with sharing(archive) as recorder, sharing(display) as viewer:
            for number in range(4):
                source.write_frame(bytes([number]) * SIZE)
                assert tee.step()
                with recorder.read_frame() as frame:
                    assert frame.is_shared and bytes(frame) == bytes([number]) * SIZE
                assert seen(viewer) == number
        with sharing(late) as adopted:
            assert [seen(adopted) for _ in range(4)] == [0, 1, 2, 3]
        assert tee.remove_output(display)
    assert not any(leftovers(buffer) for buffer in (name, archive, display, late))
