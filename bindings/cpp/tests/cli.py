"""zerobuffer-cpp beside zerobuffer: the same options, fields, exit codes and words, and streams between the two.

Usage: cli.py RUST_COMMAND CPP_COMMAND
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import unittest

RUST, CPP = sys.argv.pop(1), sys.argv.pop(1)
PATIENCE = 60
names = itertools.count()


def name(what):
    return f"zbtest-cli-{os.getpid()}-{what}-{next(names)}"


def exists(buffer):
    return os.path.exists("/dev/shm/" + buffer)


class Running:
    """A command, ended when the test ends."""

    def __init__(self, test, *arguments):
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.end)

    def end(self):
        """In good order, so that no buffer is left."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if not self.process.stdout.closed:
            self.process.communicate()

    def finish(self):
        """Exit code, JSON or text of standard output, standard error."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, json.loads(out) if out.startswith("{") else out, err


class Streams(unittest.TestCase):
    def start(self, *arguments):
        return Running(self, *arguments)

    def start_reading(self, buffer, *arguments):
        """Starts a reader or relay, and waits for the buffer that it makes."""
        running = self.start(*arguments)
        end = time.monotonic() + PATIENCE
        while not exists(buffer):
            self.assertIsNone(running.process.poll(), running.process.returncode)
            self.assertLess(time.monotonic(), end, "no buffer came")
            time.sleep(0.002)
        return running

    def finish(self, running, code=0):
        found, out, err = running.finish()
        self.assertEqual(found, code, err)
        return out

    def stream(self, writer, relay, reader, count, size, pattern):
        into, out = name("in"), name("out")
        how = ["-n", str(count), "--json-output"]
        reading = self.start_reading(
            out, reader, "reader", out, *how, "-s", str(size), "--verify", pattern, "--checksum", "--buffer-size", "16M")
        relaying = self.start_reading(into, relay, "relay", into, out, *how, "--buffer-size", "16M")
        writing = self.start(writer, "writer", into, *how, "-s", str(size), "--pattern", pattern, "-m", "of a test")
        reports = [self.finish(running) for running in (writing, relaying, reading)]
        for report, counted in zip(reports, ("frames_written", "frames_relayed", "frames_read")):
            self.assertEqual(
                (report[counted], report["bytes"], report["frame_size"], report["metadata_size"], report["errors"]),
                (count, count * size, size, 9, []))
        self.assertFalse(exists(into) or exists(out))
        return reports

    def test_streams_go_through_either_language_and_arrive_with_the_same_checksums(self):
        for count, size, pattern in [(2000, 333, "random"), (12, 3_110_400, "sequential")]:
            seen = {}
            for languages in itertools.product((RUST, CPP), repeat=3):
                reports = self.stream(*languages, count, size, pattern)
                seen[languages] = (reports[2]["checksums"], [list(report) for report in reports])
            first = seen[(RUST, RUST, RUST)]
            for languages, found in seen.items():
                self.assertEqual(found, first, languages)
            self.assertEqual(len(first[0]["frames"]), count)

    def test_transforms_are_the_same(self):
        for transform in (["--transform", "reverse"], ["--transform", "xor", "--xor-key", "90"]):
            sums = []
            for relay in (RUST, CPP):
                into, out = name("in"), name("out")
                reading = self.start_reading(out, CPP, "reader", out, "-n", "50", "--checksum", "--json-output")
                relaying = self.start_reading(into, relay, "relay", into, out, "-n", "50", "--json-output", *transform)
                self.finish(self.start(RUST, "writer", into, "-n", "50", "--pattern", "random"))
                self.assertEqual(self.finish(relaying)["transform"], transform[1])
                sums.append(self.finish(reading)["checksums"])
            self.assertEqual(*sums)

    def test_real_data_comes_out_as_it_went_in(self):
        data = os.urandom(1_000_003)
        for writer, reader in ((RUST, CPP), (CPP, RUST), (CPP, CPP)):
            buffer = name("data")
            path = f"/tmp/{buffer}"
            self.addCleanup(lambda path=path: os.path.exists(path) and os.remove(path))
            reading = self.start_reading(buffer, reader, "reader", buffer, "--output", path, "--json-output")
            writing = subprocess.run(
                [writer, "writer", buffer, "--input", "-", "-s", "64K", "--json-output"], input=data, capture_output=True,
                timeout=PATIENCE, check=True)
            self.assertEqual(json.loads(writing.stdout)["frames_written"], 16)
            self.assertEqual(self.finish(reading)["bytes"], len(data))
            with open(path, "rb") as file:
                self.assertEqual(file.read(), data)

    def test_control_c_ends_each_command_with_its_summary(self):
        for command in ("writer", "reader", "relay"):
            reports = []
            for program in (RUST, CPP):
                into, out = name("in"), name("out")
                if command == "reader":
                    running = self.start_reading(into, program, "reader", into, "--json-output", "--timeout-ms", "-1")
                else:
                    self.start_reading(out, RUST, "reader", out, "--timeout-ms", "-1", "--keep")
                    if command == "writer":
                        running = self.start(program, "writer", out, "-n", "0", "--delay-ms", "1", "--json-output")
                    else:
                        running = self.start_reading(
                            into, program, "relay", into, out, "--json-output", "--timeout-ms", "-1")
                if command == "writer":
                    end = time.monotonic() + PATIENCE
                    while self.written(out) == 0:
                        self.assertLess(time.monotonic(), end)
                        time.sleep(0.005)
                running.process.send_signal(signal.SIGINT)
                report = self.finish(running, 130)
                self.assertTrue(report["interrupted"])
                self.assertEqual(report["errors"], [])
                reports.append(list(report))
            self.assertEqual(*reports)

    def written(self, buffer):
        shown = subprocess.run([RUST, "inspect", buffer, "--json"], capture_output=True, text=True, timeout=PATIENCE)
        return json.loads(shown.stdout)["written_count"] if shown.returncode == 0 else 0


class Ends(unittest.TestCase):
    """Each situation ends with the same code, the same words and the same fields in both languages."""

    def both(self, code, *arguments, buffer=None):
        """`{}` stands for the buffer."""
        ends = []
        for program in (RUST, CPP):
            own = buffer or name("end")
            found, out, err = Running(self, program, *[part.replace("{}", own) for part in arguments]).finish()
            self.assertEqual(found, code, (program, arguments, err))
            shape = {key: type(value).__name__ for key, value in out.items()} if isinstance(out, dict) else None
            words = [text.replace(own, "BUFFER") for text in out["errors"]] if isinstance(out, dict) else None
            ends.append((shape, words))
        self.assertEqual(*ends)
        return ends[0]

    def test_bad_command_lines(self):
        for bad in (
            [], ["writer"], ["writer", "{}", "-s", "0"], ["writer", "{}", "-s", "12x"], ["writer", "{}", "-n", "-1"],
            ["writer", "{}", "--pattern", "blue"], ["writer", "{}", "-m", "a", "--metadata-file", "b"],
            ["writer", "{}", "--input", "-", "--pattern", "zero"], ["reader", "{}", "--batch-size", "0"],
            ["reader", "{}", "--timeout-ms", "-2"], ["reader", "{}", "extra"], ["reader", "{}", "--nonsense"],
            ["reader", "{}", "--classic", "--classic"], ["nonsense"],
        ):
            self.both(3, *bad)
        for bad in (["relay", "{}"], ["relay", "{}", "{}-2", "--xor-key", "256"], ["relay", "{}", "{}-2", "--transform", "x"]):
            self.both(4, *bad)
        self.assertEqual(self.both(4, "relay", "{}", "{}", "--json-output")[1], ["IN and OUT are the same buffer: a relay needs two"])

    def test_help_and_version(self):
        for arguments in (["--help"], ["--version"], ["reader", "--help"]):
            self.both(0, *arguments)

    def test_writers_without_a_reader(self):
        self.both(1, "writer", "{}", "--timeout-ms", "0", "--json-output")
        _, words = self.both(1, "writer", "{}", "--timeout-ms", "60", "--json-output")
        self.assertIn("waited 60 ms; see --timeout-ms", words[0])
        self.both(3, "writer", "a/b", "--json-output", buffer="a/b")
        self.both(3, "writer", "{}", "--input", "/nonexistent", "--json-output")
        self.both(3, "writer", "{}", "--metadata-file", "/nonexistent", "--json-output")

    def test_readers_without_a_writer(self):
        self.both(2, "reader", "{}", "--timeout-ms", "30", "--json-output")
        self.both(2, "reader", "{}", "--timeout-ms", "0", "--checksum", "--json-output")
        self.both(3, "reader", "{}", "--output", "/nonexistent/file", "--json-output")
        self.both(1, "relay", "{}", "{}-2", "--create-output", "--timeout-ms", "30", "--json-output")
        self.both(2, "relay", "{}", "{}-2", "--timeout-ms", "30", "--json-output")

    def test_wrong_frames_and_missing_ones(self):
        for arguments, code in (
            (["--verify", "sequential"], 4), (["-s", "5"], 4), (["-n", "5"], 2), (["-n", "2", "--verify", "zero"], 0),
        ):
            ends = []
            for program in (RUST, CPP):
                buffer = name("wrong")
                reading = Running(self, program, "reader", buffer, "--json-output", *arguments)
                writing = Running(self, CPP, "writer", buffer, "-n", "3", "--pattern", "zero")
                found, report, err = reading.finish()
                self.assertEqual(found, code, err)
                writing.end()
                times = ("duration_seconds", "throughput_mbps", "buffer_name")
                ends.append((
                    {key: value for key, value in report.items() if key not in (*times, "errors")},
                    [text.replace(buffer, "BUFFER") for text in report["errors"]],
                    [line.replace(buffer, "BUFFER") for line in err.splitlines()]))
            self.assertEqual(*ends)

    def test_a_summary_for_people(self):
        for program in (RUST, CPP):
            buffer = name("people")
            reading = Running(self, program, "reader", buffer, "-n", "4", "--checksum")
            writing = Running(self, program, "writer", buffer, "-n", "4")
            for running, done in ((writing, "wrote"), (reading, "read")):
                code, out, err = running.finish()
                self.assertEqual((code, err), (0, ""))
                self.assertRegex(
                    out.splitlines()[-1], rf"^{done} 4 frames, 4\.0 KiB, in \d+\.\d{{3}} s: \d+\.\d MiB/s, \d+ frames/s")


if __name__ == "__main__":
    unittest.main()
