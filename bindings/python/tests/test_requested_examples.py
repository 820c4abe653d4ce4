"""Every Python example of the requested API, as written, and every declaration."""

import ast
import inspect
import re
import threading
from pathlib import Path

import pytest

import zerobuffer
from conftest import CONFIG
from zerobuffer import duplex

np = pytest.importorskip("numpy")

BLOCKS = re.findall(r"```python\n(.*?)```", Path(__file__).with_name("requested_examples.md").read_text(), re.DOTALL)
DECLARATIONS = [block for block in BLOCKS if block.startswith(("# Python Interface", "# Python Factory"))]
BASICS, PIPELINE, SERVER, CLIENT = [block for block in BLOCKS if block not in DECLARATIONS]


class Program(threading.Thread):
    """Runs an example with a buffer name of this test; what it defines is in `names`."""

    def __init__(self, lines, name, **names):
        super().__init__()
        for asked in ["buffer-name", "raw-frames", "enhanced-frames", "image-processing"]:
            lines = lines.replace(f'"{asked}"', f'"{name}-{asked}"')
        self.code, self.names, self.error = compile(lines, "requested_examples.md", "exec"), names, None
        self.start()

    def run(self):
        try:
            exec(self.code, self.names)
        except BaseException as error:
            self.error = error

    def end(self):
        self.join(60)
        assert not self.is_alive()
        if self.error:
            raise self.error


def test_the_basic_example(name):
    reader_lines, writer_lines = BASICS.split("# Writer (connects to buffer)")
    reader = Program(reader_lines, name)
    while True:
        try:
            writer = Program("import zerobuffer\n" + writer_lines + "\nwriter.close()", name)
            writer.end()
            break
        except zerobuffer.BufferNotFoundError:
            assert reader.is_alive()
    reader.end()
    assert reader.names["reader"].frames_read == 1
    assert reader.names["data"].shape == (1024,)
    reader.names.clear()


def test_the_pipeline_example(name):
    last = zerobuffer.Reader(f"{name}-enhanced-frames", CONFIG)
    stage = Program(PIPELINE, name, zerobuffer=zerobuffer, config=CONFIG, enhance_image=lambda image: image // 2)
    with zerobuffer.Writer(f"{name}-raw-frames", connect_timeout_ms=20_000) as camera:
        camera.write_frames(bytes([n]) * 100 for n in range(50))
    stage.end()
    stage.names["writer"].close()
    assert [bytes(frame) for frame in last] == [bytes([n // 2]) * 100 for n in range(50)]
    last.close()
    stage.names.clear()


def test_the_server_and_the_client_example(name):
    saved = {}
    server = Program(SERVER, name, apply_filters=lambda data: data[::-1])
    server.end()
    client = Program(CLIENT, name, load_image=lambda path: path.encode(), save_image=saved.__setitem__)
    client.end()
    assert saved == {"output.jpg": b"gpj.tupni"}
    client.names["client"].close()
    server.names["server"].stop()
    server.names.clear()
    client.names.clear()


def declared():
    for block in DECLARATIONS:
        for node in ast.parse(block).body:
            assert isinstance(node, ast.ClassDef)
            yield node


@pytest.mark.parametrize("node", list(declared()), ids=lambda node: node.name)
def test_declarations_are_kept(node):
    there = getattr(duplex, node.name)
    implementation = {
        "IDuplexClient": duplex.DuplexClient,
        "IDuplexServer": duplex.MutableDuplexServer,
        "IImmutableDuplexServer": duplex.ImmutableDuplexServer,
        "IMutableDuplexServer": duplex.MutableDuplexServer,
        "IDuplexChannelFactory": duplex.DuplexChannelFactory,
    }.get(node.name, there)
    for base in node.bases:
        if base.id not in ("ABC", "Enum"):
            assert issubclass(there, getattr(duplex, base.id))
    for member in node.body:
        if isinstance(member, ast.Assign) and "Enum" in [base.id for base in node.bases]:
            assert there[member.targets[0].id].value == member.value.value
        if not isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        wanted = [argument.arg for argument in member.args.args]
        for owner in (there, implementation):
            attribute = inspect.getattr_static(owner, member.name)
            if any(getattr(decorator, "id", "") == "property" for decorator in member.decorator_list):
                assert isinstance(attribute, property) or inspect.isdatadescriptor(attribute)
                continue
            function = getattr(owner, member.name)
            got = [name for name in inspect.signature(function).parameters]
            assert got[: len(wanted) - 1] == wanted[1:] or got[: len(wanted)] == wanted, (owner, member.name)
            if owner is implementation:
                assert inspect.iscoroutinefunction(function) == isinstance(member, ast.AsyncFunctionDef)
