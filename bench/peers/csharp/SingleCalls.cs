using System.Diagnostics;
using System.Runtime;

namespace ZeroBuffer.Bench;

/// <summary>What single calls cost on one thread, in nanoseconds: the median of batches. ../../src/single_calls.rs is the same in Rust.</summary>
internal static class SingleCalls
{
    private const int Frames = 2000;
    private const int Batches = 200;
    private const int Size = 64;
    private const int Picture = 3_110_400;
    private const int Million = 1_000_000;
    private const int WarmUps = 300;
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Wait = TimeSpan.FromSeconds(5);

    private static readonly byte[] Data = Content.New(Size);

    internal static SortedDictionary<string, double> Measure()
    {
        var outcome = new SortedDictionary<string, double>();
        AsyncWaits(outcome);
        string name = $"zbbench-{Environment.ProcessId}-single";
        using var cancellation = new CancellationTokenSource();
        using (var reader = new Reader(name, new BufferConfig(1024, 1 << 20)))
        using (var writer = new Writer(name))
        {
            CancellationToken token = cancellation.Token;
            var rows = new (string Name, Action<Reader, Writer> Before, Action<Reader, Writer> Timed, Action<Reader, Writer> After)[]
            {
                ("write", Nothing, Write, Drain),
                ("acquire_commit", Nothing, Acquire, Drain),
                ("read_dispose", Write, ReadAndDispose, Nothing),
                ("read", Write, Drain, Nothing),
                ("read_token", Write, (reader, _) => ReadWithToken(reader, token), Nothing),
                ("read_async", Write, ReadAsync, Nothing),
            };
            // The runtime compiles what is used often once more, in the background: until it has compiled nothing for a while.
            long quiet = Stopwatch.GetTimestamp();
            long compiled = 0;
            for (int turn = 0; turn < WarmUps || Stopwatch.GetElapsedTime(quiet) < WarmUp; turn++)
            {
                if (JitInfo.GetCompiledMethodCount() is var now && now != compiled)
                {
                    (compiled, quiet) = (now, Stopwatch.GetTimestamp());
                }
                foreach (var row in rows)
                {
                    row.Before(reader, writer);
                    row.Timed(reader, writer);
                    row.After(reader, writer);
                }
            }
            foreach (var row in rows)
            {
                var times = new double[Batches];
                long bytes = 0;
                for (int batch = 0; batch < Batches; batch++)
                {
                    row.Before(reader, writer);
                    long before = GC.GetAllocatedBytesForCurrentThread();
                    long start = Stopwatch.GetTimestamp();
                    row.Timed(reader, writer);
                    times[batch] = Stopwatch.GetElapsedTime(start).TotalNanoseconds / Frames;
                    bytes += GC.GetAllocatedBytesForCurrentThread() - before;
                    row.After(reader, writer);
                }
                Array.Sort(times);
                outcome[row.Name] = times[Batches / 2];
                outcome[row.Name + "_bytes"] = (double)bytes / Batches / Frames;
            }
        }
        Forgotten(outcome, "forgotten_64_kib", 65_536);
        Forgotten(outcome, "forgotten_3_1_mb", Picture);
        return outcome;
    }

    private static void Nothing(Reader reader, Writer writer)
    {
    }

    private static void Write(Reader reader, Writer writer)
    {
        for (int frame = 0; frame < Frames; frame++)
        {
            writer.WriteFrame(new ReadOnlySpan<byte>(Data));
        }
    }

    private static void Acquire(Reader reader, Writer writer)
    {
        for (int frame = 0; frame < Frames; frame++)
        {
            writer.AcquireFrameBuffer(Size, out Span<byte> bytes);
            Data.CopyTo(bytes);
            writer.CommitFrame();
        }
    }

    /// <summary>The requested loop: frames without a Dispose.</summary>
    private static void Drain(Reader reader, Writer writer)
    {
        for (int number = 0; number < Frames; number++)
        {
            Check(reader.ReadFrame(Wait));
        }
    }

    private static void ReadAndDispose(Reader reader, Writer writer)
    {
        for (int number = 0; number < Frames; number++)
        {
            Frame frame = reader.ReadFrame(Wait);
            Check(frame);
            frame.Dispose();
        }
    }

    private static void ReadWithToken(Reader reader, CancellationToken token)
    {
        for (int number = 0; number < Frames; number++)
        {
            Check(reader.ReadFrame(Wait, token));
        }
    }

    private static void ReadAsync(Reader reader, Writer writer)
    {
        for (int number = 0; number < Frames; number++)
        {
            ValueTask<Frame> read = reader.ReadFrameAsync();
            Check(read.IsCompletedSuccessfully ? read.Result : throw new InvalidOperationException("the frame is there, but the read waits"));
        }
    }

    private static void Check(Frame frame)
    {
        if (frame.Data.Length != Size)
        {
            throw new InvalidOperationException($"a frame of {frame.Size} bytes");
        }
    }

    /// <summary>A million frames without a Dispose, written in place and untouched: the cost of a frame, and collections.</summary>
    private static void Forgotten(SortedDictionary<string, double> outcome, string row, int size)
    {
        string name = $"zbbench-{Environment.ProcessId}-{row}";
        using var reader = new Reader(name);
        using var writer = new Writer(name);
        int collections = GC.CollectionCount(0);
        long before = GC.GetAllocatedBytesForCurrentThread();
        long start = Stopwatch.GetTimestamp();
        for (int number = 0; number < Million; number++)
        {
            writer.AcquireFrameBuffer(size, out _);
            writer.CommitFrame();
            var frame = reader.ReadFrame(Wait);
            if (!frame.IsValid || frame.Size != size)
            {
                throw new InvalidOperationException($"no frame of {size} bytes came");
            }
        }
        outcome[row] = Stopwatch.GetElapsedTime(start).TotalNanoseconds / Million;
        outcome[row + "_bytes"] = (double)(GC.GetAllocatedBytesForCurrentThread() - before) / Million;
        outcome[row + "_collections"] = GC.CollectionCount(0) - collections;
    }

    /// <summary>From the write on another thread to the continuation of a read that had to wait.</summary>
    private static void AsyncWaits(SortedDictionary<string, double> outcome)
    {
        const int Waits = 500;
        string name = $"zbbench-{Environment.ProcessId}-waits";
        using var reader = new Reader(name, new BufferConfig(1024, 1 << 20));
        using var writer = new Writer(name);
        long[] sent = new long[1];
        int asked = 0;
        var times = new List<double>();
        async Task Read()
        {
            for (int number = 0; number < Waits; number++)
            {
                ValueTask<Frame> read = reader.ReadFrameAsync();
                bool waits = !read.IsCompleted;
                Volatile.Write(ref asked, number + 1);
                Frame frame = await read;
                if (waits && frame.IsValid)
                {
                    times.Add(Stopwatch.GetElapsedTime(Volatile.Read(ref sent[0])).TotalNanoseconds);
                }
            }
        }

        Task reading = Read();
        for (int number = 0; number < Waits; number++)
        {
            while (Volatile.Read(ref asked) == number)
            {
                Thread.Yield();
            }
            // Long enough for the reading side to sleep in the kernel.
            Pause.For(TimeSpan.FromMilliseconds(1));
            Volatile.Write(ref sent[0], Stopwatch.GetTimestamp());
            writer.WriteFrame(Data);
        }
        reading.GetAwaiter().GetResult();
        times.Sort();
        outcome["read_async_waits"] = times[times.Count / 2];
    }
}
