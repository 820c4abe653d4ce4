"""Readers and writers: reading, writing, ends, errors, threads."""

import array
import contextlib
import inspect
import pickle
import re
import threading
import time
from pathlib import Path

import pytest

import zerobuffer
from conftest import CONFIG

ROOT = Path(__file__).parents[3]


def test_the_version_is_the_core_crates():
    from importlib.metadata import version

    assert zerobuffer.__version__.replace("-alpha.", "a") == version("zerobuffer")


def test_configs_have_the_defaults_asked_for_and_can_be_compared_and_pickled():
    config = zerobuffer.BufferConfig()
    assert (config.metadata_size, config.payload_size, config.mode) == (4096, 256 * 1024 * 1024, 0o600)
    assert (config.preallocate, config.classic, config.huge_pages, config.numa_node) == (False, False, False, None)
    assert config.wait_strategy is zerobuffer.WaitStrategy.ADAPTIVE
    config = zerobuffer.BufferConfig(1024, 4096, mode=0o660, classic=True, wait_strategy="spin")
    assert config == zerobuffer.BufferConfig(metadata_size=1024, payload_size=4096, mode=0o660, classic=True, wait_strategy=zerobuffer.WaitStrategy.SPIN)
    assert config != zerobuffer.BufferConfig(1024, 4096)
    assert pickle.loads(pickle.dumps(config)) == config and hash(pickle.loads(pickle.dumps(config))) == hash(config)
    assert "4096" in repr(config) and "0o660" in repr(config)
    with pytest.raises(ValueError, match="adaptive, block and spin"):
        zerobuffer.BufferConfig(wait_strategy="hope")
    with pytest.raises(AttributeError):
        config.mode = 0


def test_equal_configs_look_equal_and_others_do_not():
    made = [
        zerobuffer.BufferConfig(),
        zerobuffer.BufferConfig(4096),
        zerobuffer.BufferConfig(payload_size=256 * 1024 * 1024),
        zerobuffer.BufferConfig(4096, 256 * 1024 * 1024),
        zerobuffer.BufferConfig(4096, 256 * 1024 * 1024, preallocate=True, classic=True, huge_pages=True, numa_node=0),
        zerobuffer.BufferConfig(mode=0o660, wait_strategy="block"),
    ]
    for config in made:
        again = eval(repr(config), vars(zerobuffer))
        assert again == config and hash(again) == hash(config) and repr(again) == repr(config)
        assert [other for other in made if other == config] == [config]
    assert len({repr(config) for config in made}) == len(set(made)) == len(made)
    assert "size" not in repr(zerobuffer.BufferConfig())


def test_a_buffer_tells_how_much_of_it_is_in_huge_pages_and_refuses_a_node_that_does_not_exist(name):
    config = zerobuffer.BufferConfig(payload_size=4 << 20, huge_pages=True, numa_node=-1)
    with zerobuffer.Reader(name, config) as reader:
        assert zerobuffer.inspect.snapshot(name).memory >= 4 << 20
        # Where the kernel has none to give, there are none.
        assert reader.huge_page_bytes == 0 or reader.huge_page_bytes >= 4 << 20
    with pytest.raises(zerobuffer.ClosedError):
        _ = reader.huge_page_bytes
    with pytest.raises(zerobuffer.InvalidConfigError, match="numa_node"):
        zerobuffer.Reader(name, zerobuffer.BufferConfig(numa_node=1000))
    for wrong in (-2, 1 << 40, "reader"):
        with pytest.raises(zerobuffer.InvalidConfigError, match="numa_node"):
            zerobuffer.BufferConfig(numa_node=wrong)


def test_the_newest_frame_comes_and_those_before_it_are_counted(reader, writer):
    assert not reader.read_latest_frame(0).is_valid
    for number in range(1, 51):
        writer.write_frame(bytes([number]))
    with reader.read_latest_frame() as frame:
        assert (bytes(frame), frame.sequence) == (bytes([50]), 50)
    assert (reader.frames_read, reader.bytes_read, reader.frames_skipped) == (1, 1, 49)
    later = threading.Timer(0.05, writer.write_frame, [b"later"])
    later.start()
    assert bytes(reader.read_latest_frame(20_000)) == b"later"
    later.join()
    writer.write_frame(b"old")
    writer.write_frame(b"last")
    writer.close()
    assert [bytes(frame) for frame in reader.latest_frames()] == [b"last"]
    assert reader.frames_skipped == 50
    with zerobuffer.Writer(reader.name) as second:
        second.write_frame(b"next")
    assert bytes(reader.read_latest_frame()) == b"next"
    assert reader.read_latest_frame().end_of_stream
    threading.Timer(0.05, reader.interrupt).start()
    with pytest.raises(zerobuffer.InterruptedError):
        reader.read_latest_frame(None)


