"""Three processes and two buffers: a producer draws dim, noisy pictures, an enhancer makes them bright and clean, a consumer
saves them as PNG files.

    python image_pipeline.py [FOLDER] [--frames 8] [--prefix NAME]

Needs NumPy. Every picture is written, changed and read where it lies in shared memory; only the consumer's file is a copy.
"""

import argparse
import json
import multiprocessing
import os
import struct
import zlib
from pathlib import Path

import numpy as np

import zerobuffer

HEIGHT, WIDTH = 240, 320
CONFIG = zerobuffer.BufferConfig(metadata_size=1024, payload_size=8 << 20)


def draw(picture, number):
    """A disc that moves over a slope, at a fifth of the light, with noise."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = np.stack([x / WIDTH, y / HEIGHT, 1 - x / WIDTH], axis=-1) * 120 + 20
    disc = (x - 40 - 30 * number) ** 2 + (y - 120) ** 2 < 35**2
    light[disc] = (255, 210, 60)
    noise = np.random.default_rng(number).normal(0, 6, light.shape)
    picture[:] = np.clip(light / 5 + noise + 10, 0, 255)


def enhance(source, target):
    """Averages each pixel with its eight neighbours, then spreads the values over the whole range."""
    padded = np.pad(source.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    smooth = sum(padded[dy : dy + HEIGHT, dx : dx + WIDTH] for dy in range(3) for dx in range(3)) / 9
    low, high = np.percentile(smooth, (1, 99))
    target[:] = np.clip((smooth - low) * (255 / (high - low)), 0, 255)


def save_png(path, picture):
    """Just enough of PNG for 8-bit RGB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def producer(raw, frames):
    with zerobuffer.Writer(raw, connect_timeout_ms=20_000) as writer:
        writer.set_metadata(json.dumps({"shape": [HEIGHT, WIDTH, 3], "dtype": "uint8"}).encode())
        for number in range(frames):
            with writer.frame(HEIGHT * WIDTH * 3) as view:
                draw(np.asarray(view).reshape(HEIGHT, WIDTH, 3), number)


def enhancer(raw, clean):
    with zerobuffer.Reader(raw, CONFIG) as reader, zerobuffer.Writer(clean, connect_timeout_ms=20_000) as writer:
        for frame in reader:
            with frame:
                if frame.sequence == 1:
                    writer.set_metadata(reader.get_metadata())
                shape = json.loads(reader.get_metadata())["shape"]
                with writer.frame(len(frame)) as view:
                    enhance(frame.as_numpy(shape=shape), np.asarray(view).reshape(shape))


def consumer(clean, folder):
    with zerobuffer.Reader(clean, CONFIG) as reader:
        for frame in reader:
            with frame:
                told = json.loads(reader.get_metadata())
                picture = frame.as_numpy(dtype=told["dtype"], shape=told["shape"])
                save_png(folder / f"picture-{frame.sequence:03}.png", picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("pictures"))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--prefix", default=f"pipeline-{os.getpid()}", help="begins the names of the buffers")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    raw, clean = f"{arguments.prefix}-raw", f"{arguments.prefix}-clean"
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=consumer, args=(clean, arguments.folder)),
        context.Process(target=enhancer, args=(raw, clean)),
        context.Process(target=producer, args=(raw, arguments.frames)),
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed, see above")
    print(f"{arguments.frames} pictures in {arguments.folder}")


if __name__ == "__main__":
    main()
