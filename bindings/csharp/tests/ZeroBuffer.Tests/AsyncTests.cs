namespace ZeroBuffer.Tests;

/// <summary>Reads and writes that wait without a thread.</summary>
public class AsyncTests
{
    private static readonly BufferConfig Small = new(64, 4096);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task A_thousand_pending_reads_need_no_thread_each()
    {
        const int Count = 1000;
        // Above the threads that the pool and the test runner may start meanwhile, and those of the library for so many descriptors.
        const int FewThreads = 60;
        string name = Names.New();
        var readers = new List<Reader>();
        var writers = new List<Writer>();
        try
        {
            var pending = new List<Task<Frame>>();
            int before = Directory.GetDirectories("/proc/self/task").Length;
            for (int number = 0; number < Count; number++)
            {
                readers.Add(new Reader($"{name}-{number}", Small));
                writers.Add(new Writer($"{name}-{number}"));
                pending.Add(readers[number].ReadFrameAsync().AsTask());
            }
            Assert.All(pending, read => Assert.False(read.IsCompleted));
            int threads = Directory.GetDirectories("/proc/self/task").Length - before;
            Assert.True(threads < FewThreads, $"{threads} threads for {Count} reads");
            for (int number = Count - 1; number >= 0; number--)
            {
                writers[number].WriteFrame(BitConverter.GetBytes(number));
            }
            Frame[] frames = await Task.WhenAll(pending).WaitAsync(Patience);
            for (int number = 0; number < Count; number++)
            {
                Assert.Equal(number, frames[number].As<int>());
            }
        }
        finally
        {
            writers.ForEach(static writer => writer.Dispose());
            readers.ForEach(static reader => reader.Dispose());
        }
    }

    [Fact]
    public async Task A_cancelled_read_loses_no_frame()
    {
        const int Rounds = 3000;
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        int next = 0;
        int cancelled = 0;
        var random = new Random(1);
        for (int round = 0; round < Rounds; round++)
        {
            using var source = new CancellationTokenSource();
            ValueTask<Frame> read = reader.ReadFrameAsync(source.Token);
            byte[] data = BitConverter.GetBytes(round);
            Task writing = Task.Run(() => writer.WriteFrame(data));
            Thread.SpinWait(random.Next(2000));
            source.Cancel();
            try
            {
                Assert.Equal(next++, (await read).As<int>());
            }
            catch (OperationCanceledException)
            {
                next--;
                cancelled++;
            }
            while (next <= round)
            {
                Assert.Equal(next++, (await reader.ReadFrameAsync(Patience)).As<int>());
            }
            await writing;
        }
        Assert.Equal(Rounds, next);
        Assert.InRange(cancelled, 1, Rounds - 1);
    }

    [Fact]
    public async Task Dispose_ends_a_pending_read_whatever_comes_at_that_moment()
    {
        for (int round = 0; round < 500; round++)
        {
            string name = Names.New();
            using var reader = new Reader(name, Small);
            using var writer = new Writer(name);
            using var source = new CancellationTokenSource();
            Task<Frame> read = reader.ReadFrameAsync(Patience, source.Token).AsTask();
            Task other = Task.Run(() =>
            {
                switch (round % 4)
                {
                    case 0:
                        writer.Dispose();
                        break;
                    case 1:
                        source.Cancel();
                        break;
                    case 2:
                        reader.Interrupt();
                        break;
                    default:
                        _ = Record.Exception(() => writer.WriteFrame(new byte[] { 1 }));
                        break;
                }
            });
            reader.Dispose();
            await other.WaitAsync(Patience);
            Exception? error = await Record.ExceptionAsync(() => read.WaitAsync(Patience));
            Assert.True(error is null or ClosedException or InterruptedException or OperationCanceledException, $"{error}");
            if (error is null)
            {
                (await read).Dispose();
            }
            await Assert.ThrowsAsync<ClosedException>(async () => await reader.ReadFrameAsync());
        }
    }

