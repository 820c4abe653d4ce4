"""The Rust command and the published 1.x package, each as the other side."""

import asyncio
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

import zerobuffer
from conftest import CONFIG

ROOT = Path(__file__).parents[3]
CLI = os.environ.get("ZEROBUFFER_CLI", ROOT / "target/debug/zerobuffer")
PEER = os.environ.get("ZEROBUFFER_PEER_PYTHON", ROOT / "target/peer-venv/bin/python")


@pytest.fixture
def cli():
    if not Path(CLI).exists():
        pytest.fail(f"{CLI} is missing: cargo build -p zerobuffer-cli")
    running = []

    def start(*arguments):
        running.append(
            subprocess.Popen([CLI, *map(str, arguments), "--json-output"], stdout=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield start
    for process in running:
        # Closes properly, so that it leaves nothing.
        process.terminate()
        process.communicate(timeout=60)


def summary(process):
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return json.loads(output)


def test_frames_of_the_rust_writer(name, reader, cli):
    writer = cli("writer", name, "-n", 2000, "-s", 3000, "-m", "from Rust")
    sizes, digest = [], hashlib.sha256()
    for frame in reader:
        with frame:
            sizes.append(frame.size)
            digest.update(frame)
    assert sizes == [3000] * 2000
    assert reader.get_metadata() == b"from Rust"
    assert summary(writer)["frames_written"] == 2000


def test_frames_for_the_rust_reader(name, cli):
    reader = cli("reader", name, "--verify", "sequential", "--timeout-ms", 20000)
    with zerobuffer.Writer(name, connect_timeout_ms=20_000) as writer:
        for number in range(2000):
            with writer.frame(1024) as view:
                # The pattern "sequential" of the command: see its manual.
                view[:] = bytes((number + index) % 256 for index in range(1024))
    result = summary(reader)
    assert result["frames_read"] == 2000


def test_a_duplex_channel_with_the_rust_command(name, cli):
    from zerobuffer.duplex import DuplexChannelFactory

    with DuplexChannelFactory().create_immutable_server(name, CONFIG) as server:
        server.start(bytes)
        # Fails unless every response has the bytes of its request.
        summary(cli("duplex-client", name, "-n", 200, "--verify"))
    cli("duplex-server", name, "--handler", "reverse")
    with DuplexChannelFactory().create_client(name, connect_timeout_ms=20_000) as client:
        with client.call(b"abc", 20_000) as response:
            assert bytes(response) == b"cba"


OLD_WRITER = """
import sys, zerobuffer
writer = zerobuffer.Writer(sys.argv[1])
for n in range(500):
    writer.write_frame(bytes([n % 256]) * (n * 7 % 3000 + 1))
writer.close()
"""

OLD_READER = """
import sys, zerobuffer
reader = zerobuffer.Reader(sys.argv[1], zerobuffer.BufferConfig(metadata_size=1024, payload_size=1 << 20))
print("ready", flush=True)
for n in range(500):
    frame = reader.read_frame(timeout=20)
    with frame:
        assert bytes(frame.data) == bytes([n % 256]) * (n * 7 % 3000 + 1), n
print("read", flush=True)
reader.close()
"""


@pytest.fixture
def old(name):
    if not Path(PEER).exists():
        pytest.fail(f"{PEER} is missing: cargo xtask test python makes it")
    running = []

    def start(lines):
        # Away from this folder, whose package has the same name.
        command = [PEER, "-c", lines, name]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/"))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_frames_of_a_1x_writer(name, reader, old):
    writer = old(OLD_WRITER)
    for n in range(500):
        with reader.read_frame(20_000) as frame:
            assert bytes(frame) == bytes([n % 256]) * (n * 7 % 3000 + 1)
    writer.communicate(timeout=30)
    assert writer.returncode == 0
    assert zerobuffer.inspect.snapshot(name).ring is zerobuffer.inspect.RingKind.CLASSIC


def test_frames_for_a_1x_reader(name, old):
    reader = old(OLD_READER)
    assert reader.stdout.readline() == "ready\n"
    with zerobuffer.Writer(name) as writer:
        for n in range(500):
            writer.write_frame(bytes([n % 256]) * (n * 7 % 3000 + 1))
        assert reader.stdout.readline() == "read\n"
        # It leaves its semaphores behind unless a native writer closes after it, and cleans up.
        reader.communicate(timeout=30)
        assert reader.returncode == 0


def test_tasks_await_frames_of_a_1x_writer(run, name, reader, old):
    async def main():
        for n in range(500):
            frame = await reader.read_frame_async(20_000)
            with frame:
                assert bytes(frame) == bytes([n % 256]) * (n * 7 % 3000 + 1)
        # It leaves by itself.
        assert (await reader.read_frame_async(20_000)).end_of_stream

    writer = old(OLD_WRITER)
    run(main())
    writer.communicate(timeout=30)
    assert writer.returncode == 0


def test_tasks_await_space_of_a_1x_reader(run, name, old):
    async def main():
        with zerobuffer.Writer(name) as writer:
            for n in range(500):
                await asyncio.wait_for(writer.write_frame_async(bytes([n % 256]) * (n * 7 % 3000 + 1)), 20)
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, reader.stdout.readline) == "read\n"
            assert await loop.run_in_executor(None, reader.wait, 30) == 0

    # Less than a tenth of the stream.
    reader = old(OLD_READER.replace("payload_size=1 << 20", "payload_size=1 << 16"))
    assert reader.stdout.readline() == "ready\n"
    run(main())
