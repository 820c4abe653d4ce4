namespace ZeroBuffer.Tests;

/// <summary>Frames that are passed on without a copy.</summary>
public sealed class ForwardTests
{
    private const int Size = 100_000;
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(30);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Frames_are_shared_in_both_spellings_of_the_request(bool positional)
    {
        using var relay = new Relay(positional);
        // The viewer learns of the relay with the first frame.
        Assert.Equal(new[] { false, true, true }, new[] { relay.PassOn(1), relay.PassOn(2), relay.PassOn(3) });
    }

    [Fact]
    public void Frames_are_copied_where_one_side_does_not_share()
    {
        for (int lacking = 0; lacking < 3; lacking++)
        {
            using var relay = new Relay(positional: true, lacking);
            Assert.Equal(new[] { false, false, false }, new[] { relay.PassOn(1), relay.PassOn(2), relay.PassOn(3) });
        }
    }

    [Fact]
    public void A_retained_frame_stays_when_it_cannot_be_passed_on_and_ends_when_it_can()
    {
        using var relay = new Relay(positional: false);
        Frame kept = relay.Send(1).Retain();
        relay.Output.Forward(kept);
        Assert.False(kept.IsValid);
        Assert.Throws<ObjectDisposedException>(() => relay.Output.Forward(kept));
        kept = relay.Send(2).Retain();
        Frame lent = relay.Send(3);
        relay.Output.Dispose();
        Assert.Throws<ClosedException>(() => relay.Output.Forward(kept));
        Assert.True(kept.IsValid);
        Assert.Equal(2, kept.Data[Size - 1]);
        kept.Dispose();
        Assert.Throws<ClosedException>(() => relay.Output.Forward(lent));
        Assert.False(lent.IsValid);
        Assert.Equal(0UL, relay.Input.GetStats().FramesHeld);
        Assert.Throws<InvalidStateException>(() => relay.Output.Forward(Frame.Invalid));
    }

    [Fact]
    public void A_retained_frame_stays_when_there_is_no_space()
    {
        using var relay = new Relay(positional: false);
        relay.Output.WriteTimeout = TimeSpan.Zero;
        Frame kept = default;
        Assert.Throws<BufferFullException>(() =>
        {
            for (int sent = 0; sent < 1000; sent++)
            {
                // Small frames are copied.
                relay.Source.WriteFrame(new byte[30_000]);
                kept = relay.Input.ReadFrame(Soon).Retain();
                relay.Output.Forward(kept);
            }
        });
        Assert.True(kept.IsValid);
        Assert.Equal(30_000, kept.Size);
        kept.Dispose();
        Assert.False(kept.IsValid);
        Assert.Equal(0UL, relay.Input.GetStats().FramesHeld);
    }

