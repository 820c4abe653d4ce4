"""The second of three programs in three languages: `enhance.py copied|shared IN OUT` inverts the pictures of a camera.

`copied` makes a new picture of each and writes it. `shared` inverts each where the camera has put it, and passes it on
without a copy. Before it comes examples/cpp/camera.cpp, after it examples/csharp/display, which is started first.
"""

import sys

import numpy

import zerobuffer

# Ten pictures of 1920 x 1080 in YUV 4:2:0.
config = zerobuffer.BufferConfig(metadata_size=4096, payload_size=32 * 1024 * 1024)


def enhance_image(image: numpy.ndarray) -> numpy.ndarray:
    """Returns an inverted picture."""
    return 255 - image


def enhance_in_place(image: numpy.ndarray) -> None:
    """Inverts a picture where it is."""
    numpy.subtract(255, image, out=image)


def copied(source: str, target: str) -> None:
    """Reads pictures, makes new ones, and writes those."""
    with zerobuffer.Reader(source, config) as reader, zerobuffer.Writer(target, connect_timeout_ms=30_000) as writer:
        wait_for_camera(reader)
        while True:
            frame = reader.read_frame()
            if not frame.is_valid:
                break

            # Process frame
            enhanced = enhance_image(frame.as_numpy())
            writer.write_frame(enhanced.tobytes())
            reader.release_frame(frame)
        if not frame.end_of_stream:
            sys.exit("no picture in time")


def shared(source: str, target: str) -> None:
    """Changes pictures where they are, and has the display look at them there."""
    with zerobuffer.Reader(source, config, allow_payload_sharing=True) as reader, zerobuffer.Writer(
        target, request_payload_sharing=True, connect_timeout_ms=30_000
    ) as writer:
        wait_for_camera(reader)
        for frame in reader:
            enhance_in_place(numpy.asarray(frame.make_mut()))
            writer.forward(frame)


def wait_for_camera(reader: zerobuffer.Reader) -> None:
    """Waits until the camera has connected."""
    if not reader.is_writer_connected(30_000):
        sys.exit("no camera came")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("copied", "shared"):
        sys.exit("usage: enhance.py copied|shared IN OUT")
    {"copied": copied, "shared": shared}[sys.argv[1]](*sys.argv[2:])
