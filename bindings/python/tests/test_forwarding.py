"""Frames that are passed on without a copy."""

import os
import pickle
import queue
from concurrent.futures import ThreadPoolExecutor

import pytest

import zerobuffer
from conftest import leftovers

SHARING = zerobuffer.BufferConfig(payload_size=1 << 20, allow_payload_sharing=True)
PLAIN = zerobuffer.BufferConfig(payload_size=1 << 20)
SIZE = 100_000


class Relay:
    """A camera's buffer and a display's, and the relay between them, all in this process."""

    def __init__(self, name, open_input, open_viewer, connect):
        self.input = open_input(name)
        self.viewer = open_viewer(f"{name}-display")
        self.source = zerobuffer.Writer(name)
        self.output = connect(f"{name}-display")

    def send(self, content):
        self.source.write_frame(bytes([content]) * SIZE)
        return self.input.read_frame()

    def pass_on(self, content):
        """Sends one frame all the way; returns whether it was shared."""
        shared = self.output.forward(self.send(content))
        with self.viewer.read_frame() as frame:
            assert bytes(frame) == bytes([content]) * SIZE
            assert frame.is_shared == shared
        return shared

    def close(self):
        for handle in (self.output, self.source, self.viewer, self.input):
            handle.close()


def by_config(name):
    return zerobuffer.Reader(name, SHARING)


def requesting(name):
    return zerobuffer.Writer(name, request_payload_sharing=True)


@pytest.fixture
def relay(name):
    relay = Relay(name, by_config, by_config, requesting)
    yield relay
    relay.close()


@pytest.mark.parametrize(
    "allowing",
    [
        by_config,
        lambda name: zerobuffer.Reader(name, PLAIN, True),
        lambda name: zerobuffer.Reader(name, PLAIN, allow_payload_sharing=True),
        lambda name: zerobuffer.Reader(name, PLAIN, allow_shared_payload=True),
    ],
    ids=["config", "positional", "allow_payload_sharing", "allow_shared_payload"],
)
@pytest.mark.parametrize(
    "connect",
    [
        requesting,
        lambda name: zerobuffer.Writer(name, True),
        lambda name: zerobuffer.Writer(name, reuse_reader_payload=True),
    ],
    ids=["request_payload_sharing", "positional", "reuse_reader_payload"],
)
def test_frames_are_shared_in_every_spelling_of_the_request(name, allowing, connect):
    relay = Relay(name, allowing, allowing, connect)
    # The viewer learns of the relay with the first frame.
    assert [relay.pass_on(number) for number in range(3)] == [False, True, True]
    assert relay.viewer.payload_sharing_enabled and relay.output.payload_sharing_enabled
    assert relay.viewer.payload_owner_pid == relay.output.payload_owner_pid == os.getpid()
    stats = relay.output.stats()
    assert (stats.frames_shared, stats.frames_copied, relay.output.frames_written) == (2, 1, 3)
    stats = relay.viewer.stats()
    assert (stats.frames_shared, stats.bytes_shared, stats.frames_read) == (2, 2 * SIZE, 3)
    relay.close()


@pytest.mark.parametrize(
    ("open_input", "open_viewer", "connect"),
    [
        (lambda name: zerobuffer.Reader(name, PLAIN), by_config, requesting),
        (by_config, lambda name: zerobuffer.Reader(name, PLAIN), requesting),
        (by_config, by_config, zerobuffer.Writer),
    ],
    ids=["no-input", "no-viewer", "no-request"],
)
def test_frames_are_copied_where_one_side_does_not_share(name, open_input, open_viewer, connect):
    relay = Relay(name, open_input, open_viewer, connect)
    assert [relay.pass_on(number) for number in range(3)] == [False, False, False]
    relay.close()


def test_only_a_bool_allows_sharing(name):
    with pytest.raises(TypeError):
        zerobuffer.Reader(name, PLAIN, 1)
    with pytest.raises(TypeError):
        zerobuffer.Writer(name, 5000)
    with pytest.raises(TypeError):
        zerobuffer.BufferConfig(allow_payload_sharing="no")


def test_a_forwarded_frame_is_released_and_a_refused_one_comes_back(relay):
    frame = relay.send(1)
    assert not relay.output.forward_to(frame)
    assert frame.is_valid
    relay.output.forward(frame)
    assert not frame.is_valid
    with pytest.raises(zerobuffer.InvalidStateError):
        relay.output.forward(frame)
    with pytest.raises(zerobuffer.InvalidStateError):
        relay.output.forward(zerobuffer.Frame.from_bytes(b"abc"))
    frame = relay.send(2)
    relay.output.close()
    with pytest.raises(zerobuffer.ClosedError):
        relay.output.forward(frame)
    assert frame.is_valid and bytes(frame) == b"\x02" * SIZE