    [Fact]
    public async Task A_pending_read_has_the_reader_to_itself_and_is_interrupted()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        for (int round = 0; round < 100; round++)
        {
            ValueTask<Frame> read = reader.ReadFrameAsync();
            Assert.Throws<InvalidStateException>(() => reader.ReadFrame(TimeSpan.Zero));
            reader.Interrupt();
            await Assert.ThrowsAsync<InterruptedException>(async () => await read);
            Assert.False((await reader.ReadFrameAsync(TimeSpan.FromMilliseconds(1))).IsValid);
            Assert.False(reader.ReadFrame(TimeSpan.Zero).IsValid);
            writer.WriteFrame(new byte[] { 1 });
            Assert.True((await reader.ReadFrameAsync()).IsValid);
        }
    }

    [Fact]
    public async Task Continuations_that_block_hold_up_nobody()
    {
        const int Count = 3;
        string name = Names.New();
        using var gate = new ManualResetEventSlim();
        var blocked = new List<Task>();
        var pairs = Enumerable.Range(0, Count).Select(number => (Reader: new Reader($"{name}-{number}", Small), Writer: new Writer($"{name}-{number}"))).ToList();
        int waiting = 0;

        async Task ReadAndBlock(Reader reader)
        {
            await reader.ReadFrameAsync().ConfigureAwait(false);
            Interlocked.Increment(ref waiting);
            gate.Wait();
        }

        foreach ((Reader reader, Writer writer) in pairs.Take(Count - 1))
        {
            blocked.Add(ReadAndBlock(reader));
            writer.WriteFrame(new byte[] { 1 });
        }
        for (int round = 0; round < 100; round++)
        {
            ValueTask<Frame> read = pairs[^1].Reader.ReadFrameAsync();
            pairs[^1].Writer.WriteFrame(new byte[] { 2 });
            Assert.Equal(2, (await read.AsTask().WaitAsync(Patience)).Data[0]);
        }
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref waiting) == Count - 1, Patience));
        gate.Set();
        await Task.WhenAll(blocked).WaitAsync(Patience);
        pairs.ForEach(static pair => pair.Writer.Dispose());
        pairs.ForEach(static pair => pair.Reader.Dispose());
    }

    [Fact]
    public async Task An_asynchronous_write_waits_for_space()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        byte[] half = new byte[2000];
        Assert.True(writer.WriteFrameAsync(half).IsCompletedSuccessfully);
        Assert.True(writer.WriteFrameAsync(half).IsCompletedSuccessfully);
        for (int round = 0; round < 200; round++)
        {
            half[0] = (byte)round;
            ValueTask<ulong> write = writer.WriteFrameAsync(half, Timeout.InfiniteTimeSpan);
            Assert.False(write.IsCompleted);
            Assert.Throws<InvalidStateException>(() => writer.WriteFrame(half));
            reader.ReadFrame(Patience).Dispose();
            Assert.Equal((ulong)round + 3, await write);
        }
        await Assert.ThrowsAsync<BufferFullException>(async () => await writer.WriteFrameAsync(half, TimeSpan.FromMilliseconds(5)));
        await Assert.ThrowsAsync<BufferFullException>(async () => await writer.WriteFrameAsync(half, TimeSpan.Zero));
        using var source = new CancellationTokenSource(TimeSpan.FromMilliseconds(5));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await writer.WriteFrameAsync(half, source.Token));
        ValueTask<ulong> interrupted = writer.WriteFrameAsync(half);
        writer.Interrupt();
        await Assert.ThrowsAsync<InterruptedException>(async () => await interrupted);
        ValueTask<ulong> orphaned = writer.WriteFrameAsync(half);
        reader.Dispose();
        await Assert.ThrowsAsync<ReaderDeadException>(async () => await orphaned);
    }

    [Fact]
    public async Task Dispose_ends_a_pending_write()
    {
        for (int round = 0; round < 200; round++)
        {
            string name = Names.New();
            using var reader = new Reader(name, Small);
            using var writer = new Writer(name);
            byte[] most = new byte[4000];
            writer.WriteFrame(most);
            Task<ulong> write = writer.WriteFrameAsync(most).AsTask();
            Task reading = Task.Run(() => reader.ReadFrame(TimeSpan.Zero).Dispose());
            writer.Dispose();
            await reading;
            Exception? error = await Record.ExceptionAsync(() => write.WaitAsync(Patience));
            Assert.True(error is null or ClosedException, $"{error}");
        }
    }

    [Fact]
    public async Task A_read_that_waits_allocates_nothing()
    {
        const int Rounds = 2000;
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        byte[] data = { 1 };

        async ValueTask Run(int rounds)
        {
            for (int round = 0; round < rounds; round++)
            {
                ValueTask<Frame> read = reader.ReadFrameAsync();
                writer.WriteFrame(data);
                Assert.True((await read.ConfigureAwait(false)).IsValid);
            }
        }

        await Run(Rounds);
        long before = GC.GetTotalAllocatedBytes(precise: true);
        await Run(Rounds);
        long bytes = GC.GetTotalAllocatedBytes(precise: true) - before;
        // Other tests run at the same time, and the pool allocates now and then.
        Assert.True(bytes < Rounds * 200L, $"{bytes / Rounds} bytes a read");
    }
}
