"""Pictures without a copy: `in_place.py viewer NAME` in one terminal, `in_place.py camera NAME` in another."""

import sys

import numpy

import zerobuffer

WIDTH, HEIGHT = 640, 480


def view(name: str) -> None:
    """Measures each picture where it lies in shared memory."""
    with zerobuffer.Reader(name) as reader:
        if not reader.is_writer_connected(30_000):
            sys.exit("no writer came")
        for frame in reader:
            with frame:
                picture = frame.as_numpy(shape=(HEIGHT, WIDTH))
                print(f"picture {frame.sequence}: mean brightness {int(picture.mean())}")
                del picture  # the space goes back to the camera when no array shows it any more


def film(name: str) -> None:
    """Draws three pictures directly into shared memory."""
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    with zerobuffer.Writer(name, connect_timeout_ms=10_000) as writer:
        for number in range(3):
            with writer.frame(WIDTH * HEIGHT) as memory:
                picture = numpy.frombuffer(memory, numpy.uint8).reshape(HEIGHT, WIDTH)
                picture[:] = (x + y) // 8 + 20 * number


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("viewer", "camera"):
        sys.exit("usage: in_place.py viewer|camera NAME")
    (view if sys.argv[1] == "viewer" else film)(sys.argv[2])
