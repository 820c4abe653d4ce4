using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Tests;

/// <summary>Dispose on one thread against calls on others.</summary>
public sealed class GateTests
{
    private const int Rounds = 10_000;

    [Fact]
    public void Dispose_races_calls_of_other_threads()
    {
        string name = Names.New();
        (Reader Reader, Writer Writer) pair = (null!, null!);
        byte[] data = new byte[16];
        var random = new Random(1);
        int round = 0;
        Race(
            Rounds,
            open: () => pair = (new Reader(name, new BufferConfig(64, 4096)), new Writer(name)),
            close: () =>
            {
                Thread.SpinWait(random.Next(3000));
                IDisposable[] ends = round++ % 2 == 0 ? [pair.Reader, pair.Writer] : [pair.Writer, pair.Reader];
                Array.ForEach(ends, end => end.Dispose());
            },
            () =>
            {
                Frame frame = pair.Reader.ReadFrame(TimeSpan.FromMilliseconds(1));
                if (frame.IsValid && frame.ToArray().Length != 16)
                {
                    throw new InvalidOperationException("wrong size");
                }
                frame.Dispose();
            },
            () => pair.Writer.WriteFrame(data));
        Assert.False(Names.Exists(name));
    }

    /// <summary>A client is for any number of threads: one that sends and receives, one that calls, one that asks.</summary>
    [Fact]
    public void Dispose_of_a_client_races_calls_of_other_threads()
    {
        var config = new BufferConfig(64, 4096);
        using var server = new ImmutableDuplexServer(Names.New(), config);
        server.Start(request => request.Data);
        DuplexClient client = null!;
        var random = new Random(1);
        Race(
            Rounds / 5,
            open: () => client = new DuplexClient(server.Channel, new ClientOptions { ConnectTimeout = Eventually.Patience, ResponseConfig = config }),
            close: () =>
            {
                Thread.SpinWait(random.Next(3000));
                client.Dispose();
            },
            () =>
            {
                ulong sequence = client.SendRequest(new byte[3]);
                using DuplexResponse response = client.ReceiveResponseTo(sequence, Timeout.InfiniteTimeSpan);
                Check(response, 3);
            },
            () =>
            {
                using DuplexResponse response = client.Call(new byte[7], Timeout.InfiniteTimeSpan);
                Check(response, 7);
            },
            () =>
            {
                if (!client.IsServerConnected)
                {
                    throw new ClosedException("as the others are told");
                }
            });
        Assert.False(Names.Exists(server.Channel + "_response"));

        static void Check(DuplexResponse response, int size)
        {
            if (response.Size != size)
            {
                throw new InvalidOperationException($"{response.Size} bytes, not {size}");
            }
        }
    }

    /// <summary>
    /// Opens and closes handles in each round while each of the calls is made over and over on a thread of its own, until it is told
    /// that its handle has been closed.
    /// </summary>
    private static void Race(int rounds, Action open, Action close, params Action[] calls)
    {
        using var barrier = new Barrier(calls.Length + 1);
        bool done = false;
        var failures = new System.Collections.Concurrent.ConcurrentQueue<Exception>();
        void Play(Action call)
        {
            while (true)
            {
                barrier.SignalAndWait();
                if (done)
                {
                    return;
                }
                try
                {
                    while (true)
                    {
                        call();
                    }
                }
                catch (Exception error) when (error is ClosedException or ReaderDeadException)
                {
                }
                catch (Exception error)
                {
                    failures.Enqueue(error);
                }
                barrier.SignalAndWait();
            }
        }

        List<Thread> threads = [.. calls.Select(call => new Thread(() => Play(call)))];
        threads.ForEach(thread => thread.Start());
        for (int round = 0; round < rounds; round++)
        {
            open();
            barrier.SignalAndWait();
            close();
            barrier.SignalAndWait();
        }
        done = true;
        barrier.SignalAndWait();
        Assert.All(threads, thread => Assert.True(thread.Join(Eventually.Patience)));
        Assert.Empty(failures);
    }
}
