"""The examples, as a user would run them. Those that need OpenCV or PyTorch run only where these are installed."""

import importlib.util
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script, *arguments, name):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        env={**os.environ, "BUFFER_NAME": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_png(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, pixels = 8, b""
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", body)
        elif kind == b"IDAT":
            pixels += body
        at += 12 + size
    rows = numpy.frombuffer(zlib.decompress(pixels), numpy.uint8).reshape(height, 1 + 3 * width)
    return rows[:, 1:].reshape(height, width, 3)


def test_image_pipeline_saves_bright_pictures(name, tmp_path):
    output = run("image_pipeline.py", tmp_path, "--frames", 4, "--prefix", name, name=name)
    assert output == f"4 pictures in {tmp_path}\n"
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [f"picture-{number:03}.png" for number in range(1, 5)]
    for number, path in enumerate(files):
        picture = read_png(path)
        assert picture.shape == (240, 320, 3)
        # Spread over the whole range, and the yellow disc is where it was drawn.
        assert picture.min() == 0 and picture.max() == 255
        red, green, blue = picture[110:130, 30 * number + 30 : 30 * number + 50].mean(axis=(0, 1))
        assert red > 240 and green > 180 and blue < 120, (number, red, green, blue)


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed")
def test_opencv_finds_the_edges(name, tmp_path):
    output = run("opencv_edges.py", tmp_path / "edges.png", name=name)
    assert output.count("pixels of edges") == 10 and ": 0 pixels" not in output
    assert (tmp_path / "edges.png").stat().st_size > 0


def test_dlpack_hands_tensors_over(name):
    output = run("dlpack_tensors.py", name=name).splitlines()
    package = "numpy" if importlib.util.find_spec("torch") is None else "torch"
    assert output == [f"{package} (3, 4, 5): mean {number}.0" for number in range(5)]


def test_asyncio_server_answers_many_at_once(name):
    output = run("asyncio_server.py", name=name).splitlines()
    words = [f"word {number} -> WORD {number}" for number in range(20)]
    assert output == [*words, "never mind -> cancelled"]
