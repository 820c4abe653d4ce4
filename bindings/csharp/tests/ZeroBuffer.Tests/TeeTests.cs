namespace ZeroBuffer.Tests;

/// <summary>One reader, many outputs.</summary>
public sealed class TeeTests
{
    private const int Size = 100_000;
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(30);

    [Fact]
    public void Block_outputs_get_every_frame_and_drop_outputs_what_they_have_room_for()
    {
        string camera = Names.New();
        using Reader recorder = Sharing($"{camera}-archive");
        using Reader viewer = Sharing($"{camera}-first");
        using Reader stopped = Sharing($"{camera}-second");
        Reader input = Sharing(camera);
        using var tee = new Tee(input);
        Assert.Equal(camera, tee.Name);
        Assert.Throws<ClosedException>(() => input.ReadFrame(TimeSpan.Zero));
        tee.AddBlockOutput(new Writer($"{camera}-archive", requestPayloadSharing: true));
        tee.AddDropOutput(new Writer($"{camera}-first", requestPayloadSharing: true));
        tee.AddDropOutput(new Writer($"{camera}-second", requestPayloadSharing: true), 1);
        using var source = new Writer(camera);
        for (int number = 0; number < 30; number++)
        {
            source.WriteFrame(Filled(number));
            if (number % 2 == 0)
            {
                Assert.True(tee.Step(Soon));
            }
            else
            {
                // A filter in place.
                Frame frame = tee.ReadFrame(Soon);
                Assert.Equal(number, frame.Data[Size - 1]);
                frame.GetMutableSpan().Fill((byte)(number + 100));
                tee.Forward(frame);
                Assert.False(frame.IsValid);
            }
            int expected = number % 2 == 0 ? number : number + 100;
            foreach (Reader reader in new[] { recorder, viewer })
            {
                using Frame seen = reader.ReadFrame(Soon);
                Assert.Equal(Size, seen.Size);
                Assert.True(seen.Data.IndexOfAnyExcept((byte)expected) < 0);
            }
        }
        IReadOnlyList<TeeOutput> outputs = tee.GetOutputs();
        Assert.Equal(new[] { $"{camera}-archive", $"{camera}-first", $"{camera}-second" }, outputs.Select(output => output.Name));
        Assert.Equal(new long?[] { null, Tee.DropFrames, 1 }, outputs.Select(output => output.Bound));
        Assert.Equal(new[] { 29UL, 29UL, 0UL }, outputs.Select(output => output.FramesShared));
        Assert.Equal(new[] { 1UL, 1UL, 1UL }, outputs.Select(output => output.FramesCopied));
        Assert.Equal(new[] { 0UL, 0UL, 29UL }, outputs.Select(output => output.FramesDropped));
        Assert.All(outputs, output => Assert.Null(output.Ended));
        Assert.True(tee.RemoveOutput($"{camera}-second"));
        Assert.False(tee.RemoveOutput($"{camera}-second"));
        source.Dispose();
        tee.Run();
        Assert.Throws<InvalidStateException>(() => tee.Forward(Frame.Invalid));
        Assert.False(tee.ReadFrame(TimeSpan.Zero).IsValid);
    }

    [Fact]
    public void An_output_whose_reader_has_gone_ends_and_its_exception_names_it()
    {
        string camera = Names.New();
        using Reader viewer = Sharing($"{camera}-display");
        using var tee = new Tee(Sharing(camera));
        using (Sharing($"{camera}-archive"))
        {
            tee.AddBlockOutput(new Writer($"{camera}-archive"));
            tee.AddBlockOutput(new Writer($"{camera}-display"));
        }
        // A writer looks at its reader every 10 ms.
        Thread.Sleep(50);
        using var source = new Writer(camera);
        source.WriteFrame(Filled(7));
        ReaderDeadException error = Assert.Throws<ReaderDeadException>(() => tee.Step(Soon));
        Assert.Equal($"{camera}-archive", error.BufferName);
        Assert.Equal(7, viewer.ReadFrame(Soon).Data[0]);
        Assert.Equal(ErrorKind.ReaderDead, tee.GetOutputs()[0].Ended);
        source.WriteFrame(Filled(8));
        Assert.True(tee.Step(Soon));
        Assert.Equal(8, viewer.ReadFrame(Soon).Data[0]);
    }

