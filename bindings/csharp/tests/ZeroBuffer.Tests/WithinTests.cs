using System.Diagnostics;

namespace ZeroBuffer.Tests;

/// <summary>Writes with a time-out of their own.</summary>
public sealed class WithinTests
{
    private static readonly BufferConfig Small = new(64, 4096);

    [Fact]
    public void A_write_waits_for_the_time_that_it_is_given()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        byte[] data = new byte[1000];
        Assert.Equal(1UL, writer.WriteFrame(data, TimeSpan.Zero));
        Fill(writer, data);
        foreach (int milliseconds in new[] { 0, 40 })
        {
            TimeSpan time = TimeSpan.FromMilliseconds(milliseconds);
            long start = Stopwatch.GetTimestamp();
            Assert.Throws<BufferFullException>((Action)(() => writer.WriteFrame(data, time)));
            Assert.Throws<BufferFullException>(() => writer.AcquireFrameBuffer(1000, out _, time));
            Assert.True(ElapsedSince(start) >= 2 * time, "it did not wait");
        }
        Assert.Equal(TimeSpan.FromSeconds(5), writer.WriteTimeout);
        Assert.Throws<ArgumentOutOfRangeException>((Action)(() => writer.WriteFrame(data, TimeSpan.FromMilliseconds(-2))));
        Assert.True(reader.ReadFrame(Eventually.Patience).IsValid);
        Assert.True(reader.ReadFrame(Eventually.Patience).IsValid);
        writer.AcquireFrameBuffer(1000, out Span<byte> frame, TimeSpan.Zero);
        frame.Fill(5);
        Assert.True(writer.CommitFrame() > 1);
    }

    [Fact]
    public void A_token_ends_a_wait_for_space_to_be_filled_in_place()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name, new WriterOptions { WriteTimeout = Timeout.InfiniteTimeSpan });
        Fill(writer, new byte[1000]);
        using var source = new CancellationTokenSource(TimeSpan.FromMilliseconds(30));
        Assert.ThrowsAny<OperationCanceledException>(() => writer.AcquireFrameBuffer(1000, out _, source.Token));
        Assert.ThrowsAny<OperationCanceledException>(() => writer.AcquireFrameBuffer(1000, out _, Eventually.Patience, source.Token));
        Assert.ThrowsAny<OperationCanceledException>((Action)(() => writer.WriteFrame(new byte[1000], Eventually.Patience, source.Token)));
        while (reader.TryReadFrame(out _))
        {
            // Until there is space.
        }
        writer.AcquireFrameBuffer(1000, out _, source.Token);
        writer.DiscardFrame();
        Assert.True(writer.WriteFrame(new byte[10], source.Token) > 1);
    }

    private static void Fill(Writer writer, byte[] data)
    {
        while (writer.TryWriteFrame(data))
        {
            // Until there is no space.
        }
    }

    private static TimeSpan ElapsedSince(long start) => TimeSpan.FromSeconds((Stopwatch.GetTimestamp() - start) / (double)Stopwatch.Frequency);
}
