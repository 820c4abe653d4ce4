"""The commands under test, and how tests run them."""

import functools
import itertools
import json
import os
import select
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

#: Of each language the command, as words. The first is the reference.
COMMANDS = {}
PATIENCE = 60
_numbers = itertools.count()


def reference():
    return next(iter(COMMANDS))


def buffer_name(what):
    return f"zbtest-{os.getpid()}-{what}-{next(_numbers)}"


def exists(buffer):
    return os.path.exists(f"/dev/shm/{buffer}")


class Done:
    """A command that has ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


class Running:
    """A command. It ends when the test ends."""

    def __init__(self, test, language, *arguments, **options):
        # Unbuffered, so that nothing that was heard is lost to what is read at the end.
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, **options}
        # Background jobs of a shell ignore SIGINT; children would inherit that.
        self.process = subprocess.Popen(
            [*COMMANDS[language], *map(str, arguments)],
            restore_signals=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **pipes,
        )
        test.addCleanup(self.end)

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def finish(self, data=None):
        out, err = self.process.communicate(data, timeout=PATIENCE)
        return Done(self.process.returncode, out, (err or b"").decode())

    def end(self):
        """An orderly end, so that no buffer is left."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


def in_each_language(test):
    """Runs a test once for each language, and passes the language to it."""

    @functools.wraps(test)
    def run(self):
        for language in COMMANDS:
            with self.subTest(language=language):
                test(self, language)

    return run


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="zbtest-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def start(self, language, *arguments, **options):
        return Running(self, language, *arguments, **options)

    def wait_until(self, what, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.002)

    def start_reading(self, buffer, language, *arguments, **options):
        """Starts a reader or a relay, and waits for the buffer that it makes."""
        running = self.start(language, *arguments, **options)
        self.wait_until(f"{buffer} never came", lambda: exists(buffer) or running.process.poll() is not None)
        if running.process.poll() is not None:
            self.assertTrue(exists(buffer), running.finish().err)
        return running

    def finish(self, running, code=0, data=None):
        done = running.finish(data)
        self.assertEqual(done.code, code, ((done.out or b"")[-1000:], done.err[-1000:]))
        return done

    def hear(self, running, text):
        """Waits for a line on standard error; returns what has been said until then."""
        said = ""
        while text not in said:
            ready, _, _ = select.select([running.process.stderr], [], [], PATIENCE)
            self.assertTrue(ready, f"{text!r} was not said, but {said!r}")
            line = running.process.stderr.readline().decode()
            self.assertTrue(line, (text, said))
            said += line
        return said

    def run_to_end(self, language, *arguments, code=0, **options):
        return self.finish(self.start(language, *arguments, **options), code)

    def snapshot(self, buffer):
        """What `zerobuffer inspect` tells; nothing if there is no such buffer."""
        shown = subprocess.run(
            [*COMMANDS[reference()], "inspect", buffer, "--json"], capture_output=True, timeout=PATIENCE, check=False)
        return json.loads(shown.stdout) if shown.returncode == 0 else None

    def wait_for_frames(self, buffer, count=1):
        def came():
            view = self.snapshot(buffer)
            return view is not None and view["written_count"] >= count

        self.wait_until(f"{count} frames in {buffer}", came)

    def compare(self, found):
        """The same in every language."""
        first = found[reference()]
        for language, one in found.items():
            self.assertEqual(one, first, language)
        return first
