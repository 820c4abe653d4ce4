"""Whether every name in the tables of docs/API.md exists in Rust, C, C++, C# and Python, with the defaults that stand there.

Run by `cargo xtask conformance` with an interpreter that has the Python package. Rust, C++, C and C# are read as text: what their
compilers make of it, other tests see. Python is asked.
"""

import inspect
import re
import sys
from pathlib import Path

import zerobuffer
import zerobuffer.duplex
import zerobuffer.inspect

ROOT = Path(__file__).resolve().parent.parent

# Which types the operations of a row belong to, as Rust calls them; the other languages have the same names, but for OTHER_TYPES.
ROWS = {
    "config": ["BufferConfig", "WaitStrategy"],
    "create a buffer": ["Reader"],
    "connect": ["Writer", "WriterOptions"],
    "peer there?": ["Reader", "Writer"],
    "read": ["Reader"],
    "read, borrowed": ["Reader"],
    "read the newest, passing over those before it": ["Reader"],
    "a file descriptor for event loops": ["Reader", "Writer"],
    "frame": ["Frame"],
    "release": ["Frame", "Reader"],
    "write": ["Writer"],
    "write in place": ["Writer", "FrameMut"],
    "... without a guard": ["Writer"],
    "metadata": ["Reader", "Writer"],
    "write time-out": ["Writer"],
    "counters": ["Reader", "Writer"],
    "what it did and holds": ["Reader", "Writer"],
    "one callback when there is news": ["Reader", "Writer"],
    "wait for many at once": ["WaitSet"],
    "futures": ["Reader", "Writer", "FrameStream"],
    "interrupt a blocked call": ["Reader", "Writer", "InterruptHandle"],
    "what huge pages it got": ["Reader"],
    "keep a buffer for a later reader": ["KeptBuffer"],
    "allow and request payload sharing": ["BufferConfig", "WriterOptions"],
    "forward without a copy": ["Writer", "Forwarded"],
    "... into a buffer of one's own": ["SharedWriter", "Writer"],
    "... after a change in place": ["Frame"],
    "... or of a private copy, where others may look at the bytes": ["Frame"],
    "... and its figures": ["Reader", "Writer"],
    "one reader, many outputs": ["Tee", "tee"],
    "... with a filter before them": ["Tee"],
    "... and what each of them got": ["Tee", "TeeOutput"],
    "... metadata that comes late": ["Tee"],
    "... interrupted": ["Tee"],
    "health": ["inspect"],
    "clean-up": ["cleanup", "Leftover"],
    "close": ["Reader", "Writer"],
    "factory": ["DuplexChannelFactory"],
    "server that answers with its own bytes": ["DuplexChannelFactory"],
    "server that changes requests in place": ["DuplexChannelFactory"],
    "client": ["DuplexChannelFactory", "ClientOptions"],
    "start": ["ImmutableDuplexServer", "ProcessingMode"],
    "handler, immutable": ["Request"],
    "answer in place": ["ImmutableDuplexServer", "ResponseWriter", "ResponseMut"],
    "answer in place, without a guard": ["ResponseWriter"],
    "handler, mutable": ["MutableFrame"],
    "request": ["Request", "MutableFrame"],
    "processing": ["ProcessingMode", "ImmutableDuplexServer", "MutableDuplexServer"],
    "stop, running?, wait for its end": ["ImmutableDuplexServer", "MutableDuplexServer"],
    "callbacks": ["ImmutableDuplexServer", "MutableDuplexServer"],
    "send": ["DuplexClient"],
    "largest request": ["DuplexClient"],
    "send in place": ["DuplexClient", "RequestBuffer"],
    "receive the next": ["DuplexClient"],
    "receive one": ["DuplexClient"],
    "send and receive": ["DuplexClient"],
    "a descriptor, and a callback, for responses": ["DuplexClient"],
    "cancel": ["DuplexClient"],
    "response": ["Response"],
    "server there?": ["DuplexClient"],
    "describe the client": ["DuplexClient"],
}
CLOSE_DUPLEX = ["DuplexClient"]

# What stands for a type of Rust's elsewhere.
OTHER_TYPES = {
    "inspect": ["inspect", "Inspect"],
    "Request": ["Frame"],
    "MutableFrame": ["Frame"],
    "Response": ["Frame", "DuplexResponse"],
    "ResponseMut": [],
    "FrameMut": [],
    "RequestBuffer": [],
    "ImmutableDuplexServer": ["ImmutableDuplexServer", "IImmutableDuplexServer", "IDuplexServer"],
    "MutableDuplexServer": ["MutableDuplexServer", "IDuplexServer"],
    "DuplexChannelFactory": ["DuplexChannelFactory", "IDuplexChannelFactory"],
}

