"""The package in type checkers and editors."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from zerobuffer import _native

HERE = Path(__file__).parent
ACCEPTED, REFUSED = HERE / "typed/accepted.py", HERE / "typed/refused.py"

#: The lines that must not pass.
WRONG = [number for number, line in enumerate(REFUSED.read_text().splitlines(), 1) if line.startswith(("factory.", "DuplexClient(", "zerobuffer."))]


def mypy(path, version, cache):
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", version, "--cache-dir", str(cache), str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert errors or done.returncode == 0, done.stdout
    return sorted({int(line.split(":")[1]) for line in errors}), done.stdout


def pyright(path, version):
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonversion", version, "--pythonpath", sys.executable, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        found = json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        pytest.fail(f"pyright did not run: {done.stdout}{done.stderr}")
    errors = [one for one in found if one["severity"] == "error"]
    return sorted({one["range"]["start"]["line"] + 1 for one in errors}), json.dumps(errors, indent=1)


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_mypy_accepts_and_refuses(version, tmp_path):
    lines, said = mypy(ACCEPTED, version, tmp_path)
    assert not lines, said
    lines, said = mypy(REFUSED, version, tmp_path)
    assert lines == WRONG, said


@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_pyright_accepts_and_refuses(version):
    lines, said = pyright(ACCEPTED, version)
    assert not lines, said
    lines, said = pyright(REFUSED, version)
    assert lines == WRONG, said


def test_the_stub_has_the_docstrings_of_the_module():
    specification = importlib.util.spec_from_file_location("stub_docs", HERE.parent / "tools/stub_docs.py")
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    stub = tool.STUB.read_text()
    assert tool.render(stub, _native) == stub, "run python tools/stub_docs.py"
    assert '"""Waits for the next frame.' in stub