    [Fact]
    public void A_frame_is_changed_in_place_before_it_goes_on()
    {
        using var relay = new Relay(positional: false);
        relay.PassOn(1);
        Frame frame = relay.Send(2);
        Assert.False(frame.IsShared);
        frame.GetMutableSpan().Fill(9);
        Assert.True(relay.Output.Forward(frame));
        Frame seen = relay.Viewer.ReadFrame(Soon);
        Assert.True(seen.IsShared);
        Assert.Equal(9, seen.Data[Size - 1]);
        seen.Dispose();
        Assert.False(relay.PassesOnSmall());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_shared_frame_is_changed_as_a_private_copy_which_goes_on(bool retained)
    {
        using var relay = new Relay(positional: false);
        relay.PassOn(1);
        using var display = new Reader(Names.New(), new BufferConfig(64, 1 << 20));
        using var output = new Writer(display.Name);
        using Frame source = relay.Send(2).Retain();
        Assert.True(relay.Output.ForwardTo(source));
        Frame seen = relay.Viewer.ReadFrame(Soon);
        if (retained)
        {
            seen = seen.Retain();
        }
        Assert.True(seen.IsShared);
        ReadOnlySpan<byte> before = seen.Data;
        seen.GetMutableSpan().Fill(3);
        // The bytes of the lender are untouched, and the frame has those of the copy.
        Assert.True(before.IndexOfAnyExcept((byte)2) < 0 && source.Data.IndexOfAnyExcept((byte)2) < 0);
        Assert.True(seen.IsValid && !seen.IsShared && seen.Data.IndexOfAnyExcept((byte)3) < 0);
        Assert.Equal(Size, seen.GetMutableSpan().Length);
        if (!retained)
        {
            seen = seen.Retain();
        }
        Assert.Equal((Size, 3), (seen.Size, seen.Data[Size - 1]));
        Assert.False(output.ForwardTo(seen));
        Assert.False(output.Forward(seen));
        for (int times = 0; times < 2; times++)
        {
            Assert.True(display.ReadFrame(Soon).Data.IndexOfAnyExcept((byte)3) < 0);
        }
        Assert.Throws<ObjectDisposedException>(() => _ = seen.Data);
        source.Dispose();
        Eventually.Holds(() => relay.Input.PayloadShareCount == 0 && relay.Input.GetStats().FramesHeld == 0);
        Assert.True(relay.PassOn(4));
    }

    [Fact]
    public void A_frame_that_has_been_passed_on_is_changed_as_a_private_copy()
    {
        using var relay = new Relay(positional: false);
        relay.PassOn(1);
        using Frame kept = relay.Send(2).Retain();
        Assert.True(relay.Output.ForwardTo(kept));
        kept.GetMutableSpan().Fill(3);
        Assert.Equal(3, kept.Data[Size - 1]);
        using Frame seen = relay.Viewer.ReadFrame(Soon);
        Assert.True(seen.IsShared && seen.Data.IndexOfAnyExcept((byte)2) < 0);
        Assert.False(relay.Output.ForwardTo(kept));
        Assert.True(relay.Viewer.ReadFrame(Soon).Data.IndexOfAnyExcept((byte)3) < 0);
    }

    [Fact]
    public void A_private_copy_ends_with_its_frame()
    {
        using var relay = new Relay(positional: false);
        relay.PassOn(1);
        for (int way = 0; way < 4; way++)
        {
            Assert.True(relay.Output.Forward(relay.Send(2)));
            Frame seen = relay.Viewer.ReadFrame(Soon);
            Assert.True(seen.IsShared);
            seen.GetMutableSpan().Fill(3);
            ReadOnlyMemory<byte> memory = seen.Memory;
            switch (way)
            {
                case 0:
                    seen.Dispose();
                    break;
                case 1:
                    Eventually.Result(Task.Run(() =>
                    {
                        seen.Dispose();
                        return true;
                    }));
                    break;
                case 2:
                    Assert.False(relay.Viewer.TryReadFrame(out _));
                    break;
                default:
                    relay.Viewer.Dispose();
                    Assert.Equal(3, seen.Data[Size - 1]);
                    seen.Dispose();
                    break;
            }
            Assert.False(seen.IsValid);
            Assert.Throws<ObjectDisposedException>(() => _ = seen.Data);
            Assert.Throws<ObjectDisposedException>(() => _ = memory.Span);
            Assert.Throws<ObjectDisposedException>(() => seen.GetMutableSpan());
            Eventually.Holds(() => relay.Input.PayloadShareCount == 0 && relay.Input.GetStats().FramesHeld == 0);
        }
    }

    [Fact]
    public void A_shared_writer_shares_from_the_first_frame_on_and_leaves_nothing_without_a_reader()
    {
        string camera = Names.New();
        string display = Names.New();
        using var input = new Reader(camera, null, allowPayloadSharing: true);
        using var source = new Writer(camera);
        using (var output = new SharedWriter(display, input))
        {
            Assert.False(output.IsAdopted);
            Assert.Throws<ReaderAlreadyConnectedException>(() => new SharedWriter(display, input));
            using var viewer = new Reader(display, null, allowPayloadSharing: true);
            Assert.True(output.IsAdopted);
            source.WriteFrame(new byte[Size]);
            Assert.True(output.Forward(input.ReadFrame(Soon)));
            Frame seen = viewer.ReadFrame(Soon);
            Assert.True(seen.IsShared);
            Assert.Equal((true, (long)Environment.ProcessId), (output.PayloadSharingEnabled, output.PayloadOwnerPid));
            Assert.Equal((true, 1UL, 1UL), (input.PayloadSharingEnabled, input.PayloadShareCount, input.GetStats().FramesLent));
            Assert.Equal((1UL, (ulong)Size), (viewer.GetStats().FramesShared, viewer.GetStats().BytesShared));
            Assert.Equal((1UL, 0UL), (output.GetStats().FramesShared, output.GetStats().FramesCopied));
        }
        Assert.False(Names.Exists(display));
        using (new SharedWriter(display, input, new BufferConfig { MetadataSize = 64 }, new WriterOptions()))
        {
            Assert.True(Names.Exists(display));
        }
        Assert.False(Names.Exists(display));
        input.Dispose();
        Assert.Throws<ClosedException>(() => new SharedWriter(display, input));
    }

    [Fact]
    public void A_retained_frame_goes_to_several_writers()
    {
        string camera = Names.New();
        using var input = new Reader(camera, null, allowPayloadSharing: true);
        using var source = new Writer(camera);
        using var one = new SharedWriter(Names.New(), input);
        using var two = new SharedWriter(Names.New(), input);
        using var first = new Reader(one.Name, null, allowPayloadSharing: true);
        using var second = new Reader(two.Name);
        byte[] data = new byte[Size];
        data.AsSpan().Fill(7);
        source.WriteFrame(data);
        Frame frame = input.ReadFrame(Soon);
        Assert.Throws<InvalidStateException>(() => one.ForwardTo(frame));
        using Frame kept = frame.Retain();
        Assert.Equal((true, false), (one.ForwardTo(kept), two.ForwardTo(kept)));
        Assert.Equal((1UL, 1UL), (one.GetStats().FramesShared, two.GetStats().FramesCopied));
        Assert.True(kept.IsValid);
        foreach (Reader viewer in new[] { first, second })
        {
            Assert.True(viewer.ReadFrame(Soon).Data.SequenceEqual(data));
        }
        kept.Dispose();
        Assert.Throws<ObjectDisposedException>(() => one.ForwardTo(kept));
        Assert.Throws<InvalidStateException>(() => one.ForwardTo(Frame.Invalid));
    }

    [Fact]
    public void A_frame_may_end_while_other_threads_pass_it_on()
    {
        string camera = Names.New();
        using var input = new Reader(camera, new BufferConfig(64, 1 << 16));
        using var source = new Writer(camera);
        using var display = new Reader(Names.New(), new BufferConfig(64, 1 << 16));
        using var output = new Writer(display.Name);
        byte[] data = new byte[100];
        data.AsSpan().Fill(7);
        for (int round = 0; round < 3000; round++)
        {
            source.WriteFrame(data);
            Frame kept = input.ReadFrame(Soon).Retain();
            Task passing = Task.Run(() => _ = Record.Exception(() => output.ForwardTo(kept)));
            Thread.SpinWait(round % 100 * 10);
            kept.Dispose();
            passing.Wait(Soon);
            Frame seen = display.ReadFrame(TimeSpan.Zero);
            Assert.True(!seen.IsValid || seen.Data.SequenceEqual(data));
            Assert.Equal(0UL, input.GetStats().FramesHeld);
        }
    }

    private sealed class Relay : IDisposable
    {
        internal Relay(bool positional, int lacking = -1)
        {
            string camera = Names.New();
            string display = Names.New();
            Input = Open(camera, positional, lacking != 0);
            Viewer = Open(display, positional, lacking != 1);
            Source = new Writer(camera);
            Output = positional
                ? new Writer(display, lacking != 2)
                : new Writer(display, new WriterOptions { RequestPayloadSharing = lacking != 2 });
        }

        internal Reader Input { get; }

        internal Reader Viewer { get; }

        internal Writer Source { get; }

        internal Writer Output { get; }

        public void Dispose()
        {
            Output.Dispose();
            Source.Dispose();
            Viewer.Dispose();
            Input.Dispose();
        }

        internal Frame Send(byte content)
        {
            byte[] data = new byte[Size];
            data.AsSpan().Fill(content);
            Source.WriteFrame(data);
            return Input.ReadFrame(Soon);
        }

        /// <summary>Sends one frame all the way; returns whether it was shared.</summary>
        internal bool PassOn(byte content)
        {
            bool shared = Output.Forward(Send(content));
            using Frame seen = Viewer.ReadFrame(Soon);
            Assert.Equal(Size, seen.Size);
            Assert.True(seen.Data.IndexOfAnyExcept(content) < 0);
            Assert.Equal(shared, seen.IsShared);
            return shared;
        }

        /// <summary>Small frames are copied, and their copy can be changed.</summary>
        internal bool PassesOnSmall()
        {
            Source.WriteFrame(new byte[] { 1, 2, 3 });
            bool shared = Output.Forward(Input.ReadFrame(Soon));
            Viewer.ReadFrame(Soon).GetMutableSpan().Fill(4);
            return shared;
        }

        private static Reader Open(string name, bool positional, bool allow) => positional
            ? new Reader(name, new BufferConfig(64, 1 << 20), allow)
            : new Reader(name, new BufferConfig(64, 1 << 20) { AllowPayloadSharing = allow });
    }
}
