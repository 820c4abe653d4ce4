using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Tests;

/// <summary>Duplex channels as programs of 1.x know them, and the sample.</summary>
public sealed class DuplexTests
{
    private static readonly BufferConfig Small = new() { MetadataSize = 256, PayloadSize = 65_536 };

    [Theory]
    [InlineData(ProcessingMode.SingleThread)]
    [InlineData(ProcessingMode.ThreadPool)]
    public void A_handler_answers_through_the_writer(ProcessingMode mode)
    {
        string name = Names.New("v1");
        var factory = new DuplexChannelFactory();
        Assert.False(factory.WaitExists(name, TimeSpan.Zero));
        using IImmutableDuplexServer server = factory.CreateImmutableServer(name, Small);
        Assert.True(ImmutableDuplexServer.WaitExists(name, TimeSpan.Zero));
        string? caps = null;
        server.Start(
            (request, response) =>
            {
                // A handler may draw into the request.
                request.GetMutableSpan()[0]++;
                if (request.Size % 2 == 0)
                {
                    response.WriteFrame(request.Span);
                    return;
                }
                request.Span.CopyTo(response.GetFrameBuffer(request.Size, out ulong sequence));
                Assert.Equal(request.Sequence, sequence);
                response.CommitFrame();
            },
            metadata => caps = System.Text.Encoding.UTF8.GetString(metadata),
            mode);
        Assert.True(server.IsRunning);
        Assert.Equal("Server is already running", Assert.Throws<InvalidOperationException>(() => server.Start((_, _) => { })).Message);
        using (IDuplexClient client = factory.CreateClient(name))
        {
            client.SetMetadata("caps"u8);
            Assert.True(client.IsServerConnected);
            for (int size = 1; size <= 100; size++)
            {
                byte[] data = new byte[size];
                data[^1] = (byte)size;
                ulong sequence = client.SendRequest(data);
                using Frame response = client.ReceiveResponse(Eventually.Patience);
                data[0]++;
                Assert.Equal((sequence, true), (response.Sequence, response.Span.SequenceEqual(data)));
            }
            Assert.Equal("caps", caps);
            Assert.False(client.ReceiveResponse(TimeSpan.Zero).IsValid);
            server.Stop();
            Assert.False(server.IsRunning);
            Eventually.Holds(() => !client.IsServerConnected);
            Assert.Throws<WriterDeadException>(() => client.ReceiveResponse(Eventually.Patience));
            Assert.Throws<ReaderDeadException>(() => client.SendRequest(new byte[1]));
        }
        Assert.Throws<BufferNotFoundException>(() => factory.CreateClient(name));
    }

    [Fact]
    public void A_handler_that_throws_raises_OnError_with_what_it_threw_and_the_next_request_is_answered()
    {
        string name = Names.New("v1");
        using IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer(name, Small, TimeSpan.FromSeconds(5));
        var errors = new System.Collections.Concurrent.ConcurrentQueue<Exception>();
        server.OnError += (_, error) => errors.Enqueue(error.Exception);
        server.Start((request, response) =>
        {
            switch (request.Span[0])
            {
                case 1:
                    throw new TimeoutException("as ordered");
                case 2:
                    response.WriteFrame(request.Span);
                    response.WriteFrame(request.Span);
                    break;
                case 3:
                    break;
                default:
                    response.WriteFrame(request.Span);
                    break;
            }
        });
        using IDuplexClient client = DuplexChannelFactory.Instance.CreateClient(name);
        client.SendRequest(new byte[] { 1 });
        Assert.False(client.ReceiveResponse(Eventually.Patience).IsValid);
        Eventually.Holds(() => !errors.IsEmpty);
        Assert.True(errors.TryDequeue(out Exception? thrown));
        Assert.Equal("as ordered", Assert.IsType<TimeoutException>(thrown).Message);
        // The second response to a request is refused, and none is an empty one.
        ulong twice = client.SendRequest(new byte[] { 2 });
        using (Frame first = client.ReceiveResponse(Eventually.Patience))
        {
            Assert.Equal((twice, 1), (first.Sequence, first.Size));
        }
        Eventually.Holds(() => !errors.IsEmpty);
        Assert.True(errors.TryDequeue(out thrown));
        Assert.IsType<InvalidOperationException>(thrown);
        ulong silent = client.SendRequest(new byte[] { 3 });
        using (Frame empty = client.ReceiveResponse(Eventually.Patience))
        {
            Assert.Equal((silent, 0), (empty.Sequence, empty.Size));
        }
        ulong sequence = client.AcquireRequestBuffer(4, out Span<byte> bytes);
        bytes.Fill(9);
        client.CommitRequest();
        using Frame response = client.ReceiveResponse(Eventually.Patience);
        Assert.Equal((sequence, 4), (response.Sequence, response.Size));
    }

    [Fact]
    public void A_client_of_another_language_is_served()
    {
        if (Environment.GetEnvironmentVariable("ZEROBUFFER_PYTHON") is not string python)
        {
            return;
        }
        string name = Names.New("v1");
        using IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer(name, Small);
        server.Start((request, response) =>
            response.WriteFrame(System.Text.Encoding.UTF8.GetBytes(System.Text.Encoding.UTF8.GetString(request.Span).ToUpperInvariant())));
        using var client = new RunningProgram(python, new[] { Path.Combine(Root, "examples/python/duplex.py"), "client", name });
        client.Says("hello -> HELLO");
        client.Says("shared -> SHARED");
        client.Says("memory -> MEMORY");
        Assert.Equal(0, client.End().Code);
    }

    [Fact]
    public void The_sample_serves_pictures_that_the_metadata_describes()
    {
        string name = Names.New("v1");
        using RunningProgram controller = Sample("controller", name);
        controller.Says("serving");
        using RunningProgram camera = Sample("camera", name);
        for (int picture = 1; picture <= 3; picture++)
        {
            camera.Says($"picture {picture}: negative, 32 bytes");
        }
        camera.Succeeds();
        controller.EndInput();
        controller.Succeeds();
        Assert.False(Names.Exists(name + "_request"));
    }

    [Fact]
    public void The_sample_draws_into_the_frames_that_it_reads()
    {
        string name = Names.New("v1");
        using RunningProgram overlay = Sample("overlay", name);
        overlay.Says("reading");
        using RunningProgram source = Sample("source", name);
        source.Succeeds();
        // 20 of the 32 pixels are the outline.
        for (int picture = 1; picture <= 3; picture++)
        {
            overlay.Says($"picture {picture}: sum {(20 * 255) + (12 * picture)}");
        }
        overlay.Succeeds();
        Assert.False(Names.Exists(name));
    }

    /// <summary>The repository, of which target/csharp/bin/PROJECT/debug is a part.</summary>
    private static string Root => Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../../../.."));

    private static RunningProgram Sample(string verb, string name) =>
        new(RunningProgram.DotNet, new[] { "exec", Path.Combine(AppContext.BaseDirectory, "../../v1/debug/v1.dll"), verb, name });
}
