namespace ZeroBuffer.Cli;

/// <summary>What is left of a time-out in milliseconds; a negative one never ends.</summary>
internal readonly struct Deadline
{
    private const long LongestMs = 50;
    private const long YearMs = 1000L * 3600 * 24 * 365;

    private readonly long? _end;

    /// <summary>A time-out of more than a year has no end, and cannot overflow.</summary>
    internal Deadline(long timeoutMs) => _end = timeoutMs is >= 0 and < YearMs ? Environment.TickCount64 + timeoutMs : null;

    internal bool IsOver => _end is long end && Environment.TickCount64 >= end;

    /// <summary>The time for the next call: what is left, but no more than a slice.</summary>
    internal TimeSpan Slice
    {
        get
        {
            long left = _end is long end ? end - Environment.TickCount64 : LongestMs;
            return TimeSpan.FromMilliseconds(Math.Clamp(left, 0, LongestMs));
        }
    }

    /// <summary>A time-out of the command line as the library takes it.</summary>
    internal static TimeSpan ToTimeSpan(long timeoutMs) =>
        timeoutMs is >= 0 and < YearMs ? TimeSpan.FromMilliseconds(timeoutMs) : Timeout.InfiniteTimeSpan;
}

/// <summary>Waits in slices, so that other work gets its turn.</summary>
internal static class Waiting
{
    /// <summary>
    /// Waits for the next frame, calling <paramref name="idle"/> whenever there has been none for a slice. An invalid frame when the time
    /// is over or the stream at its end.
    /// </summary>
    internal static Frame NextFrame(Reader reader, long timeoutMs, Action idle)
    {
        // The hot path: no clock, no deadline.
        if (reader.TryReadFrame(out Frame frame) || frame.EndOfStream)
        {
            return frame;
        }
        var deadline = new Deadline(timeoutMs);
        while (true)
        {
            frame = reader.ReadFrame(deadline.Slice);
            if (frame.IsValid || frame.EndOfStream || deadline.IsOver)
            {
                return frame;
            }
            idle();
        }
    }

    /// <summary>Waits for a frame as <see cref="NextFrame"/>, and passes over all but the newest.</summary>
    internal static Frame LatestFrame(Reader reader, long timeoutMs, Action idle)
    {
        var deadline = new Deadline(timeoutMs);
        while (true)
        {
            Frame frame = reader.ReadLatestFrame(deadline.Slice);
            if (frame.IsValid || frame.EndOfStream || deadline.IsOver)
            {
                return frame;
            }
            idle();
        }
    }

    /// <summary>Connects a writer, waiting up to <paramref name="timeoutMs"/> for the reader; Ctrl-C ends the wait.</summary>
    /// <exception cref="Failure">With <paramref name="code"/>, or <paramref name="badArguments"/>.</exception>
    internal static Writer Connect(string name, long timeoutMs, int code, int badArguments, Progress progress, Tally tally)
    {
        var deadline = new Deadline(timeoutMs);
        bool waits = false;
        while (true)
        {
            Stop.Check();
            try
            {
                var options = new WriterOptions
                {
                    WriteTimeout = Deadline.ToTimeSpan(timeoutMs),
                    ConnectTimeout = waits ? deadline.Slice : TimeSpan.Zero,
                    RequestPayloadSharing = true,
                };
                var writer = new Writer(name, options, StandardErrorLogger.Instance);
                Stop.Watch(writer.Interrupt);
                if (Buffers.LookAt(name) is { } buffer)
                {
                    Output.Inform($"buffer `{name}`: connected to the reader (pid {buffer.Reader.ProcessId}), {Text.Human(buffer.PayloadSize)} of payload");
                }
                return writer;
            }
            catch (ZeroBufferException error) when (error is BufferNotFoundException or ReaderDeadException)
            {
                if (deadline.IsOver)
                {
                    throw new Failure(code, $"{error.Message} (waited {timeoutMs} ms; see --timeout-ms)");
                }
                if (!waits)
                {
                    Output.Inform($"buffer `{name}`: waiting for the reader");
                }
                waits = true;
                progress.Wait(tally, "the reader");
            }
            catch (ZeroBufferException error)
            {
                throw Failure.Of(error, code, badArguments);
            }
        }
    }
}
