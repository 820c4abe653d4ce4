namespace ZeroBuffer.Cli;

/// <summary><c>zerobuffer-cs writer</c>: a pattern, or real data, into a buffer.</summary>
internal static class WriterCommand
{
    /// <summary>Frames by default, of a pattern.</summary>
    private const ulong DefaultFrames = 1000;

    internal static int Run(WriterOptionSet options)
    {
        var report = new Report(Operation.Write) { BufferName = options.Name, FrameSize = options.Size };
        int code = report.Enter(ExitCodes.Writer.WriteError, () => Write(options, report));
        report.Print(options, toError: false);
        return code;
    }

    private static void Write(WriterOptionSet options, Report report)
    {
        Source? source = options.Input is string input ? new Source(input) : null;
        // A file that cannot be read is refused before anything waits.
        int? metadataFile = options.MetadataFile is string path
            ? OpenedFile.ForReading("--metadata-file", path, ExitCodes.Writer.WriteError)
            : null;
        ulong limit = options.Frames ?? (source is null ? DefaultFrames : 0);

        Stop.Install(ExitCodes.Writer.CannotConnect);
        Output.IsVerbose = options.Verbose;
        using var progress = new Progress("writing", limit, options);
        using Writer writer = Waiting.Connect(
            options.Name, options.TimeoutMs, ExitCodes.Writer.CannotConnect, ExitCodes.BadArguments, progress, report.Tally);
        Failure.With(ExitCodes.Writer.WriteError, ExitCodes.BadArguments, () =>
        {
            SetMetadata(options, report, writer, metadataFile);
            report.Tally.Start();
            Stream(options, writer, source, limit, report.Tally, progress);
            writer.Dispose();
            Output.Inform($"buffer `{options.Name}`: closed after {Text.Frames(report.Tally.Frames)}");
        });
    }

    private static void SetMetadata(WriterOptionSet options, Report report, Writer writer, int? file)
    {
        byte[]? metadata = options.Metadata is string text ? System.Text.Encoding.UTF8.GetBytes(text) : null;
        if (file is int opened)
        {
            // One byte more than fits shows that the file is too large.
            long most = (long)Inspect.Snapshot(options.Name).MetadataSize + 1;
            metadata = OpenedFile.ReadAll(opened, "--metadata-file", options.MetadataFile!, most, ExitCodes.Writer.WriteError);
        }
        if (metadata is not null)
        {
            writer.SetMetadata(metadata);
            report.MetadataSize = (ulong)metadata.Length;
            Output.Inform($"buffer `{options.Name}`: {metadata.Length} bytes of metadata are set");
        }
    }

    /// <param name="options">The command's options.</param>
    /// <param name="writer">The buffer's writer.</param>
    /// <param name="source">Real data; null for a pattern.</param>
    /// <param name="limit">0 for no limit.</param>
    /// <param name="tally">What is counted.</param>
    /// <param name="progress">What is shown meanwhile.</param>
    private static void Stream(WriterOptionSet options, Writer writer, Source? source, ulong limit, Tally tally, Progress progress)
    {
        if (Buffers.IsTooLarge(options.Size))
        {
            throw Buffers.TooLarge(options.Name, options.Size, ExitCodes.Writer.WriteError);
        }
        int most = (int)options.Size;
        while (limit == 0 || tally.Frames < limit)
        {
            Stop.Check();
            int size = most;
            if (source is null)
            {
                writer.AcquireFrameBuffer(size, out Span<byte> frame);
                options.Pattern.Fill(tally.Frames, frame);
            }
            else
            {
                if (!source.HasMore(writer, size))
                {
                    return;
                }
                writer.AcquireFrameBuffer(size, out Span<byte> frame);
                size = source.Fill(writer, frame);
            }
            writer.CommitFrame(size);
            tally.Count(size);
            progress.Show(tally);
            if (options.DelayMs > 0 && tally.Frames % options.BatchSize == 0 && tally.Frames != limit)
            {
                Stop.Sleep(TimeSpan.FromMilliseconds(Math.Min(options.DelayMs, TimeSpan.MaxValue.TotalMilliseconds / 2)));
            }
        }
    }
}
