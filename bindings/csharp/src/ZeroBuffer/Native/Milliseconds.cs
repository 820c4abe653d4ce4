using System.Runtime.CompilerServices;

namespace ZeroBuffer.Native;

/// <summary>Time-outs as the C ABI takes them: 0 polls once, -1 waits without limit.</summary>
internal static class Milliseconds
{
    internal const long Infinite = -1;
    internal const long Default = 5000;

    /// <summary>A time-out in milliseconds, rounded up.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is negative, and not <see cref="Timeout.InfiniteTimeSpan"/>.</exception>
    internal static long From(TimeSpan timeout)
    {
        if (timeout == Timeout.InfiniteTimeSpan || timeout == TimeSpan.MaxValue)
        {
            return Infinite;
        }
        if (timeout < TimeSpan.Zero)
        {
            throw new ArgumentOutOfRangeException(nameof(timeout), timeout, "A time-out is 0 or more, or Timeout.InfiniteTimeSpan.");
        }
        return (timeout.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond;
    }

    /// <summary>Whether <see cref="From"/> takes it; false for some that it takes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static bool IsUsual(TimeSpan timeout) => timeout.Ticks >= 0 || timeout == Timeout.InfiniteTimeSpan;

    internal static TimeSpan ToTimeSpan(long milliseconds) =>
        milliseconds < 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromMilliseconds(milliseconds);
}

/// <summary>The end of a wait that may be interrupted and taken up again.</summary>
internal readonly struct Deadline
{
    private readonly long _timeout;
    private readonly long _end;

    internal Deadline(long timeoutMs)
    {
        _timeout = timeoutMs;
        _end = timeoutMs > 0 ? Environment.TickCount64 + timeoutMs : 0;
    }

    /// <summary>What is left, as a time-out for the C ABI.</summary>
    internal long Left => _timeout <= 0 ? _timeout : Math.Max(0, _end - Environment.TickCount64);
}
