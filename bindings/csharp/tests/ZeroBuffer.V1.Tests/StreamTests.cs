using System.Diagnostics;
using System.Reflection;
using System.Runtime.Versioning;

namespace ZeroBuffer.Tests;

/// <summary>Streams as programs of 1.x know them.</summary>
public sealed class StreamTests
{
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(150);
    private static readonly BufferConfig Small = new() { MetadataSize = 256, PayloadSize = 4096 };

    [Fact]
    public void Frames_stay_until_they_are_disposed_and_can_be_drawn_into()
    {
        string name = Names.New("v1");
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        for (byte number = 1; number <= 3; number++)
        {
            Span<byte> bytes = writer.GetFrameBuffer(10, out ulong sequence);
            bytes.Fill(number);
            Assert.Equal(number, sequence);
            writer.CommitFrame();
        }
        Frame first = reader.ReadFrame();
        Frame second = reader.ReadFrame(TimeSpan.Zero);
        first.GetMutableSpan()[0] = 99;
        using Frame third = reader.ReadFrame();
        Assert.Equal(99, first.Span[0]);
        Assert.Equal(new byte[] { 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 }, second.ToArray());
        Assert.Equal((3UL, 10, true), (third.Sequence, third.Size, third.IsValid));
        Assert.True(third.ToFrameRef().Data.SequenceEqual(third.Span));
        unsafe
        {
            Assert.Equal(3, *third.Pointer);
        }
        first.Dispose();
        Assert.False(first.IsValid);
        Assert.Throws<ObjectDisposedException>(() => first.Size);
        second.Dispose();
        Assert.False(Frame.Invalid.IsValid);
        Assert.False(FrameRef.Invalid.IsValid);
    }

    [Fact]
    public void A_read_without_a_writer_ends_with_its_time()
    {
        string name = Names.New("v1");
        using var reader = new Reader(name, Small);
        Assert.Throws<WriterDeadException>(() => reader.ReadFrame(TimeSpan.Zero));
        using (var writer = new Writer(name))
        {
            // One is connected: the time is over, and no more.
            Assert.False(reader.ReadFrame(Moment).IsValid);
            writer.WriteFrame(new byte[] { 1 });
        }
        using (Frame frame = reader.ReadFrame(Moment))
        {
            Assert.Equal(1, frame.Span[0]);
        }
        // The end of the stream is told when the time is over, not at once.
        long start = Stopwatch.GetTimestamp();
        Assert.Throws<WriterDeadException>(() => reader.ReadFrame(Moment));
        Assert.True(Stopwatch.GetElapsedTime(start) >= Moment - TimeSpan.FromMilliseconds(20));
        Assert.False(reader.IsWriterConnected());
        Assert.Throws<WriterDeadException>(() => reader.ReadFrame(TimeSpan.Zero));
    }

    [Fact]
    public void A_writer_that_comes_while_a_read_waits_is_read()
    {
        string name = Names.New("v1");
        using var reader = new Reader(name, Small);
        new Writer(name).Dispose();
        Task<byte> read = Task.Run(() =>
        {
            using Frame frame = reader.ReadFrame(Timeout.InfiniteTimeSpan);
            return frame.Span[0];
        });
        using var writer = new Writer(name);
        writer.WriteFrame(new byte[] { 7 });
        Assert.Equal(7, Eventually.Result(read));
    }

    [Fact]
    public void A_killed_writer_is_dead_when_the_time_is_over()
    {
        string name = Names.New("v1");
        using var reader = new Reader(name, new BufferConfig());
        using var writer = new RunningProgram(Cli, new[] { "writer", name, "-n", "2", "-s", "100", "--delay-ms", "600000" });
        using (Frame frame = reader.ReadFrame(Eventually.Patience))
        {
            Assert.Equal(100, frame.Size);
        }
        writer.Kill();
        writer.End();
        long start = Stopwatch.GetTimestamp();
        Assert.Throws<WriterDeadException>(() => reader.ReadFrame(Moment));
        Assert.True(Stopwatch.GetElapsedTime(start) >= Moment - TimeSpan.FromMilliseconds(20), "told before the time is over");
    }

    [Fact]
    public void Metadata_is_written_once()
    {
        string name = Names.New("v1");
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        Assert.Equal(0, reader.GetMetadata().Length);
        Assert.Equal("Metadata too large for buffer", Assert.Throws<ArgumentException>(() => writer.SetMetadata(new byte[1000])).Message);
        "caps"u8.CopyTo(writer.GetMetadataBuffer(4));
        writer.CommitMetadata();
        Assert.True(reader.GetMetadata().SequenceEqual("caps"u8));
        Assert.Equal("Metadata already written", Assert.Throws<InvalidOperationException>(() => writer.SetMetadata("more"u8)).Message);
    }

