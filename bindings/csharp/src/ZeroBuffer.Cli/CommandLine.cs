using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text;

namespace ZeroBuffer.Cli;

/// <summary>Every option of every command, as the <c>zerobuffer</c> command has them.</summary>
internal static class CommandLine
{
    private const string TimeoutHelp = "; 0 does not wait, -1 waits for as long as it takes. [default: 5000]";
    private const string UnitsHelp = "; K, M and G (1024-based) are understood.";

    private static readonly Dictionary<string, Pattern> Patterns = new(StringComparer.Ordinal)
    {
        ["sequential"] = Pattern.Sequential,
        ["random"] = Pattern.Random,
        ["zero"] = Pattern.Zero,
        ["ones"] = Pattern.Ones,
    };

    /// <summary>What to do; null when nothing is left to do, because help was asked for or the command line is bad.</summary>
    internal static CommandOptions? Parse(string[] arguments, out int code)
    {
        var help = new Option<bool>("--help", "-h") { Description = "Print help.", Recursive = true };
        var version = new Option<bool>("--version", "-V") { Description = "Print the version." };
        var root = new RootCommand("Frames between two processes through shared memory: one writer, one reader, zero copies, no broker.");
        root.Options.Clear();
        root.Directives.Clear();
        root.Options.Add(version);
        root.Options.Add(help);
        Entry[] entries = [Writer(), Reader(), Relay()];
        Array.ForEach(entries, entry => root.Subcommands.Add(entry.Command));

        code = string.Equals(arguments.FirstOrDefault(), "relay", StringComparison.Ordinal) ? ExitCodes.Relay.BadArguments : ExitCodes.BadArguments;
        if (arguments.Length == 0)
        {
            Array.ForEach(HelpText.Of(root, help, "").TrimEnd().Split('\n'), Output.Tell);
            return null;
        }
        // A word of other bytes has reached this program as replacement characters.
        if (!IsUtf8(File.ReadAllBytes("/proc/self/cmdline")))
        {
            return Refuse("the command line is not UTF-8");
        }
        ParseResult parsed = root.Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        Entry? entry = Array.Find(entries, entry => ReferenceEquals(entry.Command, parsed.CommandResult.Command));
        if (parsed.GetValue(help))
        {
            Output.SayText(HelpText.Of(parsed.CommandResult.Command, help, entry?.ExitCodes ?? ""));
            code = ExitCodes.Ok;
            return null;
        }
        if (entry is null && parsed.GetValue(version))
        {
            Output.SayText($"zerobuffer-cs {ZeroBufferRuntime.NativeVersion}\n");
            code = ExitCodes.Ok;
            return null;
        }
        if (parsed.Errors.Count > 0)
        {
            return Refuse(parsed.Errors[0].Message);
        }
        return entry is null ? Refuse("a command is needed: writer, reader or relay") : entry.Build(parsed);
    }

    private static CommandOptions? Refuse(string trouble)
    {
        Output.Tell("error: " + trouble);
        Output.Tell("");
        Output.Tell("For more information, try '--help'.");
        return null;
    }

