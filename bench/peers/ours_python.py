"""The Python package of this library."""

from python_roles import PATIENCE, play
from zerobuffer import BufferConfig, Reader, Writer

PATIENCE_MS = PATIENCE * 1e3


class Sink:
    def __init__(self, channel):
        self.writer = Writer(channel["name"], connect_timeout_ms=PATIENCE_MS, write_timeout_ms=PATIENCE_MS)
        self.send = self.writer.write_frame
        self.acquire = self.writer.acquire_frame_buffer
        self.commit = self.writer.commit_frame

    def finish(self):
        self.writer.close()


class Source:
    def __init__(self, channel):
        self.reader = Reader(channel["name"], BufferConfig(4096, channel["payload"]))
        self.frame = None

    def receive(self, target):
        frame = self.reader.read_frame(PATIENCE_MS)
        # Fails if the frame is not of the expected size, or none.
        target[:] = frame
        frame.release()

    def take(self):
        self.frame = self.reader.read_frame(PATIENCE_MS)
        return self.frame.data

    def give_back(self):
        self.frame.release()

    def close(self):
        self.reader.close()


if __name__ == "__main__":
    play(Sink, Source)
