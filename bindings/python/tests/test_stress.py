"""Random calls by eight threads with closes, forks, signals, cancelled tasks, garbage collection all the time, and exits
at random moments: no program that uses the package hangs, aborts, prints what is not its own or leaves files."""

import os
import subprocess
import sys
import time
from pathlib import Path

from conftest import leftovers

#: How long, in all. `ZEROBUFFER_STRESS_SECONDS` says otherwise.
SECONDS = float(os.environ.get("ZEROBUFFER_STRESS_SECONDS", "25"))


def test_random_calls_do_no_harm(name):
    until, seed = time.monotonic() + SECONDS, int(os.environ.get("ZEROBUFFER_STRESS_SEED", time.time_ns() % 10**6))
    rounds = 0
    while time.monotonic() < until:
        seed, rounds = seed + 1, rounds + 1
        command = [sys.executable, str(Path(__file__).with_name("stress.py")), f"{name}-{seed}", str(seed), "3"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, ""), f"seed {seed}: exit code {done.returncode}\n{done.stdout[-5000:]}"
        assert not leftovers(f"{name}-{seed}"), f"seed {seed}"
    assert rounds > 1
