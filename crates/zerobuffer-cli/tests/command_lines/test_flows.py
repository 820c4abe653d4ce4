"""Frames from each language to each, and what becomes of a stream that is cut."""

import itertools
import os
import re
import signal

from languages import COMMANDS, Case, buffer_name, exists, in_each_language, reference

TIMES = ("duration_seconds", "throughput_mbps", "buffer_name", "input_buffer", "output_buffer")


class Flows(Case):
    def stream(self, writer, relay, reader, count, size, pattern, *options):
        into, out = buffer_name("in"), buffer_name("out")
        # A runtime that starts on a busy machine takes seconds.
        how = ["-n", count, "--json-output", "--timeout-ms", "30000"]
        reading = self.start_reading(
            out, reader, "reader", out, *how, "-s", size, "--checksum", "--buffer-size", "16M",
            *([] if options else ["--verify", pattern]))
        relaying = self.start_reading(into, relay, "relay", into, out, *how, "--buffer-size", "16M", *options)
        writing = self.start(writer, "writer", into, *how, "-s", size, "--pattern", pattern, "-m", "größe")
        reports = [self.finish(running).json for running in (writing, relaying, reading)]
        for report, counted in zip(reports, ("frames_written", "frames_relayed", "frames_read")):
            self.assertEqual(
                (report[counted], report["bytes"], report["frame_size"], report["metadata_size"], report["errors"]),
                (count, count * size, size, 7, []))
        self.assertTrue(reports[1]["metadata_relayed"])
        self.assertFalse(exists(into) or exists(out))
        return reports

    def test_frames_go_from_each_language_to_each(self):
        kinds = [(1000, 333, "random"), (6, 3_110_400, "sequential"), (300, 64, "zero"), (300, 65, "ones")]
        for count, size, pattern in kinds:
            seen = {}
            # The other patterns are simple.
            for languages in itertools.islice(self.ways(), None if pattern in ("random", "sequential") else 3):
                reports = self.stream(*languages, count, size, pattern)
                seen[languages] = (reports[2]["checksums"], [list(report) for report in reports])
            first = next(iter(seen.values()))
            for languages, found in seen.items():
                self.assertEqual(found, first, languages)
            self.assertEqual(len(first[0]["frames"]), count)

    def ways(self):
        """Writer, relay and reader: every pair of neighbours, and the reference alone."""
        first = reference()
        yield first, first, first
        for one, other in itertools.permutations(COMMANDS, 2):
            yield one, other, one
        for one in list(COMMANDS)[1:]:
            yield one, one, one

    def test_transforms_are_the_same(self):
        for options in (["--transform", "reverse"], ["--transform", "xor", "--xor-key", "90"], ["--transform", "none"]):
            self.compare({
                relay: self.stream(reference(), relay, reference(), 50, 1001, "random", *options)[2]["checksums"] for relay in COMMANDS
            })

    def test_real_data_comes_out_as_it_went_in(self):
        data = os.urandom(1_000_003)
        for writer, reader in itertools.product(COMMANDS, repeat=2):
            name = buffer_name("data")
            path = self.folder / "data"
            reading = self.start_reading(name, reader, "reader", name, "--output", path, "--json-output")
            writing = self.start(writer, "writer", name, "--input", "-", "-s", "64K", "--json-output", stdin=-1)
            self.assertEqual(self.finish(writing, data=data).json["frames_written"], 16)
            self.assertEqual(self.finish(reading).json["bytes"], len(data))
            self.assertEqual(path.read_bytes(), data)

    def test_wrong_and_missing_frames_are_told_alike(self):
        for arguments, code in ((["--verify", "sequential"], 4), (["-s", "5"], 4), (["-n", "5"], 2), (["-n", "2", "--verify", "zero"], 0)):
            found = {}
            for language in COMMANDS:
                name = buffer_name("wrong")
                reading = self.start_reading(name, language, "reader", name, "--json-output", *arguments)
                self.start(reference(), "writer", name, "-n", "3", "--pattern", "zero").finish()
                done = self.finish(reading, code)
                report = {key: value for key, value in done.json.items() if key not in TIMES}
                found[language] = repr((report, done.err)).replace(name, "NAME")
            self.compare(found)

    def test_summaries_are_alike(self):
        found = {}
        for language in COMMANDS:
            name = buffer_name("people")
            reading = self.start_reading(name, language, "reader", name, "-n", "3", "--checksum")
            written = self.run_to_end(language, "writer", name, "-n", "3")
            read = self.finish(reading)
            self.assertEqual((written.err, read.err), ("", ""))
            found[language] = re.sub(rb"[\d.]+ (s|MiB/s|frames/s)\b", rb"_ \1", written.out + read.out)
        self.assertEqual(self.compare(found).count(b"\n"), 5)

    def test_verbose_tells_alike_what_happens_in_a_normal_run(self):
        found = {}
        for language in COMMANDS:
            into, out = buffer_name("in"), buffer_name("out")
            # The writer lives until all commands have started, which takes a runtime a while.
            writing = self.start(
                language, "writer", into, "-n", "3", "-m", "hello", "-v", "--timeout-ms", "-1", "--delay-ms", "1500")
            heard = [self.hear(writing, "waiting for the reader")]
            relaying = self.start(language, "relay", into, out, "-v", "--timeout-ms", "-1", "--log-interval", "0")
            heard.append(self.hear(relaying, "waiting for the reader"))
            reading = self.start(language, "reader", out, "-v", "--timeout-ms", "-1", "--buffer-size", "1M")
            heard.append("")
            running = (writing, relaying, reading)
            # Lines of progress come by the clock.
            said = [re.sub(r"(?m)^(writing|reading): .*\n", "", start + self.finish(one).err) for start, one in zip(heard, running)]
            pids = [one.process.pid for one in running]
            text = repr(said).replace(into, "IN").replace(out, "OUT")
            for pid, role in zip(pids, ("WRITER", "RELAY", "READER")):
                text = text.replace(str(pid), role)
            found[language] = text
        text = self.compare(found)
        for part in (
            "created with 1.0 MiB of payload, 4.0 KiB of metadata, mode 0600; waiting for a writer",
            "`IN`: waiting for the reader", "connected to the reader (pid RELAY)", "5 bytes of metadata are set", "closed after 3 frames",
            "the first frame of the writer (pid WRITER) has come", "5 bytes of metadata are passed on",
            "`IN`: the writer closed; 3 frames so far", "the first frame of the writer (pid RELAY) has come",
        ):
            self.assertIn(part, text)