    [Fact]
    public void A_full_output_keeps_its_frame()
    {
        string camera = Names.New();
        using var viewer = new Reader($"{camera}-display", new BufferConfig { PayloadSize = 4096 });
        using var tee = new Tee(Sharing(camera));
        tee.AddBlockOutput(new Writer($"{camera}-display", new WriterOptions { WriteTimeout = TimeSpan.Zero }));
        using var source = new Writer(camera);
        for (int number = 0; number < 5; number++)
        {
            source.WriteFrame(Filled(number).AsSpan(0, 1000));
        }
        for (int number = 0; number < 4; number++)
        {
            Assert.True(tee.Step(Soon));
        }
        Assert.Throws<BufferFullException>(() => tee.Step(Soon));
        Assert.Throws<BufferFullException>(tee.Flush);
        for (int number = 0; number < 4; number++)
        {
            Assert.Equal(number, viewer.ReadFrame(Soon).Data[0]);
        }
        Assert.False(viewer.TryReadFrame(out _));
        tee.Flush();
        Assert.Equal(4, viewer.ReadFrame(Soon).Data[0]);
    }

    [Fact]
    public void Shared_writers_are_outputs_which_keep_their_buffers_for_readers_that_come_later()
    {
        string camera = Names.New();
        Reader input = Sharing(camera);
        var block = new SharedWriter($"{camera}-archive", input);
        var drop = new SharedWriter($"{camera}-display", input);
        var late = new SharedWriter($"{camera}-late", input);
        using (var tee = new Tee(input))
        {
            tee.AddBlockOutput(block);
            tee.AddDropOutput(drop);
            tee.AddBlockOutput(late);
            Assert.Throws<ClosedException>(() => block.IsAdopted);
            using Reader recorder = Sharing($"{camera}-archive");
            using Reader viewer = Sharing($"{camera}-display");
            using var source = new Writer(camera);
            for (int number = 0; number < 4; number++)
            {
                source.WriteFrame(Filled(number));
                Assert.True(tee.Step(Soon));
                foreach (Reader reader in new[] { recorder, viewer })
                {
                    using Frame seen = reader.ReadFrame(Soon);
                    Assert.True(seen.Size == Size && seen.Data.IndexOfAnyExcept((byte)number) < 0);
                    Assert.Equal(reader == recorder, seen.IsShared);
                }
            }
            using (Reader adopted = Sharing($"{camera}-late"))
            {
                for (int number = 0; number < 4; number++)
                {
                    Assert.Equal(number, adopted.ReadFrame(Soon).Data[0]);
                }
            }
            Assert.True(tee.RemoveOutput($"{camera}-display"));
        }
        foreach (string name in new[] { camera, $"{camera}-archive", $"{camera}-display", $"{camera}-late" })
        {
            Assert.False(Names.Exists(name), name);
        }
    }

    [Fact]
    public void Waits_end_by_an_interrupt_a_token_and_a_close()
    {
        using var tee = new Tee(Sharing(Names.New()));
        tee.Interrupt();
        Assert.Throws<InterruptedException>(() => tee.Step(Timeout.InfiniteTimeSpan));
        using var source = new CancellationTokenSource(50);
        Assert.ThrowsAny<OperationCanceledException>(() => tee.Run(source.Token));
        var closer = new Thread(tee.Dispose);
        closer.Start();
        Assert.Throws<ClosedException>(() => tee.Run());
        closer.Join();
    }

    private static Reader Sharing(string name) =>
        new(name, new BufferConfig { PayloadSize = 1 << 20 }, allowPayloadSharing: true);

    private static byte[] Filled(int content)
    {
        byte[] bytes = new byte[Size];
        bytes.AsSpan().Fill((byte)content);
        return bytes;
    }
}
