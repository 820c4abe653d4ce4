"""The same cases against the command line of every language: `zerobuffer`, `zerobuffer-cpp`, `python -m zerobuffer`, ...

Usage: run.py NAME=COMMAND ... [-- ARGUMENTS OF unittest]
       run.py rust=target/debug/zerobuffer "python=venv/bin/python -m zerobuffer" -- -k fifo

The first command is the reference that the others are compared with. It must be `zerobuffer`, which looks at buffers, too.
"""

import io
import multiprocessing
import os
import sys
import unittest
from pathlib import Path

import languages

#: Processes that run tests. Tests mostly wait for the commands.
JOBS = 4


class Share(unittest.TestSuite):
    """Tests whose numbers are read from a pipe, as the other processes read them: each test is run by the first that is free."""

    _cleanup = False

    def __init__(self, tests, numbers):
        super().__init__()
        self.tests, self.numbers = tests, numbers

    def __iter__(self):
        while number := os.read(self.numbers, 1):
            yield self.tests[number[0]]


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def run_share(share, options):
    said = io.StringIO()
    done = unittest.TextTestRunner(said, **options).run(share)
    # At once, so that no other process's lines come between.
    sys.stderr.write(said.getvalue())
    sys.exit(not done.wasSuccessful())


class Runner:
    """Runs tests in several processes, and ends this one."""

    def __init__(self, **options):
        self.options = options

    def run(self, suite):
        tests = list(flat(suite))
        numbers, end = os.pipe()
        os.write(end, bytes(range(len(tests))))
        # So that no process waits for more.
        os.close(end)
        fork = multiprocessing.get_context("fork")
        processes = [fork.Process(target=run_share, args=(Share(tests, numbers), self.options)) for _ in range(JOBS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        failed = not tests or any(process.exitcode != 0 for process in processes)
        print(f"{len(tests)} tests in {JOBS} processes: {'FAILED' if failed else 'OK'}", file=sys.stderr)
        sys.exit(failed)


def main():
    arguments = sys.argv[1:]
    rest = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    named = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if not named or not all("=" in argument for argument in named):
        sys.exit(__doc__)
    languages.COMMANDS.update((name, command.split()) for name, command in (argument.split("=", 1) for argument in named))
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = __import__(file.stem)
        globals().update({name: value for name, value in vars(module).items() if isinstance(value, type)})
    unittest.main(module=__name__, argv=[sys.argv[0], *rest], warnings="ignore", testRunner=Runner)


if __name__ == "__main__":
    main()
