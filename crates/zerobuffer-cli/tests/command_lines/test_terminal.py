"""What a terminal shows: one line of progress that changes, what is waited for, and nothing stale at the end."""

import os
import pty
import re
import select
import signal
import time

from languages import PATIENCE, Case, buffer_name, in_each_language, reference


class Terminal:
    """The other side of a terminal, as a screen of lines."""

    def __init__(self, case):
        self.master, self.slave = pty.openpty()
        case.addCleanup(lambda: [os.close(file) for file in (self.master, self.slave)])
        self.case = case
        self.bytes = b""

    def take(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.bytes += os.read(self.master, 65536)

    def screen(self):
        """The lines that can be seen: a carriage return with an erasure replaces a line."""
        return [line.split("\r\x1b[K")[-1].strip("\r") for line in self.bytes.decode().split("\n")]

    def wait_for(self, pattern):
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.bytes.decode()):
            self.case.assertLess(time.monotonic(), end, (pattern, self.bytes))
            self.take(0.05)

    def finish(self, running, code):
        """Takes what comes until the command has ended."""
        end = time.monotonic() + PATIENCE
        while running.process.poll() is None:
            self.case.assertLess(time.monotonic(), end)
            self.take(0.02)
        while select.select([self.master], [], [], 0)[0]:
            self.take(0)
        self.case.assertEqual(running.process.returncode, code, self.bytes)


class Progress(Case):
    def on_terminal(self, language, *arguments):
        terminal = Terminal(self)
        environment = {**os.environ, "TERM": "xterm"}
        running = self.start(language, *arguments, stdout=terminal.slave, stderr=terminal.slave, env=environment)
        return terminal, running

    @in_each_language
    def test_progress_is_one_line_and_goes_at_the_end(self, language):
        name = buffer_name("progress")
        terminal, reader = self.on_terminal(language, "reader", name, "--timeout-ms", "-1")
        terminal.wait_for(r"reading: waiting for a writer, \d+ s")
        other, writer = self.on_terminal(language, "writer", name, "-n", "0", "--delay-ms", "1")
        terminal.wait_for(r"reading: \d+ frames?, [\d.]+ \w+, [\d.]+ MiB/s")
        other.wait_for(r"writing: \d+ frames?, [\d.]+ \w+, [\d.]+ MiB/s")
        writer.signal(signal.SIGINT)
        other.finish(writer, 130)
        terminal.finish(reader, 0)
        for screen, done in ((other.screen(), "wrote"), (terminal.screen(), "read")):
            self.assertEqual(len(screen), 2, screen)
            self.assertRegex(screen[0], rf"^{done} \d+ frames, ")
            self.assertEqual(screen[1], "")

    @in_each_language
    def test_ctrl_c_leaves_no_stale_line(self, language):
        for command in ("reader", "writer", "relay"):
            name = buffer_name("stale")
            arguments = [command, name, *([f"{name}-2"] if command == "relay" else [])]
            terminal, running = self.on_terminal(language, *arguments, "--timeout-ms", "-1", "-v")
            terminal.wait_for(r"(reading|writing|relaying): waiting for (a writer|the reader), \d+ s")
            running.signal(signal.SIGINT)
            terminal.finish(running, 130)
            screen = terminal.screen()
            self.assertRegex(screen[-2], r"^(read|wrote|relayed) 0 frames, .*; interrupted$")
            self.assertEqual(screen[-3], "zerobuffer: info: ended by a signal")
            self.assertFalse([line for line in screen if re.match(r"(reading|writing|relaying):", line)], screen)

    @in_each_language
    def test_a_count_is_shown_and_long_lines_are_cut(self, language):
        name = buffer_name("count")
        self.start_reading(name, reference(), "reader", name, "--timeout-ms", "-1", "--keep")
        terminal, writer = self.on_terminal(language, "writer", name, "-n", "600", "--delay-ms", "1")
        terminal.wait_for(r"writing: \d+ of 600 frames, [\d.]+ \w+, [\d.]+ MiB/s")
        terminal.finish(writer, 0)

    @in_each_language
    def test_without_a_terminal_progress_is_plain_lines(self, language):
        name = buffer_name("lines")
        into = buffer_name("into")
        self.start_reading(name, reference(), "reader", name, "--timeout-ms", "-1", "--keep")
        relay = self.start_reading(into, language, "relay", into, name, "--log-interval", "2")
        self.run_to_end(reference(), "writer", into, "-n", "5", "-s", "1K")
        lines = self.finish(relay).err.splitlines()
        self.assertEqual(len(lines), 2)
        for line, count, size in zip(lines, (2, 4), ("2.0", "4.0")):
            self.assertRegex(line, rf"^relaying: {count} frames, {size} KiB, [\d.]+ MiB/s$")
