"""`python -m zerobuffer` beside the `zerobuffer` command, which `$ZEROBUFFER_CLI` names: ends, deaths and signals.

Options, exit codes, words and streams between all languages are tested in crates/zerobuffer-cli/tests/command_lines.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import leftovers

import zerobuffer
from zerobuffer._cli import pattern, xxh3

TARGET = Path(__file__).parents[3] / "target"
PYTHON = [sys.executable, "-m", "zerobuffer"]
RUST = [os.environ.get("ZEROBUFFER_CLI", str(TARGET / "debug/zerobuffer"))]
LANGUAGES = {"python": PYTHON, "rust": RUST}


@pytest.fixture
def start():
    """Starts commands; whatever becomes of the test, they end."""
    running = []

    def run(language, *arguments, stdin=subprocess.DEVNULL):
        pipe = subprocess.PIPE
        command = [*LANGUAGES[language], *map(str, arguments)]
        running.append(subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


def end(process, code=0, data=None):
    """Waits for the end. Returns standard output and error."""
    output, error = process.communicate(data, timeout=60)
    assert process.returncode == code, (output[-1000:], error[-1000:])
    return output, error.decode()


def report(process, code=0):
    output, error = end(process, code)
    found = json.loads(output)
    assert all(f"zerobuffer: error: {text}\n" in error for text in found["errors"])
    return found


def created(name):
    """Waits until a reader has created the buffer."""
    zerobuffer.Writer(name, connect_timeout_ms=20_000).close()


def reads(start, language, name, *arguments):
    """A reader that is there."""
    process = start(language, "reader", name, *arguments, "--keep")
    created(name)
    return process






@pytest.mark.parametrize("kind", ["sequential", "random", "zero", "ones"])
@pytest.mark.parametrize("writer, reader", [("python", "rust"), ("rust", "python")])
def test_each_verifies_the_others_patterns(start, name, kind, writer, reader):
    found = start(reader, "reader", name, "-n", "300", "-s", "1001", "--verify", kind, "--json-output")
    end(start(writer, "writer", name, "-n", "300", "-s", "1001", "--pattern", kind))
    assert report(found)["verification_errors"] == 0





def killed_after_a_frame(start, buffer, progress):
    """A writer that dies when the other side tells of its first frame."""
    writer = start("python", "writer", buffer, "-n", "0", "--delay-ms", "100000")
    assert b": 1 frame," in progress.stderr.readline()
    writer.kill()
    writer.wait()


def test_a_relay_passes_on_what_a_dead_writer_wrote_and_says_so_alike(start, name):
    found = {}
    for language in LANGUAGES:
        reader = reads(start, "python", f"{name}-2", "--timeout-ms", "-1", "--verify", "sequential", "--json-output")
        # Without JSON, which leaves no place for progress.
        relay = start(language, "relay", name, f"{name}-2", "--log-interval", "1", "--timeout-ms", "-1")
        killed_after_a_frame(start, name, relay)
        output, error = end(relay, 1)
        assert output.startswith(b"relayed 1 frame, 1.0 KiB, in ")
        found[language] = [line for line in error.splitlines() if "error" in line]
        reader.send_signal(signal.SIGINT)
        assert report(reader, 130)["frames_read"] == 1
    assert found["python"] == found["rust"] and len(found["python"]) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_keep_outlives_dead_writers_and_dead_relays(start, name, language):
    out = f"{name}-2"
    kept = start(language, "reader", out, "--keep", "-n", "7", "--timeout-ms", "-1", "--json-output")
    created(out)
    # Its relay dies with the stream in full flow, and so does a writer of its own.
    relay = start("python", "relay", name, out, "--log-interval", "1", "--timeout-ms", "-1")
    writer = start("python", "writer", name, "-n", "0", "--delay-ms", "100000")
    assert b": 1 frame," in relay.stderr.readline()
    relay.kill()
    relay.wait()
    writer.kill()
    writer.wait()
    # What comes after them goes on where they were.
    relay = start("python", "relay", name, out, "--timeout-ms", "20000", "--json-output")
    end(start("python", "writer", name, "-n", "6", "--timeout-ms", "20000"))
    assert report(relay)["frames_relayed"] == 6
    fields = report(kept)
    assert fields["frames_read"] == 7 and fields["errors"] == []



@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_reader_in_good_order(start, name, language, number):
    process = reads(start, language, name, "--json-output")
    process.send_signal(number)
    fields = report(process, 130)
    assert fields["interrupted"] is True and fields["errors"] == []
    assert leftovers(name) == []


def test_ctrl_c_ends_writer_and_relay_with_a_summary(start, name):
    reader = reads(start, "python", f"{name}-2", "--timeout-ms", "-1", "--json-output")
    relay = start("python", "relay", name, f"{name}-2", "--log-interval", "1", "--timeout-ms", "-1")
    writer = start("python", "writer", name, "-n", "0", "--delay-ms", "100000", "--json-output")
    # The first frame is through.
    assert b"relaying: 1 frame," in relay.stderr.readline()
    writer.send_signal(signal.SIGINT)
    written = report(writer, 130)
    assert written["interrupted"] is True and written["frames_written"] == 1
    # With its writer gone, the relay ends by itself.
    assert end(relay)[0].startswith(b"relayed 1 frame, 1.0 KiB, in ")
    relay = start("python", "relay", name, f"{name}-2", "--timeout-ms", "-1", "--json-output")
    created(name)
    # It may have ended with that writer, which closed at once.
    relay.send_signal(signal.SIGINT)
    relay.communicate(timeout=60)
    assert relay.returncode in (0, 130)
    reader.send_signal(signal.SIGINT)
    assert report(reader, 130)["frames_read"] == 1



def test_a_stalled_output_keeps_no_reader_from_ending(start, name):
    reader = start("python", "reader", name, "--output", "-", "--batch-size", "3")
    writer = start("python", "writer", name, "-n", "200", "-s", "1M")
    # No process reads more than this.
    assert select.select([reader.stdout], [], [], 60)[0]
    reader.send_signal(signal.SIGINT)
    assert reader.wait(timeout=60) == 130
    writer.communicate(timeout=60)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_relay_holds_frames_for_a_reader_that_comes_later(start, name, language):
    relay = start("python", "relay", name, f"{name}-2", "--create-output", "--buffer-size", "1M", "--json-output")
    end(start(language, "writer", name, "-n", "20"))
    reader = start(language, "reader", f"{name}-2", "--verify", "sequential", "--json-output")
    assert report(reader)["frames_read"] == 20
    assert report(relay)["frames_lost"] == 0


def test_frames_that_are_never_fetched_are_reported_as_lost_alike(start, name):
    found = {}
    for language in LANGUAGES:
        relay = start(language, "relay", name, f"{name}-2", "--create-output", "--timeout-ms", "3000", "--json-output")
        end(start("python", "writer", name, "-n", "5"))
        found[language] = report(relay, 3)
        assert found[language]["frames_lost"] == 5
    assert found["python"]["errors"] == found["rust"]["errors"]
    assert list(found["python"]) == list(found["rust"])


def test_checksums_need_no_package():
    # The published digests of nothing and of "abc"; longer ones are compared with the Rust command's above.
    assert xxh3.pure_digest(b"") == 0x2D06800538D394C2
    assert xxh3.pure_digest(b"abc") == 0x78AF5F94892F3950
    state = xxh3._Pure()
    data = pattern._random(9, 5000)
    for at in range(0, 5000, 77):
        state.update(data[at : at + 77])
    assert state.intdigest() == xxh3.pure_digest(data)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1001])
def test_random_frames_are_the_same_with_and_without_numpy(size):
    for index in 0, 1, 2**40:
        assert pattern._random(index, size) == pattern._random_numpy(index, size)
    assert pattern._random(0, 8) == (0xE220A8397B1DCDAF).to_bytes(8, "little")
