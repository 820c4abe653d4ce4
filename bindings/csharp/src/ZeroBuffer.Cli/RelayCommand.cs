namespace ZeroBuffer.Cli;

/// <summary><c>zerobuffer-cs relay</c>: frames from one buffer to another, without a copy where it can, else straight from ring to ring.</summary>
internal sealed class RelayCommand
{
    /// <summary>Pause between two looks at whether a created output has found its reader.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(5);

    private readonly RelayOptionSet _options;
    private readonly Report _report;
    private bool _isMetadataPassed;

    private RelayCommand(RelayOptionSet options, Report report)
    {
        _options = options;
        _report = report;
    }

    private Tally Tally => _report.Tally;

    internal static int Run(RelayOptionSet options)
    {
        var report = new Report(Operation.Relay)
        {
            InputBuffer = options.Input,
            OutputBuffer = options.Output,
            Transform = options.Transform switch
            {
                Transform.Reverse => "reverse",
                Transform.Xor => "xor",
                _ => "none",
            },
            MetadataRelayed = false,
            FramesShared = 0,
            FramesCopied = 0,
        };
        int code = report.Enter(ExitCodes.Relay.RelayError, new RelayCommand(options, report).Run);
        report.FrameSize = report.Tally.Largest;
        report.Print(options, toError: false);
        return code;
    }

    private static T InputOf<T>(Func<T> work) => Failure.With(ExitCodes.Relay.InputError, ExitCodes.Relay.BadArguments, work);

    private static T OutputOf<T>(Func<T> work) => Failure.With(ExitCodes.Relay.OutputError, ExitCodes.Relay.BadArguments, work);

    private void Run()
    {
        if (_options.Input == _options.Output)
        {
            throw new Failure(ExitCodes.Relay.BadArguments, "IN and OUT are the same buffer: a relay needs two");
        }
        Stop.Install(ExitCodes.Relay.RelayError);
        Output.IsVerbose = _options.Verbose;
        using Reader reader = InputOf(() => new Reader(_options.Input, ToConfig(_options.Ring), StandardErrorLogger.Instance));
        Stop.Watch(reader.Interrupt);
        Buffers.TellOf(_options.Input);
        using KeptBuffer? kept = _options.CreateOutput ? CreateOutput() : null;
        using var progress = new Progress("relaying", _options.Frames, _options, _options.LogInterval);
        Writer writer = Waiting.Connect(
            _options.Output, _options.TimeoutMs, ExitCodes.Relay.OutputError, ExitCodes.Relay.BadArguments, progress, Tally);

        // The first failure tells, but all is closed.
        Failure? failure = Attempt(() =>
        {
            Stream(reader, writer, progress);
            // It may have come after the last frame.
            PassMetadata(reader, writer);
        });
        reader.Dispose();
        if (failure is not null && failure.Code != ExitCodes.Interrupted)
        {
            // The stream is incomplete, and its reader is to know. A writer that is never closed ends with the process, as the writer of a
            // process that dies, and its reader is told so.
            Output.Inform($"buffer `{_options.Output}`: left as by a writer that died, as the stream is incomplete");
        }
        else
        {
            writer.Dispose();
        }
        if (kept is not null)
        {
            Failure? late = Attempt(() => HandOver(kept));
            failure ??= late;
        }
        GC.KeepAlive(writer);
        if (failure is not null)
        {
            throw failure;
        }
    }

    private static Failure? Attempt(Action work)
    {
        try
        {
            work();
            return null;
        }
        catch (Failure failure)
        {
            return failure;
        }
    }

    private BufferConfig ToConfig(RingOptions ring)
    {
        BufferConfig config = ring.ToConfig();
        config.AllowPayloadSharing = !_options.Copy;
        return config;
    }

    private KeptBuffer CreateOutput()
    {
        // As large a metadata block as that of the input, so that its metadata fits.
        RingOptions ring = _options.Ring with { MetadataSize = InputOf(() => Inspect.Snapshot(_options.Input).MetadataSize) };
        return OutputOf(() => new KeptBuffer(_options.Output, ToConfig(ring)));
    }

    private void Stream(Reader reader, Writer writer, Progress progress)
    {
        var arrivals = new Arrivals(_options.Input);
        Action idle = () =>
        {
            PassMetadata(reader, writer);
            progress.Wait(Tally, arrivals.Awaited);
        };
        while (_options.Frames == 0 || Tally.Frames < _options.Frames)
        {
            Stop.Check();
            Frame frame = Next(reader, idle);
            if (frame.EndOfStream)
            {
                Output.Inform($"buffer `{_options.Input}`: the writer closed; {Text.Frames(Tally.Frames)} so far");
                if (_options.Frames == 0)
                {
                    return;
                }
                throw new Failure(
                    ExitCodes.Relay.InputError,
                    $"buffer `{_options.Input}`: the writer closed after {Tally.Frames} of {_options.Frames} frames; ask for fewer");
            }
            if (!frame.IsValid)
            {
                throw TimeOut();
            }
            Tally.Start();
            arrivals.Frame();
            // Before the frame that it may describe.
            PassMetadata(reader, writer);
            if (Buffers.IsTooLarge((ulong)frame.LongSize))
            {
                throw Buffers.TooLarge(_options.Input, (ulong)frame.LongSize, ExitCodes.Relay.InputError);
            }
            Tally.Count(Pass(frame, writer));
            progress.Show(Tally);
        }
    }