class Sharing(Case):
    def relayed(self, relay, reader, *options):
        into, out = buffer_name("in"), buffer_name("out")
        how = ["--json-output", "--timeout-ms", "30000", "--buffer-size", "16M"]
        reading = self.start_reading(out, reader, "reader", out, *how, "-s", "40K", "--checksum")
        relaying = self.start_reading(into, relay, "relay", into, out, *how, *options)
        self.run_to_end(reference(), "writer", into, "-n", 300, "-s", "40K", "--delay-ms", "1", "--timeout-ms", "30000")
        report, read = self.finish(relaying).json, self.finish(reading).json
        self.assertEqual((report["frames_shared"] + report["frames_copied"], read["frames_read"]), (300, 300))
        self.assertFalse(exists(into) or exists(out))
        return report["frames_shared"], read["checksums"]["stream"]

    def test_frames_are_shared_between_languages(self):
        for options in ([], ["--transform", "reverse"], ["--transform", "xor", "--xor-key", "3"]):
            copied, sums = self.relayed(reference(), reference(), "--copy", *options)
            self.assertEqual(copied, 0)
            for relay, reader in {*((one, reference()) for one in COMMANDS), *((reference(), one) for one in COMMANDS)}:
                shared, others = self.relayed(relay, reader, *options)
                self.assertGreater(shared, 100, (relay, reader, options))
                self.assertEqual(others, sums, (relay, reader, options))

    @in_each_language
    def test_a_relay_that_is_told_to_copy_shares_nothing(self, language):
        self.assertEqual(self.relayed(language, reference(), "--copy")[0], 0)


class Latest(Case):
    @in_each_language
    def test_the_newest_frame_is_read_and_those_before_it_are_counted(self, language):
        buffer = buffer_name("latest")
        # It stops while frames come, so that it finds many of them at once.
        reading = self.start_reading(
            buffer, language, "reader", buffer, "--latest", "--verify", "sequential", "--size", "100", "--json-output")
        writing = self.start(reference(), "writer", buffer, "-n", "1001", "--size", "100", "--batch-size", "1000", "--delay-ms", "300")
        reading.signal(signal.SIGSTOP)
        self.wait_for_frames(buffer, 1000)
        reading.signal(signal.SIGCONT)
        self.finish(writing)
        report = self.finish(reading).json
        self.assertEqual((report["frames_read"] + report["frames_skipped"], report["verification_errors"]), (1001, 0))
        self.assertGreater(report["frames_skipped"], 500, report)
        self.assertEqual(report["bytes"], 100 * report["frames_read"])

    @in_each_language
    def test_without_the_option_nothing_is_passed_over(self, language):
        buffer = buffer_name("all")
        reading = self.start_reading(buffer, language, "reader", buffer, "--json-output")
        self.run_to_end(reference(), "writer", buffer, "-n", "10")
        report = self.finish(reading).json
        self.assertEqual((report["frames_read"], report.get("frames_skipped")), (10, None))

    @in_each_language
    def test_the_summary_tells_how_many_were_passed_over(self, language):
        buffer = buffer_name("summary")
        reading = self.start_reading(buffer, language, "reader", buffer, "--latest")
        self.run_to_end(reference(), "writer", buffer, "-n", "1")
        self.assertIn("; 0 passed over", self.finish(reading).out.decode())


