// Both sides of a stream and of a duplex channel, as a program of 1.x has them, from the package ZeroBuffer.V1 alone.

using ZeroBuffer;
using ZeroBuffer.DuplexChannel;

string name = $"zbtest-consumer-v1-{Environment.ProcessId}";
using (var reader = new Reader(name, new BufferConfig { MetadataSize = 64, PayloadSize = 4096 }))
using (var writer = new Writer(name))
{
    writer.WriteFrame("hello"u8);
    using Frame frame = reader.ReadFrame();
    frame.GetMutableSpan()[0] = (byte)'j';
    if (!frame.Span.SequenceEqual("jello"u8))
    {
        return 1;
    }
}
using IImmutableDuplexServer server = new DuplexChannelFactory().CreateImmutableServer(name, new BufferConfig());
server.Start((request, response) => response.WriteFrame(request.Span));
using IDuplexClient client = new DuplexChannelFactory().CreateClient(name);
ulong sequence = client.SendRequest(new byte[] { 1, 2 });
using Frame answer = client.ReceiveResponse(TimeSpan.FromSeconds(5));
return answer.Sequence == sequence && answer.Size == 2 ? 0 : 2;
