using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Examples;

/// <summary>Programs with open handles that end in each way that there is.</summary>
internal static class Ends
{
    private const byte StayOrder = 1;
    private const byte ExitOrder = 9;
    private static readonly List<IDisposable> Open = new();
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
        if (end == "serves")
        {
            using IImmutableDuplexServer one = DuplexChannelFactory.Instance.CreateImmutableServer("server" + suffix, new BufferConfig(64, 4096));
            one.Start(Handle);
            Run.Say("there");
            Thread.Sleep(Timeout.Infinite);
        }
        if (end == "hosted")
        {
            return Hosted.Play(suffix);
        }
        if (end.EndsWith("signals", StringComparison.Ordinal))
        {
            ZeroBufferRuntime.CloseOnSignals();
        }
        _reader = new Reader("reader" + suffix, new BufferConfig(64, 4096));
        IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer("server" + suffix, new BufferConfig(64, 4096));
        server.Start(Handle, ProcessingMode.ThreadPool);
        bool uncaught = end.StartsWith("uncaught-", StringComparison.Ordinal);
        if (uncaught || end.StartsWith("blocked-", StringComparison.Ordinal))
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
                    catch (ClosedException) when (!uncaught)
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
            end = end[(end.IndexOf('-', StringComparison.Ordinal) + 1)..];
        }
        if (end.StartsWith("busy-", StringComparison.Ordinal))
        {
            StayBusy(suffix, server);
            end = end["busy-".Length..];
        }
        Run.Say("there");
        Console.In.ReadLine();
        switch (end)
        {
            case "exit":
                Environment.Exit(7);
                return 0;
            case "handler-exit":
                DuplexChannelFactory.Instance.CreateClient("server" + suffix).Call(new[] { ExitOrder }, Timeout.InfiniteTimeSpan);
                return 0;
            case "unhandled":
                throw new InvalidOperationException("nothing handles this");
            default:
                return 0;
        }
    }

    private static ReadOnlySpan<byte> Handle(Frame request)
    {
        switch (request.Data[0])
        {
            case StayOrder:
                Run.Say("handling");
                Thread.Sleep(Timeout.Infinite);
                break;
            case ExitOrder:
                Environment.Exit(ExitOrder);
                break;
            default:
                break;
        }
        return request.Data;
    }

    /// <summary>Calls of every kind that wait, none of which ends by itself, and a handler that does not end.</summary>
    private static void StayBusy(string suffix, IImmutableDuplexServer server)
    {
        var config = new BufferConfig(64, 4096);
        var idle = new Reader("idle" + suffix, config);
        Open.Add(idle);
        _ = idle.ReadFrameAsync().AsTask();
        Open.Add(new Reader("full" + suffix, config));
        var writer = new Writer("full" + suffix, new WriterOptions { WriteTimeout = Timeout.InfiniteTimeSpan });
        Open.Add(writer);
        Block(() =>
        {
            while (true)
            {
                writer.WriteFrame(new byte[1000]);
            }
        });
        while (writer.FramesWritten < 3)
        {
            Thread.Yield();
        }
        IDuplexClient client = DuplexChannelFactory.Instance.CreateClient("server" + suffix, new ClientOptions { ResponseConfig = config });
        Open.Add(client);
        client.SendRequest(new[] { StayOrder });
        Block(() => client.ReceiveResponse(Timeout.InfiniteTimeSpan));
        _ = client.CallAsync(new[] { StayOrder }, Timeout.InfiniteTimeSpan);
        _ = server.WaitAsync();
        Block(() => server.Wait(Timeout.InfiniteTimeSpan));
    }

    private static void Block(Action call)
    {
        var thread = new Thread(() =>
        {
            try
            {
                call();
            }
            catch (ZeroBufferException)
            {
                // The end of the process ends it.
            }
        });
        thread.IsBackground = true;
        thread.Start();
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
