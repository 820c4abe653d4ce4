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
}
