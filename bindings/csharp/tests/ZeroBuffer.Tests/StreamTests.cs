namespace ZeroBuffer.Tests;

/// <summary>Readers and writers in one process.</summary>
public sealed class StreamTests
{
    private static readonly BufferConfig Small = new(256, 4096);
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    [Fact]
    public void A_buffer_tells_how_much_of_it_is_in_huge_pages_and_refuses_a_NUMA_node_that_does_not_exist()
    {
        string name = Names.New();
        var config = new BufferConfig(64, 4 << 20) { HugePages = true, NumaNode = BufferConfig.NumaNodeOfReader };
        using (var reader = new Reader(name, config))
        {
            // Where the kernel has none to give, there are none.
            ulong bytes = reader.GetHugePageBytes();
            Assert.True(bytes is 0 or >= 4 << 20, $"{bytes} bytes");
        }
        using (var reader = new Reader(name, new BufferConfig(64, 4 << 20)))
        {
            Assert.Equal(0UL, reader.GetHugePageBytes());
        }
        Assert.Throws<InvalidConfigException>(() => new Reader(name, new BufferConfig { NumaNode = 1000 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => new BufferConfig { NumaNode = -2 });
    }

    [Fact]
    public void Frames_arrive_with_their_bytes_and_numbers()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        Assert.True(reader.IsWriterConnected(20_000));
        for (ulong number = 1; number <= 500; number++)
        {
            byte[] data = new byte[1 + (number * 37 % 300)];
            Array.Fill(data, (byte)number);
            Assert.Equal(number, writer.WriteFrame(data));
            Frame frame = reader.ReadFrame(Soon);
            Assert.True(frame.IsValid);
            Assert.Equal(number, frame.Sequence);
            Assert.Equal(data, frame.ToArray());
            Assert.Equal(data.Length, frame.Size);
        }
        Assert.Equal(500UL, reader.FramesRead);
        Assert.Equal(500UL, writer.FramesWritten);
        Assert.Equal(writer.BytesWritten, reader.BytesRead);
        Assert.Equal(name, reader.Name);
        Assert.Equal(name, writer.Name);
    }

    [Fact]
    public void The_newest_frame_comes_and_those_before_it_are_counted()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        var writer = new Writer(name);
        Assert.False(reader.ReadLatestFrame(TimeSpan.Zero).IsValid);
        for (byte number = 1; number <= 50; number++)
        {
            writer.WriteFrame(new[] { number });
        }
        Frame frame = reader.ReadLatestFrame(Soon);
        Assert.Equal((50UL, (byte)50), (frame.Sequence, frame.Span[0]));
        Assert.Equal((1UL, 49UL), (reader.FramesRead, reader.FramesSkipped));
        using var cancellation = new CancellationTokenSource();
        cancellation.Cancel();
        writer.WriteFrame(new byte[] { 51 });
        Assert.Equal(51UL, reader.ReadLatestFrame(cancellation.Token).Sequence);
        Assert.Throws<OperationCanceledException>(() => reader.ReadLatestFrame(Soon, cancellation.Token));
        Assert.False(reader.ReadLatestFrame(TimeSpan.FromMilliseconds(1)).IsValid);
        writer.WriteFrame(new byte[] { 52 });
        writer.WriteFrame(new byte[] { 53 });
        writer.Dispose();
        Assert.Equal(new[] { 53UL }, reader.LatestFrames(TestContext.Current.CancellationToken).Select(newest => newest.Sequence));
        Assert.Equal(50UL, reader.FramesSkipped);
        using var next = new Writer(name);
        next.WriteFrame(new byte[] { 1 });
        Assert.Equal(1UL, reader.ReadLatestFrame().Sequence);
        reader.Dispose();
        Assert.Throws<ClosedException>(() => reader.ReadLatestFrame());
        Assert.Equal(0UL, reader.FramesSkipped);
    }

