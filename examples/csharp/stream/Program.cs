// A stream of frames: `stream reader NAME` in one terminal, `stream writer NAME` in another.

using System.Text;
using ZeroBuffer;

switch (args)
{
    case ["reader", var name]:
        Read(name);
        return 0;
    case ["writer", var name]:
        Write(name);
        return 0;
    default:
        Console.Error.WriteLine("usage: stream reader|writer NAME");
        return 2;
}

// Creates the buffer and prints each frame, until the writer closes.
static void Read(string name)
{
    using var reader = new Reader(name);
    if (!reader.IsWriterConnected(30_000))
    {
        throw new TimeoutException("no writer came");
    }
    // A writer that dies, rather than closes, is a WriterDeadException here.
    foreach (Frame frame in reader.Frames())
    {
        Console.WriteLine($"{frame.Sequence}: {Encoding.UTF8.GetString(frame.Data)}");
    }
    Console.WriteLine("end of stream");
}

// Connects to the buffer and writes five frames.
static void Write(string name)
{
    using var writer = new Writer(name, new WriterOptions { ConnectTimeout = TimeSpan.FromSeconds(10) });
    for (int number = 1; number <= 5; number++)
    {
        writer.WriteFrame(Encoding.UTF8.GetBytes($"frame {number} of 5"));
    }
}