    private static bool IsUtf8(byte[] bytes)
    {
        try
        {
            _ = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true).GetCharCount(bytes);
            return true;
        }
        catch (DecoderFallbackException)
        {
            return false;
        }
    }

    private static Entry Writer()
    {
        var command = new Command("writer", "Write frames into a buffer that a reader has created, or will create soon.");
        Argument<string> name = Name(command, "NAME", "Name of the buffer.");
        Option<ulong?> frames = Count(command, "-n", "--frames", 0, "COUNT", "Frames to write; 0 for no limit. [default: 1000; with --input, no limit]");
        Option<ulong?> size = Size(command, "-s", "--size", 1, "Bytes per frame. With --input, the last frame may be shorter" + UnitsHelp + " [default: 1024]");
        Option<string?> metadata = Text(command, "-m", "--metadata", "TEXT", "Metadata to set before the first frame.");
        Option<string?> metadataFile = Text(command, null, "--metadata-file", "FILE", "File with the metadata to set before the first frame.");
        Option<Pattern?> pattern = Choice(command, "--pattern", Patterns, "PATTERN", "What the frames hold. [default: sequential]");
        Option<string?> input = Text(command, null, "--input", "FILE|-", "Real data instead of a pattern: a file (or - for standard input), cut into frames.");
        Option<ulong?> delay = Count(command, null, "--delay-ms", 0, "MS", "Pause after each batch, in milliseconds. [default: 0]");
        Option<ulong?> batch = Count(command, null, "--batch-size", 1, "COUNT", "Frames between two pauses. [default: 1]");
        Option<long?> timeout = Timeout(command, "How long to wait for the reader, and then for space for each frame");
        (Option<bool> json, Option<bool> verbose) = Report(command);
        Exclude(command, metadata, metadataFile);
        Exclude(command, pattern, input);
        return new Entry(
            command,
            "0 all frames written, 1 cannot connect, 2 write error, 3 bad arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM.",
            parsed => new WriterOptionSet
            {
                Name = parsed.GetRequiredValue(name),
                Frames = parsed.GetValue(frames),
                Size = parsed.GetValue(size) ?? 1024,
                Metadata = parsed.GetValue(metadata),
                MetadataFile = parsed.GetValue(metadataFile),
                Pattern = parsed.GetValue(pattern) ?? Pattern.Sequential,
                Input = parsed.GetValue(input),
                DelayMs = parsed.GetValue(delay) ?? 0,
                BatchSize = parsed.GetValue(batch) ?? 1,
                TimeoutMs = parsed.GetValue(timeout) ?? 5000,
                JsonOutput = parsed.GetValue(json),
                Verbose = parsed.GetValue(verbose),
            });
    }

    private static Entry Reader()
    {
        var command = new Command("reader", "Create a buffer, read frames from it, and remove it at the end.");
        Argument<string> name = Name(command, "NAME", "Name of the buffer.");
        Option<ulong?> frames = Count(command, "-n", "--frames", 0, "COUNT", "Frames to read; 0 for no limit. [default: 0]");
        Option<ulong?> size = Size(
            command, "-s", "--size", 0, "Bytes expected per frame; 0 accepts any. Checked only if this option or --verify is given. [default: 1024]");
        Option<long?> timeout = Timeout(command, "How long to wait for each frame, the first included");
        const string None = "none";
        var verifiers = new Dictionary<string, Pattern>(Patterns, StringComparer.Ordinal) { [None] = default };
        Option<Pattern?> verify = Choice(
            command, "--verify", verifiers, "PATTERN", "Compare every byte with the writer's pattern of this name. [default: none]");
        Option<bool> checksum = Flag(command, null, "--checksum", "XXH3-64 checksums of each frame and of the whole stream.");
        Option<ulong?> batch = Count(command, null, "--batch-size", 1, "COUNT", "Frames held before they are released together. [default: 1]");
        Func<ParseResult, RingOptions> ring = Ring(command, "the ring");
        Option<string?> output = Text(
            command, null, "--output", "FILE|-", "Write the frames' bytes to a file, or to standard output (-); the summary then goes to standard error.");
        Option<bool> latest = Flag(
            command, null, "--latest", "Read the newest frame each time, and pass over those that came before it. The summary counts them.");
        Option<bool> keep = Flag(command, null, "--keep", "When a writer closes or dies, wait for the next one, as long as it takes.");
        (Option<bool> json, Option<bool> verbose) = Report(command);
        return new Entry(
            command,
            "0 ok, 1 cannot create the buffer, 2 read error or time-out, 3 bad arguments, 4 verification failed, 5 results not printed, "
            + "130 ended by Ctrl-C or SIGTERM.",
            parsed => new ReaderOptionSet
            {
                Name = parsed.GetRequiredValue(name),
                Frames = parsed.GetValue(frames) ?? 0,
                Size = parsed.GetValue(size),
                TimeoutMs = parsed.GetValue(timeout) ?? 5000,
                Verify = parsed.GetResult(verify)?.Tokens[0].Value is null or None ? null : parsed.GetValue(verify),
                Checksum = parsed.GetValue(checksum),
                BatchSize = parsed.GetValue(batch) ?? 1,
                Ring = ring(parsed),
                Output = parsed.GetValue(output),
                Latest = parsed.GetValue(latest),
                Keep = parsed.GetValue(keep),
                JsonOutput = parsed.GetValue(json),
                Verbose = parsed.GetValue(verbose),
            });
    }

    private static Entry Relay()
    {
        var command = new Command("relay", "Pass frames on from one buffer to another.");
        Argument<string> input = Name(command, "IN", "Name of the buffer to read from; the relay creates it.");
        Argument<string> output = Name(command, "OUT", "Name of the buffer to write to.");
        Option<ulong?> frames = Count(command, "-n", "--frames", 0, "COUNT", "Frames to relay; 0 for no limit. [default: 0]");
        Option<bool> create = Flag(
            command,
            null,
            "--create-output",
            "Create OUT as well and hold frames in it until a reader takes it over. At the end the relay waits for that reader up to the time-out, and "
            + "reports the frames lost if none comes.");
        Func<ParseResult, RingOptions> ring = Ring(command, "each ring");
        Option<long?> timeout = Timeout(command, "How long to wait for each frame, for the reader of OUT, and for space");
        Option<bool> copy = Flag(
            command,
            null,
            "--copy",
            "Copy every frame. Otherwise frames of 32 KiB and more are shared where the reader of OUT allows it: it looks at them in IN, and the relay "
            + "holds them there until it has released them.");
        var transforms = new Dictionary<string, Transform>(StringComparer.Ordinal)
        {
            ["none"] = Transform.None,
            ["reverse"] = Transform.Reverse,
            ["xor"] = Transform.Xor,
        };
        Option<Transform?> transform = Choice(command, "--transform", transforms, "TRANSFORM", "What to do to the bytes of each frame. [default: none]");
        Option<byte?> key = Add(
            command, new Option<byte?>("--xor-key") { CustomParser = Values.Number<byte>(0, 255) }, "BYTE", "Key of the transform xor, applied to every byte. [default: 255]");
        Option<ulong?> interval = Count(command, null, "--log-interval", 0, "COUNT", "Frames between two progress lines; 0 for none. [default: 100]");
        (Option<bool> json, Option<bool> verbose) = Report(command);
        return new Entry(
            command,
            "0 ok, 1 input error (creating, reading, time-out), 2 output error (connecting, writing), 3 relay error (metadata, or frames that no reader "
            + "fetched from a created output), 4 bad arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM.",
            parsed => new RelayOptionSet
            {
                Input = parsed.GetRequiredValue(input),
                Output = parsed.GetRequiredValue(output),
                Frames = parsed.GetValue(frames) ?? 0,
                CreateOutput = parsed.GetValue(create),
                Ring = ring(parsed),
                TimeoutMs = parsed.GetValue(timeout) ?? 5000,
                Copy = parsed.GetValue(copy),
                Transform = parsed.GetValue(transform) ?? Transform.None,
                XorKey = parsed.GetValue(key) ?? 255,
                LogInterval = parsed.GetValue(interval) ?? 100,
                JsonOutput = parsed.GetValue(json),
                Verbose = parsed.GetValue(verbose),
            });
    }

    private static Func<ParseResult, RingOptions> Ring(Command command, string what)
    {
        Option<ulong?> payload = Size(command, null, "--buffer-size", 1, $"Bytes of {what} to create{UnitsHelp} [default: 256M]");
        Option<ulong?> metadata = Size(
            command, null, "--metadata-size", 0, "Bytes of the metadata block to create, of which 8 hold its length. [default: 4096]");
        Option<int?> mode = Add(
            command, new Option<int?>("--mode") { CustomParser = Values.Permissions }, "OCTAL", "Permissions of the buffer, as 0660 for a group. [default: 0600]");
        Option<bool> preallocate = Flag(command, null, "--preallocate", "Reserve all memory of the buffer at the start.");
        Option<bool> huge = Flag(
            command, null, "--huge-pages", "Make all memory of the buffer at the start, in huge pages as far as the kernel has some.");
        Option<int?> node = Add(
            command, new Option<int?>("--numa-node") { CustomParser = Values.Number(-1, 1023) }, "NODE", "NUMA node whose memory the buffer shall use, as far as there is room; -1 = where the reader runs.");
        Option<bool> classic = Flag(
            command,
            null,
            "--classic",
            "Keep the ring a classic one, as 1.x peers speak it. Otherwise a writer of this version makes it an extended one, which is faster, and which "
            + "1.x writers that come later cannot use.");
        return parsed => new RingOptions
        {
            BufferSize = parsed.GetValue(payload),
            MetadataSize = parsed.GetValue(metadata),
            Mode = parsed.GetValue(mode),
            Preallocate = parsed.GetValue(preallocate),
            HugePages = parsed.GetValue(huge),
            NumaNode = parsed.GetValue(node),
            Classic = parsed.GetValue(classic),
        };
    }

    private static (Option<bool> Json, Option<bool> Verbose) Report(Command command) => (
        Flag(command, null, "--json-output", "Print the summary as one JSON object, and nothing else."),
        Flag(command, "-v", "--verbose", "Print what happens inside, on standard error."));

    private static Argument<string> Name(Command command, string name, string help)
    {
        var argument = new Argument<string>(name) { Description = help };
        command.Arguments.Add(argument);
        return argument;
    }

    private static Option<ulong?> Count(Command command, string? letter, string name, ulong least, string value, string help) =>
        Add(command, new Option<ulong?>(name, Aliases(letter)) { CustomParser = Values.Number(least, ulong.MaxValue) }, value, help);

    private static Option<ulong?> Size(Command command, string? letter, string name, ulong least, string help) =>
        Add(command, new Option<ulong?>(name, Aliases(letter)) { CustomParser = Values.Bytes(least) }, "BYTES", help);

    private static Option<long?> Timeout(Command command, string help) =>
        Add(command, new Option<long?>("--timeout-ms") { CustomParser = Values.Number<long>(-1, long.MaxValue) }, "MS", help + TimeoutHelp);

    private static Option<string?> Text(Command command, string? letter, string name, string value, string help) =>
        Add(command, new Option<string?>(name, Aliases(letter)), value, help);

    private static Option<T?> Choice<T>(Command command, string name, Dictionary<string, T> words, string value, string help)
        where T : struct =>
        Add(command, new Option<T?>(name) { CustomParser = Values.Word(words) }, value, $"{help} [{string.Join(", ", words.Keys)}]");

    private static Option<bool> Flag(Command command, string? letter, string name, string help)
    {
        var flag = new Option<bool>(name, Aliases(letter)) { Description = help, Arity = ArgumentArity.Zero };
        command.Options.Add(flag);
        return flag;
    }

    private static Option<T> Add<T>(Command command, Option<T> option, string value, string help)
    {
        option.Description = help;
        option.HelpName = value;
        option.Arity = ArgumentArity.ExactlyOne;
        command.Options.Add(option);
        return option;
    }

    private static string[] Aliases(string? letter) => letter is null ? [] : [letter];

    /// <summary>Refuses two options together.</summary>
    private static void Exclude(Command command, Option one, Option other) => command.Validators.Add(result =>
    {
        if (result.GetResult(one) is not null && result.GetResult(other) is not null)
        {
            result.AddError($"{one.Name} cannot be used with {other.Name}");
        }
    });

    /// <summary>A command, and what makes its options of a command line.</summary>
    private sealed record Entry(Command Command, string ExitCodes, Func<ParseResult, CommandOptions> Build);
}
