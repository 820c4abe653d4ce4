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
        using var barrier = new Barrier(3);
        (Reader Reader, Writer Writer) pair = (null!, null!);
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

        byte[] data = new byte[16];
        var reading = new Thread(() => Play(() =>
        {
            Frame frame = pair.Reader.ReadFrame(TimeSpan.FromMilliseconds(1));
            if (frame.IsValid && frame.ToArray().Length != 16)
            {
                throw new InvalidOperationException("wrong size");
            }
            frame.Dispose();
        }));
        var writing = new Thread(() => Play(() => pair.Writer.WriteFrame(data)));
        reading.Start();
        writing.Start();
        var random = new Random(1);
        for (int round = 0; round < Rounds; round++)
        {
            var reader = new Reader(name, new BufferConfig(64, 4096));
            pair = (reader, new Writer(name));
            barrier.SignalAndWait();
            Thread.SpinWait(random.Next(3000));
            if (round % 2 == 0)
            {
                pair.Reader.Dispose();
                pair.Writer.Dispose();
            }
            else
            {
                pair.Writer.Dispose();
                pair.Reader.Dispose();
            }
            barrier.SignalAndWait();
        }
        done = true;
        barrier.SignalAndWait();
        Assert.True(reading.Join(Eventually.Patience) && writing.Join(Eventually.Patience));
        Assert.Empty(failures);
        Assert.False(Names.Exists(name));
    }

    /// <summary>A client is for any number of threads: one that sends and receives, one that calls, one that asks.</summary>
    [Fact]
    public void Dispose_of_a_client_races_calls_of_other_threads()
    {
        var config = new BufferConfig(64, 4096);
        using var server = new ImmutableDuplexServer(Names.New(), config);
        server.Start(request => request.Data);
        using var barrier = new Barrier(4);
        DuplexClient client = null!;
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
                catch (ClosedException)
                {
                }
                catch (Exception error)
                {
                    failures.Enqueue(error);
                }
                barrier.SignalAndWait();
            }
        }

        var threads = new Action[]
        {
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
            },
        }.Select(call => new Thread(() => Play(call))).ToList();
        threads.ForEach(thread => thread.Start());
        var random = new Random(1);
        for (int round = 0; round < Rounds / 5; round++)
        {
            client = new DuplexClient(server.Channel, new ClientOptions { ConnectTimeout = Eventually.Patience, ResponseConfig = config });
            barrier.SignalAndWait();
            Thread.SpinWait(random.Next(3000));
            client.Dispose();
            barrier.SignalAndWait();
        }
        done = true;
        barrier.SignalAndWait();
        Assert.All(threads, thread => Assert.True(thread.Join(Eventually.Patience)));
        Assert.Empty(failures);
        Assert.False(Names.Exists(server.Channel + "_response"));

        static void Check(DuplexResponse response, int size)
        {
            if (response.Size != size)
            {
                throw new InvalidOperationException($"{response.Size} bytes, not {size}");
            }
        }
    }
}