class Cuts(Case):
    def cut(self, language, *options):
        """A relay whose input's writer is killed after ten frames, and the reader behind it."""
        into, out = buffer_name("in"), buffer_name("out")
        if "--create-output" not in options:
            reading = self.start_reading(out, reference(), "reader", out, "--timeout-ms", "-1", "--json-output")
        relaying = self.start_reading(into, language, "relay", into, out, "--timeout-ms", "20000", "--json-output", *options)
        writing = self.start(reference(), "writer", into, "-n", "0", "--batch-size", "10", "--delay-ms", "1000000")
        self.wait_for_frames(out, 10)
        writing.kill()
        if "--create-output" in options:
            reading = self.start(reference(), "reader", out, "--timeout-ms", "-1", "--json-output")
        return into, out, relaying, reading

    @in_each_language
    def test_the_reader_behind_a_relay_learns_that_the_stream_was_cut(self, language):
        for options in ([], ["--create-output"]):
            into, out, relaying, reading = self.cut(language, *options)
            self.finish(relaying, 1)
            done = self.finish(reading, 2)
            self.assertEqual(done.json["frames_read"], 10)
            self.assertIn("the writer died", done.json["errors"][0])
            self.assertFalse(exists(into) or exists(out))

    @in_each_language
    def test_a_relay_that_gives_up_cuts_the_stream_too(self, language):
        into, out = buffer_name("in"), buffer_name("out")
        reading = self.start_reading(out, reference(), "reader", out, "--timeout-ms", "-1", "--json-output")
        relaying = self.start_reading(into, language, "relay", into, out, "--timeout-ms", "300")
        self.finish(relaying, 1)
        self.finish(reading, 2)

    @in_each_language
    def test_a_stream_that_ends_well_ends_well_behind_a_relay(self, language):
        for options in ([], ["--create-output"]):
            into, out = buffer_name("in"), buffer_name("out")
            if not options:
                reading = self.start_reading(out, reference(), "reader", out, "--timeout-ms", "-1", "--json-output")
            relaying = self.start_reading(into, language, "relay", into, out, "--timeout-ms", "20000", *options)
            self.run_to_end(reference(), "writer", into, "-n", "10")
            if options:
                # Started sooner, the reader would make the buffer itself.
                self.wait_until(f"{out} never came", lambda: exists(out))
                reading = self.start(reference(), "reader", out, "--timeout-ms", "-1", "--json-output")
            self.finish(relaying)
            self.assertEqual(self.finish(reading).json["frames_read"], 10)

    @in_each_language
    def test_ctrl_c_ends_each_command_and_a_relay_closes_its_output(self, language):
        into, out = buffer_name("in"), buffer_name("out")
        reading = self.start_reading(out, language, "reader", out, "--timeout-ms", "-1", "--json-output")
        relaying = self.start_reading(into, language, "relay", into, out, "--timeout-ms", "-1", "--json-output")
        writing = self.start(language, "writer", into, "-n", "0", "--delay-ms", "1", "--json-output")
        self.wait_for_frames(out)
        relaying.signal()
        self.assertTrue(self.finish(relaying, 130).json["interrupted"])
        # The relay has closed its output, so the stream has ended for the reader.
        self.finish(reading)
        self.finish(writing, 2)
        for arguments in (["reader", into], ["writer", into], ["relay", into, out]):
            running = self.start(language, *arguments, "--timeout-ms", "-1", "--json-output", "-v")
            if arguments[0] != "writer":
                self.wait_until("the buffer", lambda: exists(into))
            # A line tells that the signals are taken over.
            line = running.process.stderr.readline()
            self.assertIn(b"waiting for", line)
            running.signal()
            report = self.finish(running, 130).json
            self.assertEqual((report["interrupted"], report["errors"]), (True, []))
            self.assertFalse(exists(into))