# Words of the languages and their libraries in cells.
WORDS = {
    "Rust": "default Deref DerefMut Fn Cow async",
    "C++": "reader void const",
    "C#": "new Action IBufferWriter",
    "Python": "reader writer async for with as view Callable Ctrl",
}
# Python's protocols behind what a cell says of them.
PYTHON_SPECIAL = {"len": "__len__", "bytes": "__bytes__", "for": "__iter__", "with": "__enter__", "DLPack": "__dlpack__"}

# C# exceptions that are not named after their kind, as docs/API.md says.
CSHARP_ERRORS = {"OutOfMemory": "OutOfSharedMemory", "System": "SystemError"}

# Members of C# that every object has, and those of interfaces of .NET.
CSHARP_OBJECTS = {"Equals", "GetHashCode", "ToString", "==", "!=", "Advance", "GetMemory", "GetSpan"}

# C++ names whose C name is another one; None: C has no need of it.
C_NAMES = {
    "frames": None,
    "latest_frames": None,
    "read_frame_async": None,
    "read_latest_frame_async": None,
    "write_frame_async": None,
    "BufferConfig": "zb_config_new",
    "Reader": "zb_reader_create",
    "Writer": "zb_writer_connect",
    "KeptBuffer": "zb_kept_buffer_create",
    "WaitStrategy": "zb_wait_strategy",
    "ProcessingMode": "zb_processing_mode",
    "single_thread": "ZB_SINGLE_THREAD",
    "thread_pool": "ZB_THREAD_POOL",
    "WriterOptions": "zb_writer_options_new",
    "ClientOptions": "zb_client_options_new",
    "inspect": None,
    "IDuplexChannelFactory": None,
    "getInstance": None,
    "createImmutableServer": "zb_server_create_immutable",
    "createMutableServer": "zb_server_create_mutable",
    "createClient": "zb_client_connect",
    "RequestHandler": "zb_handler",
    "startInPlace": "zb_server_start",
    "ResponseWriter": "zb_responder",
    "write": "zb_responder_reply",
    "native_handle": "zb_reader_fd",
    "release": "zb_frame_release",
    "release_frame": "zb_frame_release",
    "interrupt": "zb_interrupt_fire",
    "snapshot": "zb_inspect_snapshot",
    "list": "zb_inspect_list",
    "data": "data",
    "size": "size",
    "sequence": "sequence",
    "end_of_stream": "ZB_END_OF_STREAM",
    "Frame": "zb_frame",
    "mutable_span": "zb_frame_mutable_data",
    "time_left": "zb_frame_time_left_ns",
    "is_cancelled": "zb_frame_is_cancelled",
    "make_mut": "zb_frame_make_mut",
    "to_mut": "zb_frame_to_mut",
    "is_shared": "zb_frame_is_shared",
    "huge_page_bytes": "zb_reader_get_huge_page_bytes",
    "SharedWriter": "zb_shared_writer_create",
    "Tee": "zb_tee_create",
    **dict.fromkeys(["payload_sharing_enabled", "payload_share_count", "payload_owner_pid"], "zb_payload_sharing"),
    **dict.fromkeys(["valid", "span", "begin", "end", "invalid"]),
}
C_PREFIXES = {
    "BufferConfig": "config",
    "Reader": "reader",
    "Writer": "writer",
    "WriterOptions": "writer_options",
    "ClientOptions": "client_options",
    "KeptBuffer": "kept_buffer",
    "Tee": "tee",
    "DuplexClient": "client",
    "ImmutableDuplexServer": "server",
    "MutableDuplexServer": "server",
    "ResponseWriter": "responder",
}

failures = []


def fail(text):
    failures.append(text)
    print(f"PARITY {text}")


