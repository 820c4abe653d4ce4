"""A ZeroBuffer 1.x peer that a test drives: commands on stdin, one answer a line on stdout.

Uses the public API of the package `zerobuffer-ipc` and nothing else. Every command is answered by one line, `@ ok ...`
or `@ error <exception> <text>`; the content of frame `index` is the same on both sides (driver.rs, `Content`).
"""

import ctypes
import logging
import sys
import time
from datetime import timedelta

import zerobuffer
from zerobuffer.duplex import DuplexChannelFactory

MASK = (1 << 64) - 1
# A prime larger than any stream is long, so that no two frames of a stream start at the same place of the block.
SPREAD = 1_000_003
LARGEST = 1 << 17


def splitmix(state):
    """SplitMix64 (Steele, Lea, Flood 2014), as support::Random in the Rust tests."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


class Content:
    """What frame `index` of a stream holds: a slice of one pseudo-random block."""

    def __init__(self):
        numbers = splitmix(1)
        words = (SPREAD + LARGEST) // 8 + 1
        self.block = memoryview(b"".join([next(numbers).to_bytes(8, "little") for _ in range(words)]))

    def frame(self, index, seed, low, high):
        mixed = (index * 0x9E3779B97F4A7C15 + seed) & MASK
        mixed = ((mixed ^ (mixed >> 32)) * 0xBF58476D1CE4E5B9) & MASK
        size = low + (mixed >> 32) % (high - low)
        start = index * 7919 % SPREAD
        return self.block[start : start + size]


class Peer:
    def __init__(self):
        self.reader = None
        self.writer = None
        self.held = []
        self.stash = None
        self.duplex = None

    @property
    def content(self):
        if self.stash is None:
            self.stash = Content()
        return self.stash

    # ---- as reader ----

    def create(self, name, metadata_size, payload_size):
        config = zerobuffer.BufferConfig(metadata_size=int(metadata_size), payload_size=int(payload_size))
        self.reader = zerobuffer.Reader(name, config)

    def read(self, timeout):
        """Reads a frame, says what it is, gives it back."""
        frame = self.reader.read_frame(timeout=float(timeout))
        if frame is None:
            return "none"
        answer = f"{frame.sequence} {bytes(frame.data).hex()}"
        frame.dispose()
        return answer

    def hold(self, timeout):
        """Reads a frame and keeps it."""
        frame = self.reader.read_frame(timeout=float(timeout))
        if frame is None:
            return "none"
        self.held.append(frame)
        return f"{frame.sequence} {bytes(frame.data).hex()}"

    def release(self, which):
        """Gives a frame kept back, by its place in the list."""
        self.reader.release_frame(self.held.pop(int(which)))

    def receive(self, first, count, seed, low, high, timeout=20):
        """Reads frames and compares each with what it must be, byte for byte."""
        first, count, seed, low, high = int(first), int(count), int(seed), int(low), int(high)
        content, reader, timeout = self.content, self.reader, float(timeout)
        for index in range(first, first + count):
            frame = reader.read_frame(timeout=timeout)
            if frame is None:
                raise ValueError(f"no frame {index} within {timeout} s")
            if frame.sequence != index + 1:
                raise ValueError(f"frame {index} has sequence number {frame.sequence}")
            if frame.data != content.frame(index, seed, low, high):
                raise ValueError(f"frame {index} of {frame.size} bytes is not what was written")
            frame.dispose()
        return count

    def metadata(self):
        data = self.reader.get_metadata()
        return "none" if data is None else bytes(data).hex()

    # ---- as writer ----

    def connect(self, name):
        self.writer = zerobuffer.Writer(name)

    def write_timeout(self, seconds):
        self.writer.write_timeout = timedelta(seconds=float(seconds))

    def write(self, data):
        self.writer.write_frame(bytes.fromhex(data))

    def acquire(self, data):
        """Fills a frame in place and does not commit it."""
        data = bytes.fromhex(data)
        self.writer.get_frame_buffer(len(data))[:] = data

    def commit(self):
        self.writer.commit_frame()

    def send(self, first, count, seed, low, high, way):
        """Writes frames: `copied`, `in-place`, or `both` in turn."""
        first, count, seed, low, high = int(first), int(count), int(seed), int(low), int(high)
        content, writer = self.content, self.writer
        for index in range(first, first + count):
            data = content.frame(index, seed, low, high)
            if way == "copied" or (way == "both" and index % 2 == 0):
                writer.write_frame(data)
            else:
                writer.get_frame_buffer(len(data))[:] = data
                writer.commit_frame()
        return count

    def set_metadata(self, data):
        self.writer.set_metadata(bytes.fromhex(data))

    # ---- both ----

    def prepare(self):
        """Makes the block now, so that it does not count in what is measured."""
        return len(self.content.block)

    def connected(self):
        peer = self.writer.is_reader_connected() if self.writer else self.reader.is_writer_connected()
        return "yes" if peer else "no"

    def close(self):
        for handle in (self.writer, self.reader):
            if handle is not None:
                handle.close()
        self.reader = self.writer = None


    # ---- duplex ----

    def duplex_client(self, channel):
        self.duplex = DuplexChannelFactory().create_client(channel)

    def duplex_connected(self):
        return "yes" if self.duplex.is_server_connected else "no"

    def duplex_send(self, data):
        return self.duplex.send_request(bytes.fromhex(data))

    def duplex_receive(self):
        response = self.duplex.receive_response(20_000)
        if not response.is_valid:
            return "none"
        answer = f"{response.sequence} {response.to_bytes().hex()}"
        self.duplex.release_response(response)
        return answer

    def duplex_call(self, data):
        self.duplex_send(data)
        return self.duplex_receive()

    def duplex_close(self):
        self.duplex.close()

    def duplex_server(self, channel):
        """Answers each request with its bytes in reverse order; `sleep` takes a while."""

        def handle(frame, writer):
            data = bytes(frame.data)
            if data == b"sleep":
                time.sleep(0.2)
            writer.write_frame(data[::-1])

        config = zerobuffer.BufferConfig(metadata_size=4096, payload_size=1 << 20)
        self.duplex = DuplexChannelFactory().create_immutable_server(channel, config)
        self.duplex.start(handle)


def main():
    try:
        ctypes.CDLL("libatomic.so.1")
    except OSError as error:
        # Without it the package loses updates of words that both sides change; `cargo xtask test` installs it.
        print(f"@ error libatomic1 is missing: {error}", flush=True)
        return
    logging.disable(logging.CRITICAL)
    peer = Peer()
    for line in sys.stdin:
        command, *arguments = line.split()
        try:
            answer = getattr(peer, command.replace("-", "_"))(*arguments)
            print(f"@ ok {answer}" if answer is not None else "@ ok", flush=True)
        except Exception as error:
            text = " ".join(str(error).split())
            print(f"@ error {type(error).__name__} {text}", flush=True)


main()
