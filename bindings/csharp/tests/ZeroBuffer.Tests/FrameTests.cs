using System.Runtime.CompilerServices;

namespace ZeroBuffer.Tests;

/// <summary>Tests that count collections, which those of other tests would disturb.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class Alone
{
    internal const string Name = "alone";
}

/// <summary>How long a frame is valid, and what is told afterwards.</summary>
[Collection(Alone.Name)]
public sealed class FrameTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    [Fact]
    public void A_frame_ends_when_it_is_disposed()
    {
        using var pair = new Pair();
        Frame frame = pair.Next(1);
        Frame copy = frame;
        frame.Dispose();
        frame.Dispose();
        AssertEnded(frame);
        AssertEnded(copy);
        Frame next = pair.Next(2);
        copy.Dispose();
        Assert.True(next.IsValid, "a late dispose of a copy leaves the next frame alone");
        Assert.Equal(2, next.Data[0]);
    }

    [Fact]
    public void A_frame_ends_at_the_next_read_whatever_that_returns()
    {
        using var pair = new Pair();
        Frame first = pair.Next(1);
        Frame second = pair.Next(2);
        AssertEnded(first);
        Assert.Equal(2, second.Data[0]);
        Assert.False(pair.Reader.ReadFrame(TimeSpan.Zero).IsValid);
        AssertEnded(second);
        Frame third = pair.Next(3);
        Assert.False(pair.Reader.TryReadFrame(out _));
        AssertEnded(third);
    }

    [Fact]
    public void Looking_for_the_writer_leaves_a_frame_alone()
    {
        using var pair = new Pair();
        Frame frame = pair.Next(1);
        Assert.True(pair.Reader.IsWriterConnected());
        Assert.True(pair.Reader.GetMetadata().IsEmpty);
        Assert.Equal(1UL, pair.Reader.FramesRead);
        Assert.Equal(1, frame.Data[0]);
    }

    [Fact]
    public void A_retained_frame_stays_until_it_is_disposed()
    {
        using var pair = new Pair();
        Frame lent = pair.Next(1);
        Frame kept = lent.Retain();
        AssertEnded(lent);
        for (byte number = 2; number < 100; number++)
        {
            pair.Next(number);
        }
        Assert.Equal(1, kept.Data[0]);
        Assert.Equal(1UL, kept.Sequence);
        Frame again = kept.Retain();
        AssertEnded(kept);
        pair.Reader.Dispose();
        pair.Writer.Dispose();
        Assert.Equal(1, Eventually.Result(Task.Run(() => again.ToArray()))[0]);
        Task.Run(again.Dispose).Wait();
        AssertEnded(again);
        Assert.Throws<ObjectDisposedException>(() => again.Retain());
    }

    [Fact]
    public void A_frame_outlives_its_reader()
    {
        using var pair = new Pair();
        Frame frame = pair.Next(7);
        pair.Reader.Dispose();
        Assert.True(frame.IsValid);
        Assert.Equal(7, frame.Data[0]);
        frame.Dispose();
        AssertEnded(frame);
    }

    [Fact]
    public void Memory_ends_with_its_frame()
    {
        using var pair = new Pair();
        Frame frame = pair.Next(1);
        ReadOnlyMemory<byte> memory = frame.Memory;
        Assert.Equal(1, memory.Span[0]);
        using (var pin = memory.Pin())
        {
            Frame other = frame;
            unsafe
            {
                Assert.Equal(1, *(byte*)pin.Pointer);
            }
        }
        Frame next = pair.Next(2);
        Assert.Throws<ObjectDisposedException>(() => _ = memory.Span);
        ReadOnlyMemory<byte> second = next.Memory;
        Assert.Equal(2, second.Span[0]);
        next.Dispose();
        Assert.Throws<ObjectDisposedException>(() => _ = second.Span);
        Assert.Equal(3, pair.Next(3).Data[0]);
    }

    [Fact]
    public void A_frame_can_be_changed_in_place()
    {
        using var pair = new Pair();
        Frame frame = pair.Next(1);
        frame.GetMutableSpan().Fill(9);
        Assert.Equal(9, frame.Data[0]);
    }

    [Fact]
    public void A_million_frames_that_nobody_disposes_neither_stall_nor_allocate()
    {
        using var pair = new Pair(1 << 20);
        byte[] data = new byte[64];
        for (int turn = 0; turn < 2; turn++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            int collections = GC.CollectionCount(0);
            for (int number = 0; number < (turn == 0 ? 30_000 : 1_000_000); number++)
            {
                pair.Writer.WriteFrame(data);
                Frame frame = pair.Reader.ReadFrame(Soon);
                if (frame.Size != 64)
                {
                    Assert.Fail("wrong size");
                }
            }
            if (turn == 1)
            {
                Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
                Assert.Equal(collections, GC.CollectionCount(0));
            }
        }
    }

    /// <summary>
    /// Far beyond the frames at which the ring would be full if they were kept: 4,000 of 64 KiB, 80 of 3.1 MB. In pieces of a second or so.
    /// </summary>
    [Theory]
    [InlineData(65_536, 30_000)]
    [InlineData(3_110_400, 600)]
    public void Large_frames_that_are_not_disposed_neither_stall_nor_allocate(int size, int count)
    {
        using var pair = new Pair(256 << 20);
        byte[] data = new byte[size];
        pair.Writer.WriteFrame(data);
        Assert.True(pair.Reader.ReadFrame(Soon).IsValid);
        long start = Environment.TickCount64;
        long before = GC.GetAllocatedBytesForCurrentThread();
        int collections = GC.CollectionCount(0);
        for (int number = 0; number < count; number++)
        {
            pair.Writer.WriteFrame(data);
            Frame frame = pair.Reader.ReadFrame(Soon);
            if (frame.Size != size)
            {
                Assert.Fail("wrong size");
            }
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(collections, GC.CollectionCount(0));
        // Ten times what a slow machine takes to copy the bytes.
        Assert.InRange(Environment.TickCount64 - start, 0, 20_000);
    }

    /// <summary>Readers that end, while other threads use their frames and collect garbage: an exception, or the right bytes.</summary>
    [Fact]
    public void Frames_of_readers_that_end_never_show_a_wrong_byte()
    {
        using var stop = new CancellationTokenSource();
        var collector = Task.Factory.StartNew(
            () =>
            {
                while (!stop.IsCancellationRequested)
                {
                    GC.Collect();
                    GC.WaitForPendingFinalizers();
                }
            },
            TaskCreationOptions.LongRunning);
        int right = 0;
        for (int round = 0; round < 300; round++)
        {
            Frame lent = Last(round % 3);
            byte[] seen = new byte[1];
            try
            {
                lent.CopyTo(seen);
                Assert.Equal(2, seen[0]);
                right++;
                Frame copy = lent;
                var other = Task.Run(copy.Dispose);
                lent.Dispose();
                other.Wait();
            }
            catch (ObjectDisposedException)
            {
            }
            AssertEnded(lent);
        }
        stop.Cancel();
        Assert.True(collector.Wait(Eventually.Patience));
        Assert.True(right >= 200, "frames that are valid were ended by the end of their reader");

        // The last frame of a reader that was disposed, forgotten, or disposed and read before.
        static Frame Last(int how)
        {
            var pair = new Pair();
            pair.Next(1);
            Frame frame = pair.Next(2);
            switch (how)
            {
                case 0:
                    pair.Dispose();
                    break;
                case 1:
                    pair.Writer.Dispose();
                    break;
                default:
                    pair.Reader.TryReadFrame(out _);
                    pair.Dispose();
                    break;
            }
            return frame;
        }
    }

    /// <summary>One thread reads, another uses every frame late, a third collects garbage: an exception, or the right bytes.</summary>
    [Fact]
    public void Late_uses_on_other_threads_never_see_another_frames_bytes()
    {
        using var pair = new Pair(1 << 16);
        using var stop = new CancellationTokenSource();
        var latest = new StrongBox<(Frame Frame, ulong Number)>();
        object swap = new();
        long looked = 0, ended = 0;
        var collector = Task.Factory.StartNew(
            () =>
            {
                while (!stop.IsCancellationRequested)
                {
                    GC.Collect();
                }
            },
            TaskCreationOptions.LongRunning);
        var late = Task.Factory.StartNew(
            () =>
            {
                while (!stop.IsCancellationRequested)
                {
                    (Frame frame, ulong number) seen;
                    lock (swap)
                    {
                        seen = latest.Value;
                    }
                    try
                    {
                        ulong sequence = seen.frame.Sequence;
                        int size = seen.frame.Size;
                        looked++;
                        if (seen.number != 0 && (sequence != seen.number || (ulong)size != 8 + (seen.number % 50)))
                        {
                            throw new InvalidOperationException($"frame {seen.number} showed {sequence} with {size} bytes");
                        }
                        seen.frame.Dispose();
                    }
                    catch (ObjectDisposedException)
                    {
                        ended++;
                    }
                }
            },
            TaskCreationOptions.LongRunning);
        for (ulong number = 1; number < 30_000; number++)
        {
            pair.Writer.WriteFrame(new byte[8 + (number % 50)]);
            Frame frame = pair.Reader.ReadFrame(Soon);
            lock (swap)
            {
                latest.Value = (frame, number);
            }
        }
        Eventually.Holds(() => Interlocked.Read(ref ended) > 0 && Interlocked.Read(ref looked) > 0);
        stop.Cancel();
        Assert.True(Task.WaitAll(new[] { collector, late }, Eventually.Patience));
    }

    private static void AssertEnded(Frame frame)
    {
        Assert.False(frame.IsValid);
        Assert.False(frame.EndOfStream);
        Assert.Throws<ObjectDisposedException>(() => _ = frame.Data);
        Assert.Throws<ObjectDisposedException>(() => _ = frame.Span);
        Assert.Throws<ObjectDisposedException>(() => _ = frame.Memory);
        Assert.Throws<ObjectDisposedException>(() => _ = frame.Size);
        Assert.Throws<ObjectDisposedException>(() => _ = frame.Sequence);
        Assert.Throws<ObjectDisposedException>(() => frame.ToArray());
        Assert.Throws<ObjectDisposedException>(() => frame.GetMutableSpan());
        var ended = Assert.Throws<ObjectDisposedException>(() =>
        {
            unsafe
            {
                _ = *frame.Pointer;
            }
        });
        Assert.Contains("Retain() keeps a frame", ended.Message, StringComparison.Ordinal);
    }

    private sealed class Pair : IDisposable
    {
        internal Pair(int payload = 4096)
        {
            string name = Names.New();
            Reader = new Reader(name, new BufferConfig(64, payload));
            Writer = new Writer(name);
        }

        internal Reader Reader { get; }

        internal Writer Writer { get; }

        public void Dispose()
        {
            Writer.Dispose();
            Reader.Dispose();
        }

        internal Frame Next(byte value)
        {
            Writer.WriteFrame(new[] { value });
            return Reader.ReadFrame(Soon);
        }
    }
}
