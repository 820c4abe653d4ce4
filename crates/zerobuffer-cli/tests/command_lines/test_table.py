"""A table of command lines: exit codes, fields and words are the same in every language."""

import os
import re
import subprocess

from languages import COMMANDS, Case, buffer_name, in_each_language, reference

#: Command lines that cannot be understood. NAME stands for a buffer.
BAD = [
    [],
    ["paint", "NAME"],
    ["writer"],
    ["writer", "NAME", "-s", "0"],
    ["writer", "NAME", "-s", "12x"],
    ["writer", "NAME", "-s", "99999999999G"],
    ["writer", "NAME", "-n", "-1"],
    ["writer", "NAME", "--pattern", "blue"],
    ["writer", "NAME", "-m", "a", "--metadata-file", "b"],
    ["writer", "NAME", "--input", "-", "--pattern", "zero"],
    ["writer", "NAME", "--timeout-ms", "-2"],
    ["writer", "NAME", "--batch-size", "0"],
    ["writer", "NAME", "--nope"],
    ["reader", "NAME", "--batch-size", "0"],
    ["reader", "NAME", "--frame", "1"],
    ["reader", "NAME", "--verify", "all"],
    ["reader", "NAME", "--mode", "rw"],
    ["reader", "NAME", "--mode", "0o600"],
    ["reader", "NAME", "extra"],
    ["reader", "NAME", "--nope"],
    ["relay"],
    ["relay", "NAME"],
    ["relay", "NAME", "b", "c"],
    ["relay", "NAME", "b", "--nope"],
    ["relay", "NAME", "b", "-x"],
    ["relay", "NAME", "b", "--xor-key", "256"],
    ["relay", "NAME", "b", "--transform", "rot13"],
    ["relay", "NAME", "b", "--buffer-size", "0"],
    ["relay", "NAME", "b", "--metadata-size", "x"],
]

#: Commands that fail: the exit code, and a part of the message that is the command's own.
FAILURES = [
    (["writer", "NAME", "--timeout-ms", "0"], 1, "waited 0 ms; see --timeout-ms"),
    (["writer", "NAME", "--timeout-ms", "60"], 1, "waited 60 ms; see --timeout-ms"),
    (["writer", "a/b"], 3, ""),
    (["writer", "NAME", "--metadata-file", "/nowhere/x"], 3, "--metadata-file /nowhere/x: No such file"),
    (["writer", "NAME", "--metadata-file", "/"], 3, "--metadata-file /: Is a directory"),
    (["writer", "NAME", "--input", "/nowhere/x"], 3, "--input /nowhere/x: No such file"),
    (["writer", "NAME", "--input", "/"], 3, "--input /: Is a directory"),
    (["reader", "NAME", "--timeout-ms", "0"], 2, "no frame within 0 ms; start the writer"),
    (["reader", "NAME", "--timeout-ms", "70", "--checksum"], 2, "no frame within 70 ms"),
    (["reader", ""], 3, ""),
    (["reader", "NAME", "--output", "/nowhere/x"], 3, "--output /nowhere/x: No such file"),
    (["reader", "NAME", "--output", "/"], 3, "--output /: Is a directory"),
    (["reader", "NAME", "--mode", "44"], 3, ""),
    (["reader", "NAME", "--buffer-size", "3"], 3, ""),
    (["reader", "NAME", "--metadata-size", "15999999T".replace("T", "G")], None, ""),
    (["relay", "NAME", "NAME"], 4, "IN and OUT are the same buffer"),
    (["relay", "NAME", "NAME-2", "--timeout-ms", "60"], 2, "waited 60 ms"),
    (["relay", "NAME", "NAME-2", "--timeout-ms", "60", "--create-output"], 1, "no frame within 60 ms; start its writer"),
    (["relay", "NAME", "NAME-2", "--mode", "44"], 4, ""),
    (["relay", "a/b", "NAME"], 4, ""),
    (["relay", "NAME", "a/b"], 4, ""),
]

