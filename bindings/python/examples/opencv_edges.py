"""A camera (a drawn one) in one process, OpenCV in the other: edges are found in the pictures where they lie.

    python opencv_edges.py [FILE.png]

Needs NumPy and OpenCV (`pip install opencv-python-headless`).
"""

import multiprocessing
import os
import sys

import cv2
import numpy as np

import zerobuffer

SHAPE = (240, 320, 3)


def camera(name, frames):
    with zerobuffer.Writer(name, connect_timeout_ms=20_000) as writer:
        for number in range(frames):
            with writer.frame(int(np.prod(SHAPE))) as view:
                picture = np.asarray(view).reshape(SHAPE)
                picture[:] = 40
                # OpenCV draws straight into shared memory.
                cv2.circle(picture, (60 + 20 * number, 120), 50, (60, 210, 255), -1)


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "edges.png"
    name = os.environ.get("BUFFER_NAME", f"edges-{os.getpid()}")
    with zerobuffer.Reader(name, zerobuffer.BufferConfig(payload_size=8 << 20)) as reader:
        process = multiprocessing.get_context("spawn").Process(target=camera, args=(name, 10))
        process.start()
        for frame in reader:
            with frame:
                edges = cv2.Canny(frame.as_numpy(shape=SHAPE), 80, 160)
                print(f"picture {frame.sequence}: {np.count_nonzero(edges)} pixels of edges")
        process.join()
    cv2.imwrite(path, edges)


if __name__ == "__main__":
    main()