def test_a_reader_and_a_writer_tell_what_they_have_done_and_what_they_hold(name):
    with zerobuffer.Reader(name, zerobuffer.BufferConfig(64, 4096)) as reader, zerobuffer.Writer(name) as writer:
        assert reader.stats().oldest_held is None
        writer.write_frame(bytes(3000))
        assert writer.try_write_frame(bytes(3000)) is None
        writer.write_timeout_ms = 1
        with pytest.raises(zerobuffer.BufferFullError):
            writer.write_frame(bytes(3000))
        written = writer.stats()
        assert (written.frames_written, written.bytes_written, written.full) == (1, 3000, 2)
        assert repr(written) == f"WriterStats(frames_written=1, bytes_written=3000, waits={written.waits}, full=2, frames_shared=0, frames_copied=0)"
        frame = reader.read_frame(1000)
        assert not reader.read_frame(1).is_valid
        stats = reader.stats()
        assert (stats.frames_read, stats.bytes_read, stats.frames_held, stats.oldest_held) == (1, 3000, 1, 1)
        assert stats.bytes_held >= 3000 and stats.waits >= 1
        assert "oldest_held=1, " in repr(stats)
        frame.release()
        assert (reader.stats().frames_held, reader.stats().bytes_held) == (0, 0)
    for handle in (reader, writer):
        with pytest.raises(zerobuffer.ClosedError):
            handle.stats()


def test_a_size_that_is_given_is_not_one_that_is_left_open(name):
    from zerobuffer._native import KeptBuffer

    kept = KeptBuffer(name, zerobuffer.BufferConfig(payload_size=8192))
    with pytest.raises(zerobuffer.InvalidConfigError, match="8192"):
        zerobuffer.Reader(name, zerobuffer.BufferConfig(4096, 256 * 1024 * 1024))
    with zerobuffer.Reader(name, zerobuffer.BufferConfig()):
        assert zerobuffer.inspect.snapshot(name).payload_size == 8192
    assert kept.close()


@pytest.mark.parametrize(
    "data",
    [b"1234", bytearray(b"1234"), memoryview(b"1234"), array.array("B", b"1234"), memoryview(array.array("I", [0x34333231]))],
)
def test_everything_with_a_contiguous_buffer_can_be_written(reader, writer, data):
    assert writer.write_frame(data) == 1
    assert writer.try_write_frame(data) == 2
    assert [bytes(frame) for frame in reader.read_frames(9)] == [b"1234", b"1234"]


def test_large_frames_are_written_from_every_kind_of_buffer(reader, writer):
    np = pytest.importorskip("numpy")
    content = np.random.default_rng(1).integers(0, 256, 300_000, np.uint8)
    for data in [content.tobytes(), bytearray(content), content, content.reshape(3, -1), memoryview(content)]:
        assert writer.write_frame(data) == writer.frames_written
        with reader.read_frame() as frame:
            assert bytes(frame) == content.tobytes()


def test_what_has_no_contiguous_memory_is_told_what_to_do(writer):
    np = pytest.importorskip("numpy")
    for data in [np.zeros((4, 4))[:, ::2], np.zeros((4, 4), order="F"), memoryview(b"12345")[::2]]:
        with pytest.raises(BufferError, match="contiguous"):
            writer.write_frame(data)
    for data in ["text", 5, None, [1, 2]]:
        with pytest.raises(TypeError, match="bytes-?like|takes bytes"):
            writer.write_frame(data)
    assert writer.frames_written == 0


def test_frames_are_filled_in_place(reader, writer):
    np = pytest.importorskip("numpy")
    view = writer.acquire_frame_buffer(10)
    assert (len(view), view.format, view.readonly) == (10, "B", False)
    view[:5] = b"first"
    assert writer.commit_frame(5) == 1
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    with writer.frame(8) as view:
        np.frombuffer(view, np.uint16)[:] = [1, 2, 3, 4]
    with pytest.raises(KeyError), writer.frame(8) as view:
        raise KeyError
    writer.acquire_frame_buffer(4)
    writer.discard_frame()
    with writer.frame(100) as view:
        view[:3] = b"own"
        writer.commit_frame(3)
    frames = reader.read_frames(9)
    assert [bytes(frame) for frame in frames] == [b"first", bytes([1, 0, 2, 0, 3, 0, 4, 0]), b"own"]