def test_full_is_an_error_after_the_write_timeout(relay):
    relay.output.write_timeout_ms = 0
    sent = 0
    with pytest.raises(zerobuffer.BufferFullError):
        while sent < 1000:
            # Small frames are copied.
            relay.source.write_frame(bytes(30_000))
            frame = relay.input.read_frame()
            relay.output.forward(frame)
            sent += 1
    assert sent > 30 and frame.is_valid and relay.output.stats().full == 1


def test_views_outlive_the_forwarding_and_keep_the_frame(relay):
    relay.pass_on(0)
    frame = relay.send(7)
    view = frame.data
    assert relay.output.forward(frame)
    with relay.viewer.read_frame() as seen:
        assert bytes(seen) == bytes(view) == b"\x07" * SIZE
    assert relay.input.stats().frames_held == 1
    del view
    # The next call of the reader takes back what has come back.
    assert relay.input.payload_share_count == 0
    assert relay.input.stats().frames_held == 0


def test_a_frame_is_changed_in_place_before_it_goes_on(relay):
    relay.pass_on(0)
    frame = relay.send(1)
    before = frame.data
    view = frame.make_mut()
    assert not view.readonly and len(view) == SIZE
    view[:3] = b"abc"
    assert bytes(before[:4]) == b"abc\x01", "in place, not in a copy"
    assert relay.output.forward_to(frame)
    assert relay.input.payload_share_count == relay.input.stats().frames_lent == 1
    frame.release()
    seen = relay.viewer.read_frame()
    assert seen.is_shared and bytes(seen.data[:4]) == b"abc\x01"
    seen.release()


def test_a_shared_frame_is_read_only(relay):
    relay.pass_on(0)
    assert relay.output.forward(relay.send(1))
    with relay.viewer.read_frame() as seen:
        assert seen.is_shared and seen.data.readonly
    with pytest.raises(zerobuffer.InvalidStateError):
        zerobuffer.Frame.from_bytes(b"abc").make_mut()


def test_a_shared_frame_is_changed_as_a_private_copy_which_goes_on(relay, name):
    relay.pass_on(0)
    kept = relay.send(1)
    assert relay.output.forward_to(kept)
    seen = relay.viewer.read_frame()
    before = seen.data
    view = seen.make_mut()
    assert not view.readonly and len(view) == SIZE and not seen.is_shared
    view[:] = b"\x02" * SIZE
    assert bytes(before) == bytes(kept) == b"\x01" * SIZE, "the lender's bytes are untouched"
    assert bytes(seen) == bytes(seen.make_mut()) == b"\x02" * SIZE
    with zerobuffer.Reader(f"{name}-next", SHARING) as following:
        with zerobuffer.Writer(f"{name}-next", request_payload_sharing=True) as output:
            assert not output.forward_to(seen) and not output.forward(seen)
            for _ in range(2):
                with following.read_frame() as frame:
                    assert not frame.is_shared and bytes(frame) == b"\x02" * SIZE
    # Views keep the frame, both its bytes and the lender's.
    assert bytes(before) == b"\x01" * SIZE and bytes(view) == b"\x02" * SIZE
    kept.release()
    assert relay.input.payload_share_count == 1
    del before, view, frame
    assert relay.input.payload_share_count == relay.input.stats().frames_held == 0


def test_a_frame_that_was_passed_on_is_changed_as_a_private_copy(relay):
    relay.pass_on(0)
    with relay.send(1) as frame:
        assert relay.output.forward_to(frame)
        frame.make_mut()[:] = b"\x02" * SIZE
        with relay.viewer.read_frame() as seen:
            assert seen.is_shared and bytes(seen) == b"\x01" * SIZE
        assert bytes(frame) == b"\x02" * SIZE and not relay.output.forward_to(frame)
        with relay.viewer.read_frame() as seen:
            assert not seen.is_shared and bytes(seen) == b"\x02" * SIZE
    assert relay.input.payload_share_count == relay.input.stats().frames_held == 0


def test_a_shared_frame_outlives_its_reader_and_then_goes_back(relay):
    relay.pass_on(0)
    assert relay.output.forward(relay.send(1))
    frame = relay.viewer.read_frame()
    relay.viewer.close()
    view = frame.data
    frame.release()
    assert bytes(view) == b"\x01" * SIZE and relay.input.payload_share_count == 1
    del view, frame
    assert relay.input.payload_share_count == 0


