using System.Runtime.CompilerServices;

namespace ZeroBuffer.Native;

/// <summary>Checks of arguments that net6.0 has no helpers for.</summary>
internal static class ArgumentOutOfRange
{
    internal static void ThrowIfBelowInfinite(int timeoutMs, [CallerArgumentExpression("timeoutMs")] string? name = null)
    {
        if (timeoutMs < Timeout.Infinite)
        {
            throw new ArgumentOutOfRangeException(name, timeoutMs, "A time-out is 0 or more, or -1 for no limit.");
        }
    }

    internal static void ThrowIfNegative(int value, [CallerArgumentExpression("value")] string? name = null)
    {
        if (value < 0)
        {
            throw new ArgumentOutOfRangeException(name, value, "The number is 0 or more.");
        }
    }
}