def snake(name):
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def tables():
    """The tables of the page: (section, column names, rows of cells)."""
    section, table = "", None
    for line in (ROOT / "docs/API.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if table is None:
                table = (section, cells, [])
            elif not set(line) <= set("|-"):
                table[2].append(cells)
        elif table is not None:
            yield table
            table = None


def names(cell, settings):
    """The names that a cell's code speaks of: outside of parentheses all, inside those that are set, where a language can."""
    for code in re.findall(r"`([^`]+)`", cell):
        code = re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", code))
        depth = 0
        for token in re.finditer(r"[A-Za-z_][A-Za-z0-9_]*|[()\[\]]", code):
            text, after = token.group(), code[token.end() : token.end() + 1]
            if text in "([":
                depth += 1
            elif text in ")]":
                depth -= 1
            elif depth == 0 or settings and after == "=":
                yield text


def rust_surface():
    """Members of each type, and of each module."""
    surface, macros = {}, {}
    for path in sorted((ROOT / "crates/zerobuffer/src").rglob("*.rs")):
        owner, macro = None, None
        module = surface.setdefault(path.stem, set())
        for line in path.read_text().splitlines():
            if line == "}":
                owner = macro = None
            if found := re.match(r"macro_rules! (\w+)", line):
                macro = macros.setdefault(found[1], set())
            if found := re.match(r"impl(?:<[^>]*>)? (\w+)(?:<[^>]*>)? \{", line):
                owner = surface.setdefault(found[1], set())
            if found := re.match(r"pub (?:struct|enum|type|trait) (\w+)", line):
                owner = surface.setdefault(found[1], set()) if line.startswith("pub enum") else None
                surface.setdefault(found[1], set())
            if found := re.match(r"pub (?:const )?(?:async )?fn (\w+)", line):
                module.add(found[1])
            if found := re.match(r"\s+pub (?:const )?(?:async )?fn (\w+)", line):
                for target in (macro, owner):
                    if target is not None:
                        target.add(found[1])
            if owner is not None and (found := re.match(r"    ([A-Z]\w+)[,( {]", line)):
                owner.add(found[1])
            if owner is not None and (found := re.match(r"    (\w+)!\(", line)):
                owner |= macros.get(found[1], set())
    return surface


def cpp_surface():
    surface, bases = {}, {}
    for path in sorted((ROOT / "bindings/cpp/include/zerobuffer").rglob("*.h")):
        owner, module = None, surface.setdefault(path.stem, set())
        for line in path.read_text().splitlines():
            if re.match(r"\s*(//|/?\*)", line):
                continue
            if found := re.match(r"(?:class|struct|enum class) (\w+)[^;]*$", line):
                owner = surface.setdefault(found[1], set())
                if base := re.search(r" : public (?:\w+::)*(\w+)", line):
                    bases[found[1]] = base[1]
            elif line.startswith("};"):
                owner = None
            elif found := re.match(r"using (\w+) =", line):
                surface.setdefault(found[1], set())
            elif owner is not None and re.match(r"    \S", line):
                owner |= set(re.findall(r"(\w+)(?=\()", line)[:1]) | set(re.findall(r"^    (\w+) = ", line))
            elif owner is None and (found := re.match(r"\S.*?(\w+)\(", line)):
                module.add(found[1])
    for name, base in bases.items():
        surface[name] |= surface.get(base, set())
    return surface


def csharp_surface():
    """Public members of each type, from the sources; members of an interface belong to the class that implements it too."""
    surface, bases = {}, {}
    for path in sorted((ROOT / "bindings/csharp/src/ZeroBuffer").rglob("*.cs")):
        owner, is_interface = None, False
        for line in path.read_text().splitlines():
            if found := re.match(r"public (?:(?:static|sealed|abstract|unsafe|readonly|partial) )*(?:class|struct|record struct|record|interface|enum|delegate \S+) (\w+)(.*)", line):
                owner = surface.setdefault(found[1], set())
                is_interface = " interface " in line
                bases.setdefault(found[1], set()).update(re.findall(r"\w+", found[2].partition(" : ")[2]))
            elif line.startswith("}"):
                owner = None
            elif owner is not None and (found := re.match(r"    (\w+) = [^;]*,$", line)):
                owner.add(found[1])
            elif owner is not None and re.match(r"    public " if not is_interface else r"    \w[^=]* \w", line):
                # What stands before the arguments, the accessors or the body, without type parameters.
                head = re.split(r"\(| \{| => | = |;", line.strip())[0]
                owner.add(re.split(r"[ .]", re.sub(r"<[^<>]*>$", "", head))[-1])
    for name, own in bases.items():
        for base in own:
            surface[name] |= surface.get(base, set())
    return surface


def python_surface():
    surface = {"inspect": set(dir(zerobuffer.inspect))}
    for module in (zerobuffer, zerobuffer.duplex, zerobuffer.inspect, zerobuffer._native):
        for name, value in vars(module).items():
            if inspect.isclass(value):
                surface.setdefault(name, set()).update(dir(value))
                surface[name].update(getattr(value, "__annotations__", ()))
    signatures = (ROOT / "bindings/python/python/zerobuffer/_native.pyi").read_text()
    for name in ("BufferConfig", "Writer", "DuplexClient"):
        settings = re.search(rf'class {name}:\n(?:    """.*?"""\n)?    def __new__\((.*?)\) ->', signatures, re.S)
        surface[name].update(re.findall(r"(\w+):", settings[1]))
    for method in re.finditer(r"def \w+\(([^)]*)\)", signatures):
        surface.setdefault("arguments", set()).update(re.findall(r"(\w+):", method[1]))
    return surface


def check_operations(surfaces, header):
    checked = 0
    for section, columns, rows in tables():
        if columns[0] != "what" or "Rust" not in columns:
            continue
        for cells in rows:
            row = dict(zip(columns, cells))
            what = cells[0]
            types = CLOSE_DUPLEX if what == "close" and section.startswith("Duplex") else ROWS.get(what)
            if types is None:
                fail(f"docs/API.md has a row `{what}` that verification/parity.py does not know")
                continue
            for language, surface in surfaces.items():
                if not row[language]:
                    fail(f"docs/API.md: the row `{what}` says nothing about {language}; `-` stands for nothing")
                # The same words as in the column before it, in the language's own casing.
                same = row[language] == "same"
                cell = next(row[one] for one in (language, "C++", "Rust") if row[one] != "same")
                for name in names(cell, settings=language == "Python"):
                    checked += 1
                    own = snake(name) if same and language == "Python" else name
                    check_name(language, surface, types, what, own)
                    if language == "C++":
                        check_c(header, types, what, name)
    return checked


def check_name(language, surface, types, what, name):
    own = types if language == "Rust" else [other for one in types for other in OTHER_TYPES.get(one, [one])]
    members = set().union(*(surface.get(one, set()) for one in own))
    if language == "Python":
        name = PYTHON_SPECIAL.get(name, name)
        if name in surface["arguments"]:
            return
    if name in members or name in surface or name in WORDS[language].split():
        return
    fail(f"{language} has no `{name}` ({what}: {', '.join(own)})")


def check_c(header, types, what, name):
    prefixes = {C_PREFIXES[one] for one in types if one in C_PREFIXES}
    wanted = [f"zb_{prefix}_{snake(name)}" for prefix in sorted(prefixes)]
    if name in C_NAMES:
        if C_NAMES[name] is None:
            return
        wanted.append(C_NAMES[name])
    if name not in WORDS["C++"].split() and name not in C_PREFIXES and not any(one in header for one in wanted):
        fail(f"C has no `{name}` ({what}): none of {', '.join(wanted)}")


def check_documented(surface):
    """Operations of C# that neither docs/API.md nor docs/CSHARP.md names. The types of health are documented in the sources."""
    words = set(re.findall(r"\w+", (ROOT / "docs/API.md").read_text() + (ROOT / "docs/CSHARP.md").read_text()))
    types = {other for types in ROWS.values() for one in types for other in OTHER_TYPES.get(one, [one])}
    types |= {"DuplexClient", "IDuplexClient", "FrameBuilder", "ZeroBufferRuntime", "SequenceErrorException"}
    for name in sorted((types - {"WaitStrategy"}) & surface.keys()):
        for member in sorted(surface[name] - words - CSHARP_OBJECTS - {name}):
            fail(f"{name}.{member} stands neither in docs/API.md nor in docs/CSHARP.md")


def check_errors(surfaces, header):
    kinds = [cells[0] for section, columns, rows in tables() if columns[0] == "kind" for cells in rows]
    for kind in kinds:
        python = kind if kind.endswith("Error") else f"{kind}Error"
        if kind not in surfaces["Rust"]["ErrorKind"]:
            fail(f"Rust has no ErrorKind::{kind}")
        if f"{snake(kind)}_exception" not in surfaces["C++"]:
            fail(f"C++ has no {snake(kind)}_exception")
        if f"ZB_ERROR_{snake(kind).upper()}" not in header:
            fail(f"C has no ZB_ERROR_{snake(kind).upper()}")
        csharp = CSHARP_ERRORS.get(kind, kind)
        if f"{csharp}Exception" not in surfaces["C#"] or kind not in surfaces["C#"]["ErrorKind"]:
            fail(f"C# has no {csharp}Exception, or no ErrorKind.{kind}")
        # An orderly close is no exception in Python, but an invalid frame.
        if kind != "WriterClosed" and python not in surfaces["Python"]:
            fail(f"Python has no {python}")
    return len(kinds)


def text_has(where, pattern):
    text = (ROOT / where).read_text()
    if not re.search(pattern, text):
        fail(f"{where} says another default: nothing like {pattern}")


def check_defaults():
    """The numbers of the page, in each language's own words. What a buffer is really made with, the scenario `defaults` sees."""
    page = {cells[0]: cells[1] for _, columns, rows in tables() if columns == ["what", "default"] for cells in rows}

    def number(what):
        return int(re.search(r"[\d,]+", page[what])[0].replace(",", ""))

    payload, metadata = number("payload"), number("metadata block")
    wait, connect = number("read and write time-out"), number("connect time-out")
    config = zerobuffer.BufferConfig()
    for what, told, is_so in (
        ("payload", payload, config.payload_size),
        ("metadata block", metadata, config.metadata_size),
        ("file mode", int(page["file mode"], 8), config.mode),
        ("a duplex client's time-out for sending", wait, number("a duplex client's time-out for sending")),
    ):
        if told != is_so:
            fail(f"{what}: {told} in docs/API.md, {is_so} in Python")
    rust, cpp = "crates/zerobuffer/src/config.rs", "bindings/cpp/include/zerobuffer/config.h"
    stub = "bindings/python/python/zerobuffer/_native.pyi"
    text_has(rust, rf"DEFAULT_PAYLOAD_SIZE: usize = {payload >> 20} (<< 20|\* 1024 \* 1024);")
    text_has(rust, rf"DEFAULT_METADATA_SIZE: usize = {metadata};")
    text_has(rust, rf"DEFAULT_TIMEOUT: Duration = Duration::from_(secs\({wait // 1000}|millis\({wait})\);")
    text_has(cpp, rf"default_timeout_ms = {wait};")
    text_has("bindings/cpp/include/zerobuffer/reader.h", r"read_frame\(timeout_t timeout_ms = default_timeout_ms\)")
    text_has("crates/zerobuffer-ffi/src/config.rs", r"DEFAULT_TIMEOUT_MS: i64 = zerobuffer::DEFAULT_TIMEOUT")
    for given in ("def read_frame(self, timeout_ms", "write_timeout_ms", "request_timeout_ms"):
        text_has(stub, re.escape(given) + rf": Optional\[float\] = {wait}\b")
    text_has(stub, rf"connect_timeout_ms: Optional\[float\] = {connect}\b")
    csharp = "bindings/csharp/src/ZeroBuffer/"
    text_has(csharp + "BufferConfig.cs", rf"DefaultPayloadSize = {payload >> 20}L \* 1024 \* 1024;")
    text_has(csharp + "BufferConfig.cs", rf"DefaultMetadataSize = {metadata};")
    text_has(csharp + "Native/Milliseconds.cs", rf"Default = {wait};")
    text_has(csharp + "Reader.cs", r"ReadFrame\(\) => TryTake\(out Frame frame\) \? frame : Read\(Milliseconds\.Default,")
    for options, names in (("WriterOptions.cs", "Write"), ("DuplexChannel/ClientOptions.cs", "Request")):
        text_has(csharp + options, rf"{names}Timeout {{ get; set; }} = TimeSpan\.FromMilliseconds\(Milliseconds\.Default\);")
        text_has(csharp + options, r"ConnectTimeout { get; set; }\n")
    return len(page)


def main():
    header = set(re.findall(r"\w+", (ROOT / "crates/zerobuffer-ffi/include/zerobuffer/zerobuffer_c.h").read_text()))
    surfaces = {"Rust": rust_surface(), "C++": cpp_surface(), "C#": csharp_surface(), "Python": python_surface()}
    checked = check_operations(surfaces, header)
    check_documented(surfaces["C#"])
    kinds, defaults = check_errors(surfaces, header), check_defaults()
    # A page that is not understood would show nothing.
    if checked < 250 or kinds < 25 or defaults < 8:
        fail(f"docs/API.md has only {checked} names, {kinds} errors, {defaults} defaults; is it still read aright?")
    print(f"API parity: {checked} names, {kinds} errors, {defaults} defaults; {len(failures)} failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