def test_a_forked_child_sees_a_shared_frame_as_zeroes(relay):
    relay.pass_on(0)
    assert relay.output.forward(relay.send(1))
    with relay.viewer.read_frame() as frame:
        view = frame.data
        child = os.fork()
        if child == 0:
            os._exit(0 if bytes(view) == bytes(SIZE) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert bytes(view) == b"\x01" * SIZE


def test_a_writable_array_of_a_shared_frame_is_a_private_copy(relay):
    numpy = pytest.importorskip("numpy")
    relay.pass_on(0)
    assert relay.output.forward(relay.send(1))
    with relay.viewer.read_frame() as frame:
        array = frame.as_numpy()
        assert not array.flags.writeable
        with pytest.raises(ValueError):
            array.flags.writeable = True
        mine = numpy.array(array)
        mine += 1
        assert bytes(frame) == b"\x01" * SIZE and bytes(mine) == b"\x02" * SIZE


def test_a_relay_reads_on_one_thread_and_forwards_on_another(relay):
    count = 200
    between = queue.SimpleQueue()

    def read():
        for _ in range(count):
            between.put(relay.input.read_frame(30_000))

    def forward():
        return sum(relay.output.forward(between.get()) for _ in range(count))

    with ThreadPoolExecutor(2) as threads:
        reading, forwarding = threads.submit(read), threads.submit(forward)
        for number in range(count):
            relay.source.write_frame(bytes([number]) * SIZE)
            with relay.viewer.read_frame(30_000) as frame:
                assert bytes(frame) == bytes([number]) * SIZE
        reading.result()
        assert forwarding.result() == count - 1
    sent, seen = relay.output.stats(), relay.viewer.stats()
    assert (sent.frames_shared, sent.frames_copied) == (count - 1, 1)
    assert (seen.frames_shared, seen.bytes_shared) == (count - 1, (count - 1) * SIZE)
    assert relay.input.payload_share_count == 0


def test_a_frame_that_another_thread_releases_meanwhile_is_passed_on_or_refused(relay):
    relay.pass_on(0)
    passed = 0
    with ThreadPoolExecutor(1) as threads:
        for number in range(300):
            frame = relay.send(number % 256)
            released = threads.submit(frame.release)
            try:
                relay.output.forward(frame)
            except zerobuffer.InvalidStateError:
                pass
            else:
                passed += 1
                with relay.viewer.read_frame() as seen:
                    assert bytes(seen) == bytes([number % 256]) * SIZE
            released.result()
    assert relay.input.payload_share_count == relay.input.stats().frames_held == 0


def test_a_writable_view_keeps_its_frame(relay):
    frame = relay.send(1)
    view = frame.make_mut()
    frame.release()
    assert relay.input.stats().frames_held == 1 and view[0] == 1
    del view
    assert relay.input.stats().frames_held == 0


def test_a_shared_writer_shares_from_the_first_frame_on(name):
    with zerobuffer.Reader(name, SHARING) as reader, zerobuffer.Writer(name) as source:
        with zerobuffer.SharedWriter(f"{name}-display", reader) as output:
            assert isinstance(output, zerobuffer.Writer) and not output.is_adopted()
            with zerobuffer.Reader(f"{name}-display", SHARING) as viewer:
                assert output.is_adopted()
                source.write_frame(b"x" * SIZE)
                assert output.forward(reader.read_frame())
                with viewer.read_frame() as frame:
                    assert frame.is_shared and bytes(frame) == b"x" * SIZE
        with pytest.raises(zerobuffer.ClosedError):
            output.is_adopted()


@pytest.mark.parametrize("end", [lambda output: output.close(), lambda output: None], ids=["closed", "dropped"])
def test_a_shared_writer_without_a_reader_leaves_nothing(name, end):
    with zerobuffer.Reader(name, SHARING) as reader:
        output = zerobuffer.SharedWriter(f"{name}-display", reader, write_timeout_ms=10)
        assert leftovers(f"{name}-display") and output.write_timeout_ms == 10
        end(output)
        del output
        assert not leftovers(f"{name}-display")
    with pytest.raises(zerobuffer.ClosedError):
        zerobuffer.SharedWriter(f"{name}-display", reader)


def test_a_config_keeps_whether_it_shares():
    assert SHARING.allow_payload_sharing and not PLAIN.allow_payload_sharing
    assert SHARING != PLAIN and pickle.loads(pickle.dumps(SHARING)) == SHARING
    assert "allow_payload_sharing=True" in repr(SHARING) and "sharing" not in repr(PLAIN)
