namespace ZeroBuffer.Tests;

/// <summary>Names of buffers that no other test has.</summary>
internal static class Names
{
    private static int _last;

    internal static string New(string what = "cs") => $"zbtest-{what}-{Environment.ProcessId}-{Interlocked.Increment(ref _last)}";

    internal static bool Exists(string name) => File.Exists("/dev/shm/" + name);
}

/// <summary>Waits for what another thread or process does.</summary>
internal static class Eventually
{
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    internal static void Holds(Func<bool> condition)
    {
        var end = DateTime.UtcNow + Patience;
        while (!condition())
        {
            Assert.True(DateTime.UtcNow < end, "it never came true");
            Thread.Sleep(1);
        }
    }

    /// <summary>Whether the only thread of a background call sleeps in the kernel, as far as can be seen: it has been given time to.</summary>
    internal static T Result<T>(Task<T> task)
    {
        Assert.True(task.Wait(Patience), "the call did not end");
        return task.Result;
    }
}
