"""The examples of the README, as a reader would copy them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy")

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
READER, WRITER, *OTHERS = BLOCKS

#: What each of the others prints.
PRINTS = [
    "127.0\n200.0\n",
    "b'tick'\nb'tock'\n",
    "b'HELLO'\n",
    "NAME-no-such-buffer - buffer `NAME-no-such-buffer`: ",
    "",
]


def program(lines, name):
    """With buffers of its own."""
    for used in ["greetings", "camera", "ticks", "upper-case", "no-such-buffer"]:
        lines = lines.replace(f'"{used}"', f'"{name}-{used}"')
    command = [sys.executable, "-W", "error", "-c", lines]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(process):
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def test_the_first_frame(name):
    # In whatever order they are started.
    writer = program(WRITER, name)
    reader = program(READER, name)
    assert end(writer) == ""
    assert end(reader) == "1 b'hello'\n2 b'world'\n"


@pytest.mark.parametrize("lines, prints", list(zip(OTHERS, PRINTS)), ids=["numpy", "asyncio", "duplex", "errors", "handlers"])
def test_an_example(name, lines, prints):
    assert len(OTHERS) == len(PRINTS)
    said = end(program(lines, name))
    expected = prints.replace("NAME", name)
    assert said == expected or (expected.endswith(": ") and said.startswith(expected))
