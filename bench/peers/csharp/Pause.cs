using System.Runtime.InteropServices;

namespace ZeroBuffer.Bench;

/// <summary>Sleeps as finely as the kernel can; <see cref="Thread.Sleep(TimeSpan)"/> knows whole milliseconds.</summary>
internal static partial class Pause
{
    internal static unsafe void For(TimeSpan time)
    {
        long* length = stackalloc long[] { time.Ticks / TimeSpan.TicksPerSecond, time.Ticks % TimeSpan.TicksPerSecond * 100 };
        // A signal ends the pause early, which the next look at the clock corrects.
        _ = NanoSleep(length, null);
    }

    [LibraryImport("libc", EntryPoint = "nanosleep")]
    private static unsafe partial int NanoSleep(long* length, long* left);
}
