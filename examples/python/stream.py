"""A stream of frames: `stream.py reader NAME` in one terminal, `stream.py writer NAME` in another."""

import sys

import zerobuffer


def read(name: str) -> None:
    """Creates the buffer and prints each frame, until the writer closes."""
    with zerobuffer.Reader(name) as reader:
        if not reader.is_writer_connected(30_000):
            sys.exit("no writer came")
        for frame in reader:
            # A writer that dies, rather than closes, is a WriterDeadError here.
            with frame:
                print(f"{frame.sequence}: {bytes(frame).decode()}")
    print("end of stream")


def write(name: str) -> None:
    """Connects to the buffer and writes five frames."""
    with zerobuffer.Writer(name, connect_timeout_ms=10_000) as writer:
        for number in range(1, 6):
            writer.write_frame(f"frame {number} of 5".encode())


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("reader", "writer"):
        sys.exit("usage: stream.py reader|writer NAME")
    (read if sys.argv[1] == "reader" else write)(sys.argv[2])
