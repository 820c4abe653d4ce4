using System.Diagnostics;

namespace ZeroBuffer.Cli;

/// <summary>Counts frames, bytes and the time that they took.</summary>
internal sealed class Tally
{
    private long? _started;

    internal ulong Frames { get; private set; }

    internal ulong Bytes { get; private set; }

    internal ulong Largest { get; private set; }

    /// <summary>When the last frame was done with, as a time stamp of <see cref="Stopwatch"/>.</summary>
    internal long? Ended { get; private set; }

    internal double Seconds => _started is long start && Ended is long end ? Stopwatch.GetElapsedTime(start, end).TotalSeconds : 0;

    /// <summary>Starts the clock, unless it runs.</summary>
    internal void Start() => _started ??= Stopwatch.GetTimestamp();

    /// <summary>Counts a frame that is done with.</summary>
    internal void Count(int size)
    {
        Frames++;
        Bytes += (ulong)size;
        Largest = Math.Max(Largest, (ulong)size);
        Ended = Stopwatch.GetTimestamp();
    }
}