def test_acquiring_can_be_tried_without_waiting(reader, writer):
    writer.write_timeout_ms = 20_000
    for size, error in [(0, zerobuffer.InvalidFrameSizeError), (1 << 20, zerobuffer.FrameTooLargeError)]:
        with pytest.raises(error):
            writer.try_acquire_frame_buffer(size)
    view = writer.try_acquire_frame_buffer(700_000)
    assert (len(view), view.format, view.readonly) == (700_000, "B", False)
    view[:5] = b"first"
    with pytest.raises(zerobuffer.InvalidStateError, match="acquired"):
        writer.try_acquire_frame_buffer(1)
    assert writer.commit_frame(700_000) == 1
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    start = time.monotonic()
    assert writer.try_acquire_frame_buffer(700_000) is None
    thread, _ = blocked(lambda: writer.write_frame(bytes(700_000)))
    time.sleep(0.1)
    # Neither does it wait for another thread that does.
    assert writer.try_acquire_frame_buffer(700_000) is None
    assert time.monotonic() - start < 10
    with reader.read_frame() as frame:
        assert bytes(frame.data[:5]) == b"first"
    del frame
    thread.join()
    reader.read_frame().release()
    writer.try_acquire_frame_buffer(700_000)[:] = bytes(700_000)
    writer.discard_frame()
    assert writer.frames_written == 2


def test_an_array_of_an_acquired_frame_outlives_commit_and_writer(name, reader):
    np = pytest.importorskip("numpy")
    writer = zerobuffer.Writer(name)
    array = np.asarray(writer.acquire_frame_buffer(1000))
    array[:] = 7
    writer.commit_frame()
    assert bytes(reader.read_frame()) == bytes([7]) * 1000
    writer.close()
    del writer
    reader.close()
    array[:] = 9
    assert array.sum() == 9000


def test_acquiring_has_its_states(reader, writer):
    with pytest.raises(zerobuffer.InvalidStateError, match="without acquire"):
        writer.commit_frame()
    writer.discard_frame()
    view = writer.acquire_frame_buffer(10)
    for call in [lambda: writer.acquire_frame_buffer(1), lambda: writer.write_frame(b"x"), lambda: writer.try_write_frame(b"x")]:
        with pytest.raises(zerobuffer.InvalidStateError, match="acquired"):
            call()
    for size in [0, 11]:
        with pytest.raises(zerobuffer.InvalidFrameSizeError):
            writer.commit_frame(size)
    view[:] = b"still here"
    assert writer.commit_frame() == 1
    assert bytes(reader.read_frame()) == b"still here"


def test_metadata_is_set_once(reader, writer):
    assert reader.get_metadata() is None
    with pytest.raises(zerobuffer.MetadataTooLargeError):
        writer.set_metadata(bytes(1017))
    writer.set_metadata(b"1920x1080")
    assert reader.get_metadata() == b"1920x1080"
    with pytest.raises(zerobuffer.MetadataAlreadyWrittenError):
        writer.set_metadata(b"again")


def test_counters_and_names(reader, writer):
    writer.write_frames([b"12", b"345"])
    assert (writer.frames_written, writer.bytes_written, writer.max_frame_size) == (2, 5, (1 << 20) - 16)
    reader.read_frames(2)
    assert (reader.frames_read, reader.bytes_read) == (2, 5)
    assert reader.name == writer.name
    assert repr(reader) == f"<zerobuffer.Reader '{reader.name}' frames_read=2>"
    assert repr(writer) == f"<zerobuffer.Writer '{reader.name}' frames_written=2>"


def test_time_outs(reader, writer):
    start = time.monotonic()
    assert not reader.read_frame(timeout_ms=60).is_valid
    assert not reader.read_frame(timeout_ms=0.5).is_valid
    assert time.monotonic() - start >= 0.06
    assert reader.read_frames(5, timeout_ms=0) == [] == reader.read_frames(0)
    with pytest.raises(ValueError):
        reader.read_frame(float("nan"))
    for forever in [None, -1, float("inf")]:
        timer = threading.Timer(0.1, writer.write_frame, [b"x"])
        timer.start()
        assert reader.read_frame(forever).is_valid
        timer.join()
    assert writer.write_timeout_ms == 5000
    writer.write_timeout_ms = None
    assert writer.write_timeout_ms is None
    writer.write_timeout_ms = 30
    assert writer.write_timeout_ms == 30
    while writer.try_write_frame(bytes(50_000)):
        pass
    start = time.monotonic()
    for call in [lambda: writer.write_frame(bytes(50_000)), lambda: writer.write_frame(bytes(500_000)), lambda: writer.acquire_frame_buffer(50_000)]:
        with pytest.raises(zerobuffer.BufferFullError, match="30ms") as caught:
            call()
        assert caught.value.buffer == writer.name
    assert 0.09 <= time.monotonic() - start
    assert writer.try_write_frame(bytes(500_000)) is None


