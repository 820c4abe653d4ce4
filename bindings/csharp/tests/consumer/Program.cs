// Both sides of a stream and of a duplex channel, from the package alone.

using ZeroBuffer;
using ZeroBuffer.DuplexChannel;

string name = $"zbtest-consumer-{Environment.ProcessId}";
using (var reader = new Reader(name, new BufferConfig(64, 4096)))
using (var writer = new Writer(name))
{
    writer.SetMetadata("caps"u8);
    writer.WriteFrame("hello"u8);
    Frame frame = reader.ReadFrame();
    if (!frame.Data.SequenceEqual("hello"u8) || !reader.GetMetadata().SequenceEqual("caps"u8))
    {
        return 1;
    }
    writer.WriteFrame("later"u8);
    Frame late = await reader.ReadFrameAsync(TimeSpan.FromSeconds(5));
    if (!late.IsValid)
    {
        return 2;
    }
}
using (IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer(name, new BufferConfig(64, 4096)))
{
    server.Start(request => request.Data[0] == 0 ? throw new InvalidOperationException("as ordered") : request.Data);
    using IDuplexClient client = DuplexChannelFactory.Instance.CreateClient(name);
    if (client.Call(new byte[] { 1, 2 }, TimeSpan.FromSeconds(5)).Size != 2)
    {
        return 3;
    }
    try
    {
        client.Call(new byte[] { 0 }, TimeSpan.FromSeconds(5));
        return 4;
    }
    catch (RequestFailedException error) when (error.Message.Contains("as ordered", StringComparison.Ordinal))
    {
    }
}
Console.WriteLine($"the package works, native library {ZeroBufferRuntime.NativeVersion}");
return 0;
