// A stage of a pipeline: `relay IN OUT` reads frames from one buffer and writes them, inverted, to the next.
//
// Before it, something that reads OUT (`stream reader OUT`); after it, something that writes IN (`stream writer IN`).

using ZeroBuffer;

if (args is not [var source, var target])
{
    Console.Error.WriteLine("usage: relay IN OUT");
    return 2;
}
using var reader = new Reader(source);
using var writer = new Writer(target, new WriterOptions { ConnectTimeout = TimeSpan.FromSeconds(10) });
if (!reader.IsWriterConnected(30_000))
{
    throw new TimeoutException("no writer came");
}
foreach (Frame frame in reader.Frames())
{
    // The bytes go from the one buffer to the other once, and are changed on the way.
    writer.AcquireFrameBuffer(frame.Size, out Span<byte> inverted);
    ReadOnlySpan<byte> bytes = frame.Data;
    for (int at = 0; at < bytes.Length; at++)
    {
        inverted[at] = (byte)(255 - bytes[at]);
    }
    writer.CommitFrame();
}
return 0;