#: The fields of the JSON objects that do not say how long something took.
TIMES = ("duration_seconds", "throughput_mbps")


class Table(Case):
    def test_command_lines_that_cannot_be_understood(self):
        for arguments in BAD:
            arguments = [word.replace("NAME", buffer_name("bad")) for word in arguments]
            code = 4 if arguments[:1] == ["relay"] else 3
            for language in COMMANDS:
                with self.subTest(language=language, arguments=arguments):
                    done = self.run_to_end(language, *arguments, code=code)
                    self.assertEqual(done.out, b"")
                    self.assertTrue(done.err.strip())

    def test_failures_are_told_alike(self):
        for arguments, code, part in FAILURES:
            with self.subTest(arguments=arguments):
                found = {}
                for language in COMMANDS:
                    name = buffer_name("fail")
                    done = self.start(language, *[word.replace("NAME", name) for word in arguments], "--json-output").finish()
                    report = {key: value for key, value in done.json.items() if key not in TIMES}
                    self.assertEqual(len(report["errors"]), 1)
                    self.assertIn(f"zerobuffer: error: {report['errors'][0]}\n", done.err)
                    self.assertIn(part, report["errors"][0])
                    if code is not None:
                        self.assertEqual(done.code, code, (language, done.err))
                    text = repr((list(done.json), report, done.code))
                    found[language] = text.replace(name, "NAME")
                self.compare(found)

    def test_every_language_has_the_same_options(self):
        for command in ("writer", "reader", "relay"):
            found = {}
            for language in COMMANDS:
                text = self.run_to_end(language, command, "--help").out.decode()
                options = set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", text))
                # Some commands tell their version anywhere, and `-m` is how Python starts its own.
                found[language] = options - {"--version", "-V", "-m", "--metadata"} | ({"-m"} & options if command == "writer" else set())
            self.compare(found)

    @in_each_language
    def test_help_fits_a_terminal_and_names_every_exit_code(self, language):
        for arguments in (["--help"], ["writer", "--help"], ["reader", "-h"], ["relay", "--help"]):
            done = self.run_to_end(language, *arguments, env={**os.environ, "COLUMNS": "80"})
            text = done.out.decode()
            self.assertEqual([line for line in text.splitlines() if len(line) > 80], [], arguments)
            if len(arguments) > 1:
                flat = " ".join(text.split())
                for code in ("Exit codes: 0 ", " 5 results not printed", " 130 ended by Ctrl-C"):
                    self.assertIn(code, flat)
        self.assertIn(b"2.", self.run_to_end(language, "--version").out)

    @in_each_language
    def test_names_reach_the_terminal_escaped_and_json_whole(self, language):
        for name, seen in (("zb\x1b[31m\n\x7f", "zb\\x1b[31m\\x0a\\x7f"), ("zb\u009b5m\u202e", "zb\\x9b5m\\u202e")):
            for arguments in (["reader", name, "--timeout-ms", "0", "-v"], ["writer", name, "--timeout-ms", "0"], ["relay", name, "zb", "--timeout-ms", "0", "-v"]):
                done = self.start(language, *arguments).finish()
                self.assertIn(seen, done.err)
                done_json = self.start(language, *arguments, "--json-output").finish()
                report = done_json.json
                self.assertEqual(report.get("buffer_name", report.get("input_buffer")), name)
                texts = done.err, done.out.decode(), done_json.err, done_json.out.decode()
                for character in "\x1b\x7f\u009b\u202e":
                    self.assertFalse([text for text in texts if character in text])
                for line in (*done.err.splitlines(), *done_json.err.splitlines()):
                    self.assertTrue(line.startswith("zerobuffer: "), line)

    @in_each_language
    def test_an_argument_that_is_no_utf8_ends_without_a_crash(self, language):
        for arguments in (["reader", b"zb\x9b31m"], ["reader", "NAME", b"--\x9b\x1b"]):
            arguments = [word.replace("NAME", buffer_name("bytes")) if isinstance(word, str) else word for word in arguments]
            done = subprocess.run([*COMMANDS[language], *arguments], capture_output=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertFalse(set(done.stderr) & set(b"\x1b"))
            self.assertNotIn(b"Traceback", done.stderr)
            done.stderr.decode()

    @in_each_language
    def test_sizes_are_refused_before_memory_is_taken(self, language):
        huge = self.folder / "huge"
        with open(huge, "wb") as file:
            file.truncate(1 << 42)
        name = buffer_name("size")
        self.start_reading(name, reference(), "reader", name, "--keep", "--timeout-ms", "-1")
        for arguments, part in (
            (["--size", "99999999999"], ""),
            (["--size", "400M"], ""),
            (["--metadata-file", huge], "metadata"),
            (["--metadata-file", "/dev/zero"], "metadata"),
            (["--input", "/dev/zero", "--size", "8191P".replace("P", "G")], ""),
        ):
            # 1 GiB of address space for this is plenty.
            limited = ["sh", "-c", 'ulimit -v 2500000; exec "$@"', "sh", *COMMANDS[language]]
            done = subprocess.run(
                [*limited, "writer", name, "-n", "1", *map(str, arguments), "--json-output"],
                capture_output=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 2, (arguments, done.stderr))
            self.assertIn(part.encode(), done.stdout.split(b'"errors":')[1])

    @in_each_language
    def test_few_descriptors_are_no_bad_arguments(self, language):
        # Fewer than a language needs to start at all prove nothing.
        name = buffer_name("files")
        tried = 0
        for limit in (4, 5, 6, 7, 8, 9, 10, 12, 14, 18, 22, 28, 36, 44, 52, 60):
            shell = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *COMMANDS[language]]
            if subprocess.run([*shell, "--version"], capture_output=True, timeout=60, check=False).returncode != 0:
                continue
            for command, codes in (("reader", {1, 2}), ("writer", {1, 2}), ("relay", {1, 2, 3})):
                arguments = [command, name, *([f"{name}-2"] if command == "relay" else []), "--timeout-ms", "0"]
                # Of two files, the second one may be the one that is too many.
                files = {
                    "reader": ["--output", self.folder / "o"],
                    "writer": ["--metadata-file", "/dev/null", "--input", "/dev/null"],
                }.get(command, [])
                done = subprocess.run(
                    [*shell, *arguments, *map(str, files)], capture_output=True, timeout=60, check=False)
                self.assertIn(done.returncode, codes, (command, limit, done.stderr))
                tried += 1
        self.assertGreater(tried, 5)

    @in_each_language
    def test_modes_sizes_and_memory_are_as_asked_for(self, language):
        name = buffer_name("mode")
        self.start_reading(
            name, language, "reader", name, "--mode", "640", "--preallocate", "--buffer-size", "1M", "--metadata-size", "64")
        self.wait_until("all memory", lambda: (self.snapshot(name) or {"memory": 0})["memory"] > 1 << 20)
        view = self.snapshot(name)
        self.assertEqual((view["mode"], view["payload_size"], view["metadata_size"]), ("0640", 1 << 20, 64))
        into, out = buffer_name("in"), buffer_name("out")
        self.start_reading(
            out, language, "relay", into, out, "--create-output", "--mode", "0660", "--metadata-size", "128",
            "--buffer-size", "1M", "--huge-pages", "--numa-node", "-1")
        self.wait_until("all memory", lambda: (self.snapshot(out) or {"memory": 0})["memory"] > 1 << 20)
        for buffer in (into, out):
            self.wait_until(buffer, lambda buffer=buffer: self.snapshot(buffer) is not None)
            view = self.snapshot(buffer)
            self.assertEqual((view["mode"], view["metadata_size"]), ("0660", 128))
            self.assertGreater(view["memory"], 1 << 20)