    [Fact]
    public void Each_error_has_its_old_exception()
    {
        string name = Names.New("v1");
        Assert.Contains(name, Assert.Throws<BufferNotFoundException>(() => new Writer(name)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new Reader("", Small));
        Assert.Throws<ArgumentException>(() => new Writer(""));
        using (var reader = new Reader(name, Small))
        {
            Assert.Throws<ReaderAlreadyConnectedException>(() => new Reader(name, Small));
            using var writer = new Writer(name);
            Assert.Throws<WriterAlreadyConnectedException>(() => new Writer(name));
            Assert.Throws<FrameTooLargeException>(() => writer.WriteFrame(new byte[5000]));
            Assert.Equal(TimeSpan.FromSeconds(5), writer.WriteTimeout);
            foreach (TimeSpan wrong in new[] { TimeSpan.Zero, Timeout.InfiniteTimeSpan, TimeSpan.FromSeconds(-1) })
            {
                Assert.Throws<ArgumentOutOfRangeException>(() => writer.WriteTimeout = wrong);
            }
            writer.WriteTimeout = Moment;
            writer.WriteFrame(new byte[3000]);
            Assert.Throws<BufferFullException>(() => writer.WriteFrame(new byte[3000]));
            Assert.Throws<InvalidOperationException>(() => writer.CommitFrame());
            Assert.True(writer.IsReaderConnected());
            reader.Dispose();
            Assert.False(writer.IsReaderConnected());
            Assert.Throws<ReaderDeadException>(() => writer.WriteFrame(new byte[3000]));
            Assert.Throws<ObjectDisposedException>(() => reader.ReadFrame());
        }
        foreach (ZeroBufferException error in new ZeroBufferException[]
        {
            new BufferFullException(), new FrameTooLargeException(), new WriterDeadException(), new ReaderDeadException(),
            new WriterAlreadyConnectedException(), new ReaderAlreadyConnectedException(), new BufferNotFoundException("b"),
            new BufferNotFoundException("text", true), new ZeroBufferException("text", new IOException()),
        })
        {
            Assert.NotEmpty(error.Message);
        }
    }

    [Fact]
    public void Defaults_are_those_of_1_x()
    {
        string name = Names.New("v1");
        Assert.False(Reader.WaitExists(name, TimeSpan.Zero));
        Task<bool> waits = Task.Run(() => Reader.WaitExists(name, Eventually.Patience));
        using var reader = new Reader(name, new BufferConfig());
        Assert.True(Eventually.Result(waits));
        Assert.Equal((1024, 1024 * 1024), (new BufferConfig().MetadataSize, new BufferConfig().PayloadSize));
        string umask = File.ReadLines("/proc/self/status").First(line => line.StartsWith("Umask:", StringComparison.Ordinal))[6..].Trim();
        Assert.Equal((UnixFileMode)(0b110_110_110 & ~Convert.ToInt32(umask, 8)), File.GetUnixFileMode("/dev/shm/" + name));
    }

    [Fact]
    public void The_layout_of_memory_is_that_of_protocol_1()
    {
        string name = Names.New("v1");
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        byte[] bytes = new byte[Constants.OIEBSize];
        using (FileStream memory = File.OpenRead("/dev/shm/" + name))
        {
            memory.ReadExactly(bytes);
        }
        OIEB header = System.Runtime.InteropServices.MemoryMarshal.Read<OIEB>(bytes);
        Assert.Equal((128u, 1, 256UL, 4096UL), (header.OiebSize, header.Version.Major, header.MetadataSize, header.PayloadSize));
        Assert.Equal(((ulong)Environment.ProcessId, (ulong)Environment.ProcessId), (header.ReaderPid, header.WriterPid));
        Assert.Equal(Constants.FrameHeaderSize, System.Runtime.CompilerServices.Unsafe.SizeOf<FrameHeader>());
    }

    [Fact]
    public void Other_languages_read_and_write()
    {
        string name = Names.New("v1");
        using (var reader = new Reader(name, new BufferConfig()))
        {
            using var writer = new RunningProgram(Cli, new[] { "writer", name, "-n", "50", "-s", "3000", "--pattern", "zero" });
            for (ulong number = 1; number <= 50; number++)
            {
                using Frame frame = reader.ReadFrame(Eventually.Patience);
                Assert.Equal((number, 3000, -1), (frame.Sequence, frame.Size, frame.Span.IndexOfAnyExcept((byte)0)));
            }
            Assert.Equal(0, writer.End().Code);
        }
        using var other = new RunningProgram(Cli, new[] { "reader", name, "-n", "50" });
        Assert.True(Reader.WaitExists(name, Eventually.Patience));
        using (var writer = new Writer(name))
        {
            for (int number = 0; number < 50; number++)
            {
                writer.WriteFrame(new byte[1024]);
            }
        }
        Assert.Equal(0, other.End().Code);
    }

    [Fact]
    public void The_assembly_is_the_one_for_this_runtime()
    {
        string target = Environment.Version.Major < 10 ? "v6.0" : "v10.0";
        TargetFrameworkAttribute tested = typeof(Reader).Assembly.GetCustomAttribute<TargetFrameworkAttribute>()!;
        Assert.Equal($".NETCoreApp,Version={target}", tested.FrameworkName);
    }

    internal static string Cli =>
        Environment.GetEnvironmentVariable("ZEROBUFFER_CLI") ?? throw new InvalidOperationException("ZEROBUFFER_CLI names the command, as `cargo xtask test csharp` sets it");
}