    [Fact]
    public void A_reader_and_a_writer_tell_what_they_have_done_and_what_they_hold()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        byte[] large = new byte[3000];
        Assert.Null(reader.GetStats().OldestHeld);
        writer.WriteFrame(large);
        Assert.False(writer.TryWriteFrame(large));
        writer.WriteTimeout = TimeSpan.FromMilliseconds(1);
        Assert.Throws<BufferFullException>(() => writer.WriteFrame(large));
        Assert.Equal(new WriterStats(FramesWritten: 1, BytesWritten: 3000, Waits: 1, Full: 2), writer.GetStats());

        using (Frame kept = reader.ReadFrame(Soon).Retain())
        {
            Assert.False(reader.ReadFrame(TimeSpan.FromMilliseconds(1)).IsValid);
            ReaderStats stats = Task.Run(reader.GetStats, TestContext.Current.CancellationToken).Result;
            Assert.Equal((1UL, 3000UL, 1UL), (stats.FramesRead, stats.BytesRead, stats.Waits));
            Assert.Equal((1UL, 1UL), (stats.FramesHeld, stats.OldestHeld));
            Assert.True(stats.BytesHeld >= 3000);
        }
        Assert.Equal(0UL, reader.GetStats().FramesHeld);
        reader.Dispose();
        Assert.Throws<ClosedException>(() => reader.GetStats());
    }

    [Fact]
    public void A_read_without_a_frame_is_invalid_at_the_time_out()
    {
        using var reader = new Reader(Names.New(), Small);
        Frame frame = reader.ReadFrame(TimeSpan.FromMilliseconds(20));
        Assert.False(frame.IsValid);
        Assert.False(frame.EndOfStream);
        Assert.Equal(0, frame.Size);
        Assert.True(frame.Data.IsEmpty);
        Assert.Equal(Frame.Invalid, frame);
        Assert.False(reader.TryReadFrame(out _));
        Assert.False(reader.IsWriterConnected());
        Assert.False(reader.IsWriterConnected(10));
    }

    [Fact]
    public void The_end_of_a_stream_is_told_once_after_all_frames()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using (var writer = new Writer(name))
        {
            writer.WriteFrame(new byte[] { 1 });
        }
        Assert.True(reader.IsWriterConnected());
        Assert.True(reader.ReadFrame(Soon).IsValid);
        Frame end = reader.ReadFrame(Soon);
        Assert.False(end.IsValid);
        Assert.True(end.EndOfStream);
        Assert.False(reader.IsWriterConnected());
        using var next = new Writer(name);
        next.WriteFrame(new byte[] { 2 });
        Assert.Equal(2, reader.ReadFrame(Soon).Data[0]);
    }

    [Fact]
    public void Frames_are_written_in_place()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        writer.AcquireFrameBuffer(100, out Span<byte> buffer);
        Assert.Equal(100, buffer.Length);
        buffer.Fill(7);
        Assert.Throws<InvalidStateException>(() => writer.WriteFrame(new byte[1]));
        Assert.Throws<InvalidStateException>(() => writer.AcquireFrameBuffer(1, out _));
        Assert.Throws<InvalidFrameSizeException>(() => writer.CommitFrame(101));
        Assert.Equal(1UL, writer.CommitFrame(40));
        Assert.Equal(Enumerable.Repeat((byte)7, 40), reader.ReadFrame(Soon).ToArray());
        writer.AcquireFrameBuffer(100, out _);
        writer.DiscardFrame();
        Assert.Throws<InvalidStateException>(() => writer.CommitFrame());
        Assert.True(writer.TryAcquireFrameBuffer(4, out buffer));
        buffer.Fill(9);
        Assert.Equal(2UL, writer.CommitFrame());
        Assert.Equal(4, reader.ReadFrame(Soon).Size);
    }

    [Fact]
    public void A_full_buffer_is_told_after_the_write_time_out()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        Assert.Equal(TimeSpan.FromSeconds(5), writer.WriteTimeout);
        writer.WriteTimeout = TimeSpan.FromMilliseconds(30);
        Assert.Equal(TimeSpan.FromMilliseconds(30), writer.WriteTimeout);
        byte[] data = new byte[1000];
        Assert.Throws<BufferFullException>((Action)(() =>
        {
            while (true)
            {
                writer.WriteFrame(data);
            }
        }));
        Assert.False(writer.TryWriteFrame(data));
        Assert.False(writer.TryAcquireFrameBuffer(1000, out _));
        Assert.True(reader.ReadFrame(Soon).IsValid);
        Assert.True(reader.ReadFrame(Soon).IsValid);
        Assert.True(writer.TryWriteFrame(data, out ulong sequence));
        Assert.Equal(writer.FramesWritten, sequence);
        writer.WriteTimeout = Timeout.InfiniteTimeSpan;
        Assert.Equal(Timeout.InfiniteTimeSpan, writer.WriteTimeout);
    }

    [Fact]
    public void Errors_have_their_kind_and_name_the_buffer()
    {
        string name = Names.New();
        var missing = Assert.Throws<BufferNotFoundException>(() => new Writer(name));
        Assert.Equal(ErrorKind.BufferNotFound, missing.Kind);
        Assert.Equal(name, missing.BufferName);
        Assert.Contains(name, missing.Message, StringComparison.Ordinal);
        using var reader = new Reader(name, Small);
        Assert.Throws<ReaderAlreadyConnectedException>(() => new Reader(name, Small));
        using var writer = new Writer(name);
        Assert.Throws<WriterAlreadyConnectedException>(() => new Writer(name));
        Assert.Throws<FrameTooLargeException>(() => writer.WriteFrame(new byte[writer.MaxFrameSize + 1]));
        Assert.Throws<InvalidFrameSizeException>(() => writer.WriteFrame(Array.Empty<byte>()));
        Assert.Throws<InvalidFrameSizeException>(() => writer.WriteFrame(default(ReadOnlySpan<byte>)));
        Assert.Throws<InvalidNameException>(() => new Reader("a/b", Small));
        Assert.Throws<InvalidNameException>(() => new Reader("a\0b", Small));
        Assert.Throws<InvalidNameException>(() => new Writer(""));
        Assert.Throws<InvalidConfigException>(() => new Reader(Names.New(), new BufferConfig { Mode = 0x7fff }));
        Assert.Throws<ArgumentOutOfRangeException>(() => new BufferConfig(-1, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => reader.ReadFrame(TimeSpan.FromSeconds(-2)));
        Assert.Throws<ArgumentNullException>(() => new Reader(null!));
        reader.Dispose();
        // The first frame may still find room.
        Assert.Throws<ReaderDeadException>((Action)(() =>
        {
            while (true)
            {
                writer.WriteFrame(new byte[1]);
            }
        }));
    }

    [Fact]
    public void Every_kind_has_an_exception_of_its_name()
    {
        var other = new Dictionary<ErrorKind, string> { [ErrorKind.OutOfMemory] = "OutOfSharedMemory", [ErrorKind.System] = "SystemError" };
        foreach (ErrorKind kind in Enum.GetValues<ErrorKind>().Where(kind => (int)kind > -100))
        {
            string expected = $"ZeroBuffer.{(other.TryGetValue(kind, out string? name) ? name : kind.ToString())}Exception";
            Type type = typeof(ZeroBufferException).Assembly.GetType(expected, throwOnError: true)!;
            var made = (ZeroBufferException)Activator.CreateInstance(type, "words")!;
            Assert.Equal(kind, made.Kind);
            Assert.Equal("words", made.Message);
        }
    }

    [Fact]
    public void Metadata_is_set_once()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        Assert.True(reader.GetMetadata().IsEmpty);
        Assert.Throws<MetadataTooLargeException>(() => writer.SetMetadata(new byte[249]));
        writer.SetMetadata("640x480"u8);
        Assert.Equal("640x480"u8.ToArray(), reader.GetMetadata().ToArray());
        Assert.Throws<MetadataAlreadyWrittenException>(() => writer.SetMetadata("again"u8));
    }

    [Fact]
    public void Values_travel_as_they_lie_in_memory()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var writer = new Writer(name);
        writer.WriteFrame(new Point { X = 3, Y = 4.5 });
        ref readonly Point point = ref reader.ReadFrame(Soon).As<Point>();
        Assert.Equal((3, 4.5), (point.X, point.Y));
        writer.WriteFrame<int>(new[] { 1, 2, 3 });
        Frame frame = reader.ReadFrame(Soon);
        Assert.Equal(new[] { 1, 2, 3 }, frame.AsSpan<int>().ToArray());
        Assert.Throws<ArgumentException>(() => _ = frame.As<Point>());
        Assert.Throws<ArgumentException>(() => _ = frame.AsSpan<long>());
        writer.AcquireFrameBuffer<double>(4, out Span<double> values);
        values.Fill(0.5);
        writer.CommitFrame();
        Assert.Equal(32, reader.ReadFrame(Soon).Size);
    }

    [Fact]
    public void A_frame_is_built_piece_by_piece()
    {
        string name = Names.New();
        using var reader = new Reader(name, new BufferConfig(64, 65536));
        using var writer = new Writer(name);
        using (FrameBuilder frame = writer.BeginFrame(16))
        {
            for (int piece = 0; piece < 100; piece++)
            {
                frame.GetSpan(10)[..10].Fill((byte)piece);
                frame.Advance(10);
            }
            Memory<byte> memory = frame.GetMemory(1);
            memory.Span[0] = 255;
            frame.Advance(1);
            Assert.Equal(1001, frame.Written);
            Assert.Throws<FrameTooLargeException>(() => frame.GetSpan(65536));
            frame.Commit();
            Assert.Throws<ObjectDisposedException>(() => _ = memory.Span);
        }
        Frame read = reader.ReadFrame(Soon);
        Assert.Equal(1001, read.Size);
        for (int at = 0; at < 1000; at++)
        {
            Assert.Equal(at / 10, read.Data[at]);
        }
        using (FrameBuilder thrown = writer.BeginFrame())
        {
            thrown.GetSpan(1)[0] = 1;
            thrown.Advance(1);
        }
        Assert.Equal(2UL, writer.WriteFrame(new byte[] { 2 }));
        using (FrameBuilder json = writer.BeginFrame())
        {
            using var text = new System.Text.Json.Utf8JsonWriter(json);
            text.WriteStartArray();
            text.WriteNumberValue(7);
            text.WriteEndArray();
            text.Flush();
            json.Commit();
        }
        Assert.Equal(2UL, reader.ReadFrame(Soon).Sequence);
        Assert.Equal("[7]"u8.ToArray(), reader.ReadFrame(Soon).ToArray());
    }

    [Fact]
    public void An_interrupt_ends_one_wait()
    {
        using var reader = new Reader(Names.New(), Small);
        Task<Exception?> blocked = Task.Factory.StartNew(
            () => Record.Exception(() => reader.ReadFrame(Timeout.InfiniteTimeSpan)), TaskCreationOptions.LongRunning);
        reader.Interrupt();
        Assert.IsType<InterruptedException>(Eventually.Result(blocked));
        Assert.False(reader.ReadFrame(TimeSpan.FromMilliseconds(1)).IsValid);
    }

    [Fact]
    public void A_token_ends_a_wait_and_nothing_else()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using var source = new CancellationTokenSource(TimeSpan.FromMilliseconds(30));
        Assert.ThrowsAny<OperationCanceledException>(() => reader.ReadFrame(source.Token));
        Assert.ThrowsAny<OperationCanceledException>(() => reader.ReadFrame(source.Token));
        using var connecting = new CancellationTokenSource(TimeSpan.FromMilliseconds(30));
        Assert.ThrowsAny<OperationCanceledException>(() => reader.IsWriterConnected(Timeout.InfiniteTimeSpan, connecting.Token));
        using var writer = new Writer(name);
        writer.WriteFrame(new byte[] { 5 });
        Assert.True(reader.ReadFrame(source.Token).IsValid, "a frame that is there is returned all the same");
        for (int round = 0; round < 200; round++)
        {
            // The token comes at about the time of the frame: the next read is not hurt by it.
            using var racing = new CancellationTokenSource();
            var cancel = Task.Run(racing.Cancel);
            try
            {
                reader.ReadFrame(TimeSpan.FromMilliseconds(1), racing.Token);
            }
            catch (OperationCanceledException)
            {
            }
            cancel.Wait();
            writer.WriteFrame(new byte[] { 6 });
            Assert.Equal(6, reader.ReadFrame(Soon).Data[0]);
        }
        writer.WriteTimeout = Timeout.InfiniteTimeSpan;
        using var full = new CancellationTokenSource(TimeSpan.FromMilliseconds(30));
        byte[] data = new byte[1000];
        Assert.ThrowsAny<OperationCanceledException>((Action)(() =>
        {
            while (true)
            {
                writer.WriteFrame(data, full.Token);
            }
        }));
    }

    [Fact]
    public void Disposing_ends_a_blocked_call()
    {
        string name = Names.New();
        var reader = new Reader(name, Small);
        var writer = new Writer(name, new WriterOptions { WriteTimeout = Timeout.InfiniteTimeSpan });
        Task<Exception?> reading = Task.Factory.StartNew(
            () => Record.Exception(() => reader.ReadFrame(Timeout.InfiniteTimeSpan)), TaskCreationOptions.LongRunning);
        reader.Dispose();
        Assert.IsType<ClosedException>(Eventually.Result(reading));
        Assert.Throws<ClosedException>(() => reader.ReadFrame());
        Assert.Throws<ClosedException>(() => reader.IsWriterConnected());
        reader.Dispose();
        reader.Interrupt();
        Assert.Equal(0UL, reader.FramesRead);
        Assert.False(Names.Exists(name));
        writer.Dispose();

        using var next = new Reader(name, Small);
        writer = new Writer(name, new WriterOptions { WriteTimeout = Timeout.InfiniteTimeSpan });
        Task<Exception?> writing = Task.Factory.StartNew(
            () => Record.Exception((Action)(() =>
            {
                while (true)
                {
                    writer.WriteFrame(new byte[1000]);
                }
            })),
            TaskCreationOptions.LongRunning);
        Eventually.Holds(() => writer.FramesWritten >= 3);
        writer.Dispose();
        Assert.IsType<ClosedException>(Eventually.Result(writing));
    }

    [Fact]
    public void A_second_thread_is_told_that_the_reader_is_in_use()
    {
        using var reader = new Reader(Names.New(), Small);
        using var started = new ManualResetEventSlim();
        Task<Exception?> blocked = Task.Factory.StartNew(
            () =>
            {
                reader.TryReadFrame(out _);
                started.Set();
                return Record.Exception(() => reader.ReadFrame(Timeout.InfiniteTimeSpan));
            },
            TaskCreationOptions.LongRunning);
        started.Wait();
        Eventually.Holds(() => Record.Exception(() => reader.TryReadFrame(out _)) is InvalidStateException);
        reader.Interrupt();
        Assert.IsType<InterruptedException>(Eventually.Result(blocked));
        // From now on both threads may use it, one after the other.
        Assert.False(reader.TryReadFrame(out _));
        Assert.False(Eventually.Result(Task.Run(() => reader.TryReadFrame(out _))));
    }

    [Fact]
    public async Task Reads_can_be_awaited()
    {
        string name = Names.New();
        using var reader = new Reader(name, Small);
        using (var writer = new Writer(name))
        {
            ValueTask<Frame> waiting = reader.ReadFrameAsync();
            Assert.False(waiting.IsCompleted);
            Assert.IsType<InvalidStateException>(await Record.ExceptionAsync(async () => await reader.ReadFrameAsync()));
            writer.WriteFrame(new byte[] { 1 });
            Assert.Equal(1, (await waiting).ToArray()[0]);
            writer.WriteFrame(new byte[] { 2 });
            ValueTask<Frame> there = reader.ReadFrameAsync();
            Assert.True(there.IsCompletedSuccessfully);
            Assert.Equal(2, (await there).ToArray()[0]);
            Assert.False((await reader.ReadFrameAsync(TimeSpan.FromMilliseconds(5))).IsValid);
            using var source = new CancellationTokenSource(TimeSpan.FromMilliseconds(20));
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await reader.ReadFrameAsync(source.Token));
            for (byte number = 0; number < 100; number++)
            {
                writer.WriteFrame(new byte[] { number });
                Assert.Equal(number, (await reader.ReadFrameAsync()).ToArray()[0]);
            }
        }
        Assert.True((await reader.ReadFrameAsync()).EndOfStream);
        Task writing = Task.Run(() =>
        {
            using var writer = new Writer(name);
            for (byte number = 0; number < 100; number++)
            {
                writer.WriteFrame(new byte[] { number });
            }
        });
        int next = 0;
        await foreach (Frame frame in reader.ReadAllAsync())
        {
            Assert.Equal(next++, frame.ToArray()[0]);
        }
        Assert.Equal(100, next);
        await writing;
        ValueTask<Frame> last = reader.ReadFrameAsync();
        reader.Dispose();
        await Assert.ThrowsAsync<ClosedException>(async () => await last);
    }

    [Fact]
    public void A_sequence_error_tells_both_numbers()
    {
        const int FirstFrame = 128 + 64;
        string name = Names.New();
        using var reader = new Reader(name, new BufferConfig(64, 4096) { Classic = true });
        using var writer = new Writer(name);
        writer.WriteFrame(new byte[1]);
        using (FileStream memory = File.OpenWrite("/dev/shm/" + name))
        {
            memory.Position = FirstFrame + 8;
            memory.Write(BitConverter.GetBytes(7UL));
        }
        for (int turn = 0; turn < 2; turn++)
        {
            var gap = Assert.Throws<SequenceErrorException>(() => reader.ReadFrame(Soon));
            Assert.Equal((1UL, 7UL, name), (gap.Expected, gap.Got, gap.BufferName));
        }
    }

    [Fact]
    public void A_kept_buffer_is_taken_over_with_its_frames()
    {
        string name = Names.New();
        using var kept = new KeptBuffer(name, Small);
        using (var writer = new Writer(name))
        {
            writer.WriteFrame(new byte[] { 3 });
        }
        Assert.False(kept.IsAdopted);
        using var reader = new Reader(name);
        Assert.True(kept.IsAdopted);
        Assert.True(kept.Close());
        Assert.Equal(3, reader.ReadFrame(Soon).Data[0]);
    }

    [Fact]
    public void A_buffer_can_be_inspected()
    {
        string name = Names.New();
        using var reader = new Reader(name, new BufferConfig(256, 4096) { Mode = 0b110_100_000 });
        using var writer = new Writer(name);
        writer.WriteFrame(new byte[100]);
        BufferSnapshot shown = Inspect.Snapshot(name);
        Assert.Equal(name, shown.Name);
        Assert.Equal(4096UL, shown.PayloadSize);
        Assert.Equal(256UL, shown.MetadataSize);
        Assert.Equal(BufferHealth.Healthy, shown.Health);
        Assert.Equal(Presence.Alive, shown.Reader.Presence);
        Assert.Equal((ulong)Environment.ProcessId, shown.Writer.ProcessId);
        Assert.Equal(RingKind.Extended, shown.Ring);
        Assert.Equal(0b110_100_000, shown.Mode);
        Assert.Equal(1UL, shown.WrittenCount);
        Assert.Empty(shown.Defects);
        Assert.NotNull(shown.Age);
        Assert.Contains(name, Inspect.List());
        Assert.Throws<BufferNotFoundException>(() => Inspect.Snapshot(Names.New()));
        Assert.Matches(@"^\d+\.\d+\.\d+", ZeroBufferRuntime.NativeVersion);
    }

    private struct Point
    {
        public int X;
        public double Y;
    }
}
