using ZeroBuffer;
using ZeroBuffer.DuplexChannel;

namespace V1Sample;

/// <summary>A duplex channel: pictures there, their negatives back.</summary>
internal static class Controller
{
    internal static void Serve(string channel)
    {
        var factory = new DuplexChannelFactory();
        using IImmutableDuplexServer server =
            factory.CreateImmutableServer(channel, new BufferConfig { MetadataSize = 4096, PayloadSize = 4 * 1024 * 1024 }, TimeSpan.FromSeconds(5));
        server.OnError += (_, error) => Console.Error.WriteLine(error.Exception.Message);
        Caps? caps = null;
        server.Start(
            (request, response) =>
            {
                using (request)
                {
                    if (request.Size != caps?.Bytes)
                    {
                        throw new InvalidDataException($"a picture of {request.Size} bytes, and {caps?.Bytes} are announced");
                    }
                    Span<byte> answer = response.GetFrameBuffer(request.Size, out _);
                    for (int at = 0; at < answer.Length; at++)
                    {
                        answer[at] = (byte)~request.Span[at];
                    }
                    response.CommitFrame();
                }
            },
            metadata => caps = Caps.Parse(metadata));
        Console.WriteLine("serving");
        Console.In.ReadLine();
        server.Stop();
    }

    internal static void Ask(string channel)
    {
        IDuplexChannelFactory factory = new DuplexChannelFactory();
        if (!factory.WaitExists(channel, TimeSpan.FromSeconds(30)))
        {
            throw new BufferNotFoundException(channel);
        }
        using IDuplexClient client = factory.CreateClient(channel);
        client.SetMetadata(Caps.Small.ToJson());
        for (byte picture = 1; picture <= 3; picture++)
        {
            ulong sequence = client.AcquireRequestBuffer(Caps.Small.Bytes, out Span<byte> bytes);
            bytes.Fill(picture);
            client.CommitRequest();
            using Frame response = client.ReceiveResponse(TimeSpan.FromSeconds(5));
            bool good = response.IsValid && response.Sequence == sequence && response.Span.IndexOfAnyExcept((byte)~picture) < 0;
            Console.WriteLine($"picture {sequence}: {(good ? "negative" : "WRONG")}, {response.Size} bytes");
        }
    }
}