    private Frame Next(Reader reader, Action idle)
    {
        try
        {
            return Waiting.NextFrame(reader, _options.TimeoutMs, idle);
        }
        catch (ZeroBufferException error)
        {
            throw Failure.Of(error, ExitCodes.Relay.InputError, ExitCodes.Relay.BadArguments);
        }
    }

    /// <summary>Transforms a frame where it is, passes it on, and ends it; returns its size.</summary>
    private int Pass(Frame frame, Writer writer)
    {
        int size = frame.Data.Length;
        try
        {
            bool isShared = Forward(frame, writer);
            _report.FramesShared += isShared ? 1u : 0u;
            _report.FramesCopied += isShared ? 0u : 1u;
        }
        catch (ZeroBufferException error)
        {
            throw Failure.Of(error, ExitCodes.Relay.OutputError, ExitCodes.Relay.BadArguments);
        }
        return size;
    }

    /// <summary>Returns whether the frame was shared.</summary>
    private bool Forward(Frame frame, Writer writer)
    {
        if (_options.Transform == Transform.None)
        {
            return writer.Forward(frame);
        }
        if (!frame.IsShared)
        {
            Change(frame.GetMutableSpan());
            return writer.Forward(frame);
        }
        // The bytes are another relay's: a copy is transformed.
        ReadOnlySpan<byte> source = frame.Data;
        writer.AcquireFrameBuffer(source.Length, out Span<byte> target);
        source.CopyTo(target);
        Change(target);
        writer.CommitFrame();
        frame.Dispose();
        return false;
    }

    private void Change(Span<byte> target)
    {
        switch (_options.Transform)
        {
            case Transform.Reverse:
                target.Reverse();
                break;
            case Transform.Xor:
                for (int at = 0; at < target.Length; at++)
                {
                    target[at] ^= _options.XorKey;
                }
                break;
        }
    }

    /// <summary>Passes on the metadata, if it has come and is not passed on yet.</summary>
    private void PassMetadata(Reader reader, Writer writer)
    {
        if (_isMetadataPassed)
        {
            return;
        }
        ReadOnlySpan<byte> metadata = Metadata(reader);
        if (metadata.IsEmpty)
        {
            return;
        }
        try
        {
            writer.SetMetadata(metadata);
        }
        catch (ZeroBufferException error)
        {
            throw Failure.Of(error, ExitCodes.Relay.RelayError, ExitCodes.Relay.BadArguments);
        }
        _isMetadataPassed = true;
        Output.Inform($"buffer `{_options.Output}`: {metadata.Length} bytes of metadata are passed on");
        _report.MetadataRelayed = true;
        _report.MetadataSize = (ulong)metadata.Length;
    }

    private static ReadOnlySpan<byte> Metadata(Reader reader)
    {
        try
        {
            return reader.GetMetadata();
        }
        catch (ZeroBufferException error)
        {
            throw Failure.Of(error, ExitCodes.Relay.InputError, ExitCodes.Relay.BadArguments);
        }
    }

    /// <summary>Waits for a reader to take over the output that the relay created, then lets go of it.</summary>
    private void HandOver(KeptBuffer kept)
    {
        var deadline = new Deadline(_options.TimeoutMs);
        bool waited = !Stop.IsRequested;
        while (Tally.Frames > 0 && waited && !OutputOf(() => kept.IsAdopted) && !deadline.IsOver)
        {
            waited = Stop.Sleep(Look);
        }
        bool adopted = OutputOf(kept.Close);
        _report.FramesLost = adopted ? 0 : Tally.Frames;
        if (adopted || Tally.Frames == 0)
        {
            if (!waited)
            {
                throw Failure.Interrupted();
            }
            return;
        }
        string message = $"buffer `{_options.Output}`: no reader took it over, so {Tally.Frames} frames are lost; start the reader earlier, or wait "
            + "longer for it with --timeout-ms";
        if (waited)
        {
            throw new Failure(ExitCodes.Relay.RelayError, message);
        }
        // The exit code says "interrupted"; the loss is told all the same.
        _report.Complain(message);
        throw Failure.Interrupted();
    }

    private Failure TimeOut() => new(
        ExitCodes.Relay.InputError,
        $"buffer `{_options.Input}`: no frame within {_options.TimeoutMs} ms; start its writer (zerobuffer writer {_options.Input}), or wait longer with "
        + "--timeout-ms (-1: without limit)");
}
