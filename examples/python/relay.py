"""A stage of a pipeline: `relay.py IN OUT` reads frames from one buffer and writes them, inverted, to the next.

Before it, something that reads OUT (`stream.py reader OUT`); after it, something that writes IN (`stream.py writer IN`).
"""

import sys

import numpy

import zerobuffer


def relay(source: str, target: str) -> None:
    """Passes frames on until the writer of `source` closes."""
    with zerobuffer.Reader(source) as reader, zerobuffer.Writer(target, connect_timeout_ms=10_000) as writer:
        if not reader.is_writer_connected(30_000):
            sys.exit("no writer came")
        for frame in reader:
            # The bytes go from the one buffer to the other once, and are changed on the way.
            with frame, writer.frame(len(frame)) as memory:
                numpy.subtract(255, frame.as_numpy(), out=numpy.frombuffer(memory, numpy.uint8))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: relay.py IN OUT")
    relay(*sys.argv[1:])
