"""Writes the docstrings of the native module into its stub, where editors look for them.

The docstrings live in the Rust sources. `python tools/stub_docs.py` writes the stub; the tests compare.
"""

import ast
import inspect
import sys
from pathlib import Path

STUB = Path(__file__).parents[1] / "python/zerobuffer/_native.pyi"


def docstring_of(module, path):
    """The runtime docstring of a class or of one of its members; None for private ones."""
    thing = module
    for name in path:
        if name.startswith("_") and not (name.startswith("__") and len(path) == 1):
            return None
        thing = inspect.getattr_static(thing, name, None)
        thing = getattr(thing, "__func__", thing)
    text = getattr(thing, "__doc__", None)
    return inspect.cleandoc(text) if text else None


def quoted(text, indent):
    lines = [line and " " * indent + line for line in text.replace("\\", "\\\\").split("\n")]
    lines[0] = f'{" " * indent}"""{lines[0].strip()}'
    if len(lines) == 1:
        return [lines[0] + '"""']
    return [*lines, " " * indent + '"""']


def render(source, module):
    """The stub with today's docstrings."""
    lines = source.split("\n")
    edits = []

    def visit(body, path, indent):
        for node in body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if any(getattr(decorator, "attr", "") == "setter" for decorator in node.decorator_list):
                continue
            names = [*path, node.name]
            first = node.body[0]
            is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
            text = docstring_of(module, names)
            new = quoted(text, indent + 4) if text else []
            if isinstance(node, ast.ClassDef):
                if is_doc:
                    edits.append((first.lineno - 1, first.end_lineno, new))
                elif new:
                    edits.append((node.lineno, None, new))
                visit(node.body, names, indent + 4)
            elif is_doc:
                edits.append((first.lineno - 1, first.end_lineno, new))
            elif new:
                # `def f(self) -> int: ...` on one line, or with its end on the last one.
                edits.append((node.end_lineno - 1, None, ("...", new)))

    visit(ast.parse(source).body, [], 0)
    # Backwards, and a class's own after that of the member on its first line.
    for start, end, new in sorted(edits, key=lambda edit: (edit[0], isinstance(edit[2], tuple)), reverse=True):
        if end is not None:
            lines[start:end] = new
        elif isinstance(new, tuple):
            assert lines[start].endswith(": ..."), lines[start]
            lines[start : start + 1] = [lines[start][: -len(" ...")], *new[1]]
        else:
            lines[start:start] = new
    return "\n".join(lines)


if __name__ == "__main__":
    from zerobuffer import _native

    before = STUB.read_text()
    after = render(before, _native)
    STUB.write_text(after)
    print("written" if after != before else "up to date")
    sys.exit(0)