def test_a_writer_waits_for_its_reader(name):
    made = []
    timer = threading.Timer(0.2, lambda: made.append(zerobuffer.Reader(name, CONFIG)))
    timer.start()
    with zerobuffer.Writer(name, connect_timeout_ms=20_000, write_timeout_ms=100) as writer:
        assert writer.write_timeout_ms == 100
        assert writer.is_reader_connected()
        made[0].close()
        assert not writer.is_reader_connected()
    timer.join()


def test_the_end_of_a_stream_is_told_once_and_ends_loops(name, reader):
    assert not reader.is_writer_connected()
    assert not reader.is_writer_connected(timeout_ms=30)
    with zerobuffer.Writer(name) as writer:
        assert reader.is_writer_connected() and reader.is_writer_connected(timeout_ms=1000)
        writer.write_frames([b"1", b"22"])
    assert reader.is_writer_connected()
    assert [frame.size for frame in reader] == [1, 2]
    assert not reader.is_writer_connected()
    with zerobuffer.Writer(name) as writer:
        writer.write_frame(b"3")
    assert bytes(reader.read_frame()) == b"3"
    end = reader.read_frame()
    assert (end.is_valid, end.end_of_stream) == (False, True)
    assert "end of stream" in repr(end)
    assert not reader.read_frame(timeout_ms=0).end_of_stream


def test_every_kind_of_error_of_the_documentation_has_its_class():
    text = (ROOT / "docs/API.md").read_text()
    table = text.split("## Errors\n")[1].split("\n## ")[0]
    kinds = re.findall(r"^\| ([A-Z]\w+) \|", table, re.MULTILINE)
    assert len(kinds) > 20
    for kind in kinds:
        if kind == "WriterClosed":
            continue
        error = getattr(zerobuffer, kind if kind.endswith("Error") else f"{kind}Error")
        assert issubclass(error, zerobuffer.ZeroBufferError) and error.__doc__


def test_errors_name_the_buffer_and_can_be_pickled(name):
    with pytest.raises(zerobuffer.BufferNotFoundError, match=name) as caught:
        zerobuffer.Writer(name)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.buffer, str(copy)) == (zerobuffer.BufferNotFoundError, name, str(caught.value))
    assert copy.sequence is None


def test_roles_are_exclusive(name, reader, writer):
    with pytest.raises(zerobuffer.ReaderAlreadyConnectedError):
        zerobuffer.Reader(name)
    with pytest.raises(zerobuffer.WriterAlreadyConnectedError):
        zerobuffer.Writer(name)


def test_impossible_sizes_names_and_configs(reader, writer):
    with pytest.raises(zerobuffer.FrameTooLargeError):
        writer.write_frame(bytes(writer.max_frame_size + 1))
    writer.write_frame(bytes(writer.max_frame_size))
    with pytest.raises(zerobuffer.InvalidFrameSizeError):
        writer.write_frame(b"")
    for wrong in ["", "a/b", "x" * 300]:
        with pytest.raises(zerobuffer.InvalidNameError):
            zerobuffer.Reader(wrong)
    with pytest.raises(zerobuffer.InvalidConfigError):
        zerobuffer.Reader(reader.name + "-other", zerobuffer.BufferConfig(payload_size=16))
    with pytest.raises(zerobuffer.InvalidConfigError):
        zerobuffer.Reader(reader.name + "-other", zerobuffer.BufferConfig(mode=0o7777))


def test_closed_handles_say_so_and_close_again(name):
    reader = zerobuffer.Reader(name, CONFIG)
    writer = zerobuffer.Writer(name)
    view = writer.acquire_frame_buffer(5)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    reader.close()
    reader.close()
    assert reader.closed and writer.closed and "closed" in repr(reader) and "closed" in repr(writer)
    calls = [
        reader.read_frame,
        reader.try_read_frame,
        reader.get_metadata,
        reader.is_writer_connected,
        lambda: reader.is_writer_connected(100),
        lambda: next(reader),
        lambda: reader.read_frames(3),
        lambda: writer.write_frame(b"x"),
        lambda: writer.try_write_frame(b"x"),
        lambda: writer.acquire_frame_buffer(1),
        lambda: writer.try_acquire_frame_buffer(1),
        writer.commit_frame,
        writer.is_reader_connected,
        lambda: writer.set_metadata(b"x"),
    ]
    for call in calls:
        with pytest.raises(zerobuffer.ClosedError, match=name):
            call()


