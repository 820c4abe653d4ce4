namespace ZeroBuffer.Cli;

/// <summary><c>zerobuffer-cs reader</c>: frames out of a buffer, verified, summed up, or written to a file.</summary>
internal static class ReaderCommand
{
    internal static int Run(ReaderOptionSet options)
    {
        var report = new Report(Operation.Read) { BufferName = options.Name };
        var checks = new Checks(options);
        int code = report.Enter(ExitCodes.Reader.ReadError, () =>
        {
            Read(options, report, checks);
            if (checks.Wrong > 0)
            {
                throw new Failure(
                    ExitCodes.Reader.VerificationFailed,
                    $"buffer `{options.Name}`: {checks.Wrong} of {report.Tally.Frames} frames are not what was expected: writer and reader need the same "
                    + "pattern and --size");
            }
        });
        report.FrameSize = report.Tally.Largest;
        report.VerificationErrors = checks.Wrong;
        report.Checksums = checks.Checksums;
        report.Print(options, options.HasDataOnStandardOutput);
        return code;
    }

    private static void Read(ReaderOptionSet options, Report report, Checks checks)
    {
        Stop.Install(ExitCodes.Reader.CannotCreate);
        Output.IsVerbose = options.Verbose;
        using Reader reader = Failure.With(
            ExitCodes.Reader.CannotCreate, ExitCodes.BadArguments, () => new Reader(options.Name, options.Ring.ToConfig(), StandardErrorLogger.Instance));
        Stop.Watch(reader.Interrupt);
        Buffers.TellOf(options.Name);
        Sink? sink = options.Output is string path ? new Sink(path) : null;
        try
        {
            Failure.With(ExitCodes.Reader.ReadError, ExitCodes.BadArguments, () => Stream(options, reader, sink, report.Tally, checks));
        }
        finally
        {
            report.MetadataSize = MetadataSize(reader);
            report.FramesSkipped = options.Latest ? reader.FramesSkipped : null;
            // The buffer goes before the last bytes are written, so that no writer waits for a stalled pipe.
            reader.Dispose();
            sink?.Finish();
        }
    }

    private static ulong MetadataSize(Reader reader)
    {
        try
        {
            return (ulong)reader.GetMetadata().Length;
        }
        catch (ZeroBufferException)
        {
            // Then there is none to tell of.
            return 0;
        }
    }

    private static void Stream(ReaderOptionSet options, Reader reader, Sink? sink, Tally tally, Checks checks)
    {
        using var progress = new Progress("reading", options.Frames, options);
        var arrivals = new Arrivals(options.Name);
        var held = new List<SharedFrame>();
        void Release()
        {
            held.ForEach(static frame => frame.Release());
            held.Clear();
        }

        Action idle = () =>
        {
            // The writer may be waiting for the very space that is held here.
            Release();
            progress.Wait(tally, arrivals.Awaited);
        };
        while (options.Frames == 0 || tally.Frames < options.Frames)
        {
            Stop.Check();
            Frame frame;
            try
            {
                frame = options.Latest
                    ? Waiting.LatestFrame(reader, options.TimeoutMs, idle)
                    : Waiting.NextFrame(reader, options.TimeoutMs, idle);
            }
            catch (WriterDeadException error)
            {
                arrivals.End();
                WriterDied(options, tally, error);
                continue;
            }
            if (frame.EndOfStream)
            {
                arrivals.End();
                if (WriterClosed(options, tally))
                {
                    return;
                }
                continue;
            }
            if (!frame.IsValid)
            {
                if (!options.Keep || reader.IsWriterConnected())
                {
                    throw TimeOut(options);
                }
                if (options.TimeoutMs == 0)
                {
                    Stop.Sleep(TimeSpan.FromMilliseconds(10));
                }
                continue;
            }
            tally.Start();
            arrivals.Frame();
            if (Buffers.IsTooLarge((ulong)frame.LongSize))
            {
                throw Buffers.TooLarge(options.Name, (ulong)frame.LongSize, ExitCodes.Reader.ReadError);
            }
            checks.Check(frame);
            int size = frame.Size;
            if (!Keep(frame, sink, options.BatchSize, held))
            {
                Stop.Check();
                // The output failed; its own failure tells.
                return;
            }
            tally.Count(size);
            if ((ulong)held.Count >= options.BatchSize)
            {
                Release();
            }
            progress.Show(tally);
        }
    }

    /// <summary>Passes a frame to those that need it for longer, or ends it. False if the sink does not take it.</summary>
    private static bool Keep(Frame frame, Sink? sink, ulong batch, List<SharedFrame> held)
    {
        bool isHeld = batch > 1;
        int users = (isHeld ? 1 : 0) + (sink is null ? 0 : 1);
        if (users == 0)
        {
            frame.Dispose();
            return true;
        }
        var shared = new SharedFrame(frame.Retain(), users);
        if (isHeld)
        {
            held.Add(shared);
        }
        return sink is null || sink.Put(shared);
    }

    /// <summary>What a writer's death means: a failure, unless the next one is to be waited for.</summary>
    private static void WriterDied(ReaderOptionSet options, Tally tally, WriterDeadException error)
    {
        if (!options.Keep)
        {
            throw new Failure(
                ExitCodes.Reader.ReadError, $"{error.Message} ({tally.Frames} frames); start both again, or wait for the next with --keep");
        }
        Output.Complain(error.Message + "; waiting for the next writer");
    }

    /// <summary>What a writer's orderly end means: whether to end as well.</summary>
    private static bool WriterClosed(ReaderOptionSet options, Tally tally)
    {
        Output.Inform($"buffer `{options.Name}`: the writer closed; {Text.Frames(tally.Frames)} so far");
        if (options.Keep)
        {
            return false;
        }
        if (options.Frames == 0)
        {
            return true;
        }
        throw new Failure(
            ExitCodes.Reader.ReadError,
            $"buffer `{options.Name}`: the writer closed after {tally.Frames} of {options.Frames} frames; ask for fewer, or wait for the next writer with "
            + "--keep");
    }

    private static Failure TimeOut(ReaderOptionSet options) => new(
        ExitCodes.Reader.ReadError,
        $"buffer `{options.Name}`: no frame within {options.TimeoutMs} ms; start the writer (zerobuffer writer {options.Name}), or wait longer with "
        + "--timeout-ms (-1: without limit)");
}
