namespace ZeroBuffer.Cli;

/// <summary>A command and its options; each returns its exit code.</summary>
internal abstract record CommandOptions
{
    /// <summary>Whether to print the summary as one JSON object, and nothing else.</summary>
    internal bool JsonOutput { get; init; }

    /// <summary>Whether to say what happens inside, on standard error.</summary>
    internal bool Verbose { get; init; }

    internal abstract int Run();
}

/// <summary>The options of <c>writer</c>.</summary>
internal sealed record WriterOptionSet : CommandOptions
{
    internal required string Name { get; init; }

    /// <summary>Frames to write; 0 for no limit, null for the default.</summary>
    internal ulong? Frames { get; init; }

    internal ulong Size { get; init; }

    internal string? Metadata { get; init; }

    internal string? MetadataFile { get; init; }

    internal Pattern Pattern { get; init; }

    /// <summary>Real data instead of a pattern: a file, or - for standard input.</summary>
    internal string? Input { get; init; }

    internal ulong DelayMs { get; init; }

    internal ulong BatchSize { get; init; }

    internal long TimeoutMs { get; init; }

    internal override int Run() => WriterCommand.Run(this);
}

/// <summary>The buffer that a command creates.</summary>
internal sealed record RingOptions
{
    internal ulong? BufferSize { get; init; }

    internal ulong? MetadataSize { get; init; }

    internal int? Mode { get; init; }

    internal bool Preallocate { get; init; }

    internal bool HugePages { get; init; }

    internal int? NumaNode { get; init; }

    internal bool Classic { get; init; }

    /// <summary>Only the sizes that were asked for: a buffer that a relay has kept for this reader has its sizes already.</summary>
    internal BufferConfig ToConfig()
    {
        var config = new BufferConfig
        {
            Preallocate = Preallocate,
            HugePages = HugePages,
            NumaNode = NumaNode,
            Classic = Classic,
            AllowPayloadSharing = true,
        };
        if (BufferSize is ulong payload)
        {
            config.PayloadSize = ToSize(payload);
        }
        if (MetadataSize is ulong metadata)
        {
            config.MetadataSize = ToSize(metadata);
        }
        if (Mode is int mode)
        {
            config.Mode = mode;
        }
        return config;
    }

    /// <summary>What no 64-bit machine can map is refused by the library, in its own words.</summary>
    private static long ToSize(ulong bytes) => (long)Math.Min(bytes, long.MaxValue);
}

/// <summary>The options of <c>reader</c>.</summary>
internal sealed record ReaderOptionSet : CommandOptions
{
    internal required string Name { get; init; }

    /// <summary>Frames to read; 0 for no limit.</summary>
    internal ulong Frames { get; init; }

    /// <summary>Bytes expected per frame; 0 accepts any.</summary>
    internal ulong? Size { get; init; }

    internal long TimeoutMs { get; init; }

    internal Pattern? Verify { get; init; }

    internal bool Checksum { get; init; }

    internal ulong BatchSize { get; init; }

    internal required RingOptions Ring { get; init; }

    internal string? Output { get; init; }

    internal bool Latest { get; init; }

    internal bool Keep { get; init; }

    internal bool HasDataOnStandardOutput => Output == "-";

    internal override int Run() => ReaderCommand.Run(this);
}

/// <summary>What a relay does to the bytes of a frame.</summary>
internal enum Transform
{
    None,
    Reverse,
    Xor,
}

/// <summary>The options of <c>relay</c>.</summary>
internal sealed record RelayOptionSet : CommandOptions
{
    internal required string Input { get; init; }

    internal required string Output { get; init; }

    /// <summary>Frames to relay; 0 for no limit.</summary>
    internal ulong Frames { get; init; }

    internal bool CreateOutput { get; init; }

    internal required RingOptions Ring { get; init; }

    internal long TimeoutMs { get; init; }

    /// <summary>Whether every frame is copied.</summary>
    internal bool Copy { get; init; }

    internal Transform Transform { get; init; }

    internal byte XorKey { get; init; }

    internal ulong LogInterval { get; init; }

    internal override int Run() => RelayCommand.Run(this);
}
