// Pictures without a copy: `in_place viewer NAME` in one terminal, `in_place camera NAME` in another.

using ZeroBuffer;

const int Width = 640;
const int Height = 480;

switch (args)
{
    case ["viewer", var name]:
        View(name);
        return 0;
    case ["camera", var name]:
        Film(name);
        return 0;
    default:
        Console.Error.WriteLine("usage: in_place viewer|camera NAME");
        return 2;
}

// Measures each picture where it lies in shared memory.
static void View(string name)
{
    using var reader = new Reader(name);
    if (!reader.IsWriterConnected(30_000))
    {
        throw new TimeoutException("no writer came");
    }
    foreach (Frame picture in reader.Frames())
    {
        long sum = 0;
        foreach (byte pixel in picture.Data)
        {
            sum += pixel;
        }
        Console.WriteLine($"picture {picture.Sequence}: mean brightness {sum / picture.Size}");
    }
}

// Draws three pictures directly into shared memory.
static void Film(string name)
{
    using var writer = new Writer(name, new WriterOptions { ConnectTimeout = TimeSpan.FromSeconds(10) });
    for (int number = 0; number < 3; number++)
    {
        writer.AcquireFrameBuffer(Width * Height, out Span<byte> picture);
        for (int y = 0; y < Height; y++)
        {
            for (int x = 0; x < Width; x++)
            {
                picture[(y * Width) + x] = (byte)(((x + y) / 8) + (20 * number));
            }
        }
        writer.CommitFrame();
    }
}
