using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Examples;

/// <summary>Programs with open handles that end in each way that there is.</summary>
internal static class Ends
{
    private static Reader? _reader;

    internal static int Play(string end)
    {
        string suffix = Run.Name("");
        if (end == "writes")
        {
            using var writer = new Writer("reader" + suffix);
            for (byte number = 1; number <= 3; number++)
            {
                writer.WriteFrame(new[] { number });
            }
            Run.Say("there");
            Thread.Sleep(Timeout.Infinite);
        }
        if (end == "hosted")
        {
            return Hosted.Play(suffix);
        }
        if (end == "signals")
        {
            ZeroBufferRuntime.CloseOnSignals();
        }
        _reader = new Reader("reader" + suffix, new BufferConfig(64, 4096));
        IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer("server" + suffix, new BufferConfig(64, 4096));
        server.Start(request => request.Data);
        if (end.StartsWith("blocked-", StringComparison.Ordinal))
        {
            var blocked = new Thread(() =>
            {
                while (true)
                {
                    try
                    {
                        _reader.ReadFrame(Timeout.InfiniteTimeSpan);
                    }
                    catch (InvalidStateException)
                    {
                        // The main thread is looking whether this one waits.
                    }
                    catch (ClosedException)
                    {
                        return;
                    }
                }
            });
            blocked.IsBackground = true;
            blocked.Start();
            while (!IsInUse())
            {
                Thread.Yield();
            }
            end = end["blocked-".Length..];
        }
        Run.Say("there");
        Console.In.ReadLine();
        switch (end)
        {
            case "exit":
                Environment.Exit(7);
                return 0;
            case "unhandled":
                throw new InvalidOperationException("nothing handles this");
            default:
                return 0;
        }
    }

    /// <summary>Whether the blocked read is under way.</summary>
    private static bool IsInUse()
    {
        try
        {
            _reader!.TryReadFrame(out _);
            return false;
        }
        catch (InvalidStateException)
        {
            return true;
        }
    }
}