def test_a_reader_that_closes_is_dead_for_its_writer(name):
    reader = zerobuffer.Reader(name, CONFIG)
    writer = zerobuffer.Writer(name)
    writer.write_frame(bytes(1_000_000))
    timer = threading.Timer(0.1, reader.close)
    timer.start()
    with pytest.raises(zerobuffer.ReaderDeadError, match="closed"):
        writer.write_frame(bytes(1_000_000))
    timer.join()
    writer.close()


def blocked(call):
    """Runs `call` on a thread. Returns the thread and a list for the exception that ends it."""
    caught = []

    def run():
        try:
            call()
        except zerobuffer.ZeroBufferError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, caught


def test_interrupt_ends_a_blocked_call_once(reader, writer):
    thread, caught = blocked(lambda: reader.read_frame(None))
    reader.interrupt()
    thread.join()
    assert type(caught[0]) is zerobuffer.InterruptedError
    assert not reader.read_frame(1).is_valid
    writer.write_timeout_ms = None
    writer.write_frame(bytes(1_000_000))
    thread, caught = blocked(lambda: writer.write_frame(bytes(1_000_000)))
    writer.interrupt()
    thread.join()
    assert type(caught[0]) is zerobuffer.InterruptedError
    # A frame that is there comes first.
    reader.interrupt()
    assert reader.read_frame().is_valid
    with pytest.raises(zerobuffer.InterruptedError):
        reader.read_frame()


def test_close_ends_calls_that_other_threads_are_blocked_in(name):
    reader = zerobuffer.Reader(name, CONFIG)
    writer = zerobuffer.Writer(name, write_timeout_ms=None)
    calls = [lambda: reader.read_frame(None), lambda: next(reader), lambda: reader.read_frames(2, None)]
    threads = [blocked(call) for call in calls]
    reader.close()
    for thread, caught in threads:
        thread.join()
        assert type(caught[0]) is zerobuffer.ClosedError
    writer.close()


def test_many_threads_share_a_reader_and_a_writer(reader, writer):
    got, lock = [], threading.Lock()
    count = 4000

    def write():
        for _ in range(count // 4):
            writer.write_frame(b"x" * 40)

    def read():
        with contextlib.suppress(zerobuffer.ClosedError):
            while True:
                with reader.read_frame(None) as frame, lock:
                    got.append(frame.sequence)

    writers = [threading.Thread(target=write) for _ in range(4)]
    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    while len(got) < count:
        time.sleep(0.001)
    reader.close()
    for thread in readers:
        thread.join()
    assert sorted(got) == list(range(1, count + 1))


def test_other_threads_see_counters_and_the_writer_while_one_waits(reader, writer):
    thread, _ = blocked(lambda: reader.read_frame(None))
    start = time.monotonic()
    for _ in range(3):
        assert reader.frames_read == 0
        assert reader.is_writer_connected()
    # A machine that stands still for a while is not what is tested: the thread would never stop waiting.
    assert time.monotonic() - start < 30
    reader.interrupt()
    thread.join()


def test_all_names_of_the_package_are_documented():
    for name in zerobuffer.__all__:
        thing = getattr(zerobuffer, name)
        assert thing.__doc__, name
        if not inspect.isclass(thing) or issubclass(thing, Exception):
            continue
        for member, value in vars(thing).items():
            if not member.startswith("_"):
                assert value.__doc__, f"{name}.{member}"


def test_snapshots_and_the_list(name, reader, writer):
    writer.set_metadata(b"xyz")
    writer.write_frame(bytes(900_000))
    snapshot = zerobuffer.inspect.snapshot(name)
    assert (snapshot.name, snapshot.version, snapshot.ring) == (name, (1, 0, 0), zerobuffer.inspect.RingKind.EXTENDED)
    assert (snapshot.metadata_size, snapshot.metadata_written, snapshot.payload_size) == (1024, 11, 1 << 20)
    assert snapshot.health is zerobuffer.inspect.Health.DEGRADED and 0.8 < snapshot.utilisation < 0.95
    assert snapshot.writer.presence is zerobuffer.inspect.Presence.ALIVE and snapshot.writer.ours
    assert snapshot.mode == 0o600 and not snapshot.kept and snapshot.defects == []
    assert name in zerobuffer.inspect.list()
    with pytest.raises(zerobuffer.BufferNotFoundError):
        zerobuffer.inspect.snapshot(name + "-none")
