"""Standard streams that are closed, full or slow, and files that are FIFOs."""

import errno
import os
import signal
import subprocess
import time

from languages import COMMANDS, PATIENCE, Case, buffer_name, exists, in_each_language, reference

FRAMES = ["-n", "5", "-s", "100000", "--pattern", "ones"]
DATA = b"\xff" * 500_000


def shell(redirections, language, *arguments):
    """A command line for sh(1), which can start commands with streams closed."""
    words = ["sh", "-c", f'exec "$@" {redirections}', "sh", *COMMANDS[language], *map(str, arguments)]
    return words


class Streams(Case):
    def read_data(self, language, redirections, *options, stderr=subprocess.DEVNULL):
        """What a reader writes to standard output, and its exit code; its writer must not notice anything."""
        name = buffer_name("streams")
        reader = subprocess.Popen(
            shell(redirections, language, "reader", name, "--output", "-", *options), stdout=subprocess.PIPE, stderr=stderr)
        self.addCleanup(reader.kill)
        writer = self.start(reference(), "writer", name, *FRAMES)
        out, _ = reader.communicate(timeout=PATIENCE)
        self.finish(writer)
        self.assertFalse(exists(name))
        return out, reader.returncode

    @in_each_language
    def test_frames_arrive_whatever_standard_error_is(self, language):
        full = open("/dev/full", "wb")
        self.addCleanup(full.close)
        unread, closed = os.pipe()
        os.close(unread)
        self.addCleanup(os.close, closed)
        for options in ([], ["--checksum"], ["--json-output"], ["-v", "--checksum"], ["--verify", "zero", "-s", "0"]):
            code = 4 if "--verify" in options else 0
            for redirections, stderr in (("2>&-", None), ("", full), ("", closed)):
                with self.subTest(options=options, redirections=redirections, stderr=stderr):
                    self.assertEqual(self.read_data(language, redirections, *options, stderr=stderr), (DATA, code))

    @in_each_language
    def test_a_standard_error_that_nobody_reads_holds_up_no_frames(self, language):
        unread, stalled = os.pipe()
        self.addCleanup(os.close, unread)
        self.addCleanup(os.close, stalled)
        os.set_blocking(stalled, False)
        # Full, but for a command it is a stream as any other.
        while True:
            try:
                os.write(stalled, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(stalled, True)
        start = time.monotonic()
        self.assertEqual(self.read_data(language, "", "--checksum", "-v", stderr=stalled), (DATA, 0))
        self.assertLess(time.monotonic() - start, 20)

    @in_each_language
    def test_results_that_do_not_reach_standard_output_are_no_success(self, language):
        name = buffer_name("results")
        self.start_reading(name, reference(), "reader", name, "--keep", "--timeout-ms", "-1")
        for arguments in (
            ["writer", name, "-n", "1"], ["writer", name, "-n", "1", "--json-output"], ["--help"], ["relay", "--help"], ["--version"],
        ):
            for redirections in (">&-", ">/dev/full"):
                with self.subTest(arguments=arguments, redirections=redirections):
                    done = subprocess.run(
                        shell(redirections, language, *arguments), capture_output=True, timeout=PATIENCE, check=False)
                    self.assertEqual(done.returncode, 5, done.stderr)
                    self.assertIn(b"cannot write to standard output", done.stderr)
        # What has failed already says so, whatever becomes of its report.
        failed = subprocess.run(
            shell(">&-", language, "writer", name + "-2", "--timeout-ms", "0", "--json-output"),
            capture_output=True, timeout=PATIENCE, check=False)
        self.assertEqual(failed.returncode, 1)

    @in_each_language
    def test_a_closed_pipe_is_no_failure_of_text_but_of_json(self, language):
        for arguments, code in ((["--help"], 0), (["writer"], 0), (["writer", "--json-output"], 5)):
            if arguments[0] == "writer":
                name = buffer_name("pipe")
                self.start_reading(name, reference(), "reader", name, "--keep", "--timeout-ms", "-1")
                arguments = ["writer", name, "-n", "1", *arguments[1:]]
            unread, pipe = os.pipe()
            os.close(unread)
            done = self.start(language, *arguments, stdout=pipe)
            os.close(pipe)
            self.finish(done, code)

    @in_each_language
    def test_data_that_does_not_reach_its_output_is_a_read_error(self, language):
        for redirections in (">&-", ">/dev/full", "| true"):
            name = buffer_name("data")
            command = shell("", language, "reader", name, "--output", "-", "--json-output")
            if redirections == "| true":
                unread, pipe = os.pipe()
                os.close(unread)
                self.addCleanup(os.close, pipe)
                reader = subprocess.Popen(command, stdout=pipe, stderr=subprocess.PIPE)
            else:
                reader = subprocess.Popen(
                    shell(redirections, language, "reader", name, "--output", "-", "--json-output"), stderr=subprocess.PIPE)
            self.addCleanup(reader.kill)
            writer = self.start(reference(), "writer", name, *FRAMES)
            _, err = reader.communicate(timeout=PATIENCE)
            self.assertEqual(reader.returncode, 2, err)
            self.assertIn(b"cannot write to --output -", err)
            writer.finish()

    @in_each_language
    def test_input_from_a_closed_stream_is_no_empty_input(self, language):
        name = buffer_name("stdin")
        self.start_reading(name, reference(), "reader", name, "--keep", "--timeout-ms", "-1")
        done = subprocess.run(
            shell("<&-", language, "writer", name, "--input", "-"), capture_output=True, timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(os.strerror(errno.EBADF).encode(), done.stderr)

    @in_each_language
    def test_files_never_become_standard_streams(self, language):
        path = self.folder / "data"
        for closed in ("0<&-", ">&-", "2>&-", "0<&- >&-", "0<&- >&- 2>&-"):
            name = buffer_name("closed")
            # A writer that dies makes the reader say something.
            reader = subprocess.Popen(
                shell(closed, language, "reader", name, "--output", path, "-v", "-s", "7"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.addCleanup(reader.kill)
            self.run_to_end(reference(), "writer", name, *FRAMES)
            reader.communicate(timeout=PATIENCE)
            self.assertEqual(reader.returncode, 4)
            self.assertEqual(path.read_bytes(), DATA, closed)


class Fifos(Case):
    def fifo(self):
        path = self.folder / "fifo"
        if not path.exists():
            os.mkfifo(path)
        return path

    @in_each_language
    def test_ctrl_c_ends_a_command_whose_fifo_has_no_other_end(self, language):
        for number in (signal.SIGINT, signal.SIGTERM):
            name = buffer_name("fifo")
            reader = self.start_reading(name, language, "reader", name, "--output", self.fifo(), "--json-output")
            self.interrupt(reader, number)
            self.assertFalse(exists(name))
            self.start_reading(name, reference(), "reader", name, "--keep", "--timeout-ms", "-1")
            for option in ("--input", "--metadata-file"):
                writer = self.start(language, "writer", name, option, self.fifo(), "--json-output", "--timeout-ms", "-1")
                self.wait_until("a writer", lambda: self.snapshot(name)["writer"]["pid"] == writer.process.pid)
                self.interrupt(writer, number)

    def interrupt(self, running, number):
        # The signals are taken over before the buffer is there.
        start = time.monotonic()
        running.signal(number)
        done = self.finish(running, 130)
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual((done.json["interrupted"], done.json["errors"]), (True, []))

    @in_each_language
    def test_frames_wait_for_the_reader_of_a_fifo(self, language):
        name = buffer_name("late")
        reader = self.start_reading(name, language, "reader", name, "--output", self.fifo(), "--json-output")
        self.run_to_end(reference(), "writer", name, *FRAMES)
        with open(self.fifo(), "rb") as fifo:
            self.assertEqual(fifo.read(), DATA)
        self.assertEqual(self.finish(reader).json["frames_read"], 5)

    @in_each_language
    def test_a_writer_waits_for_the_writer_of_a_fifo(self, language):
        name = buffer_name("source")
        path = self.folder / "out"
        reader = self.start_reading(name, reference(), "reader", name, "--output", path, "--timeout-ms", "-1")
        writer = self.start(language, "writer", name, "--input", self.fifo(), "-s", "70000", "--json-output")
        self.wait_until("a writer", lambda: self.snapshot(name)["writer"]["pid"] == writer.process.pid)
        with open(self.fifo(), "wb") as fifo:
            fifo.write(DATA)
        self.assertEqual(self.finish(writer).json["bytes"], len(DATA))
        self.finish(reader)
        self.assertEqual(path.read_bytes(), DATA)

    @in_each_language
    def test_metadata_comes_through_a_fifo(self, language):
        name = buffer_name("metadata")
        reader = self.start_reading(name, reference(), "reader", name, "--json-output", "--timeout-ms", "-1")
        writer = self.start(language, "writer", name, "-n", "1", "--metadata-file", self.fifo())
        with open(self.fifo(), "wb") as fifo:
            fifo.write(b"of a test")
        self.finish(writer)
        self.assertEqual(self.finish(reader).json["metadata_size"], 9)
