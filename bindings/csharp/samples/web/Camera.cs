using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ZeroBuffer;

namespace WebSample;

/// <summary>Draws in place: the left half red, the right half blue, and a white bar that moves below the middle.</summary>
internal static class Camera
{
    private const uint Red = 0x00ff0000;
    private const uint Blue = 0x000000ff;
    private const uint White = 0x00ffffff;

    internal static void Run(string buffer)
    {
        var size = new PictureSize(640, 360);
        using var writer = new Writer(buffer, new WriterOptions { ConnectTimeout = TimeSpan.FromSeconds(30) });
        writer.SetMetadata(size.ToJson());
        using var clock = new PeriodicTimer(TimeSpan.FromSeconds(1.0 / 30));
        using var stop = new CancellationTokenSource();
        Console.CancelKeyPress += (_, key) =>
        {
            key.Cancel = true;
            stop.Cancel();
        };
        try
        {
            for (int number = 0; clock.WaitForNextTickAsync(stop.Token).AsTask().GetAwaiter().GetResult(); number++)
            {
                writer.AcquireFrameBuffer(Unsafe.SizeOf<PictureHeader>() + size.Bytes, out Span<byte> frame);
                MemoryMarshal.AsRef<PictureHeader>(frame).Taken = Stopwatch.GetTimestamp();
                Draw(MemoryMarshal.Cast<byte, uint>(frame[Unsafe.SizeOf<PictureHeader>()..]), size, number);
                writer.CommitFrame();
            }
        }
        catch (OperationCanceledException)
        {
            // Ctrl-C: the writer closes, and the browser keeps the last picture.
        }
    }

    private static void Draw(Span<uint> pixels, PictureSize size, int number)
    {
        for (int row = 0; row < size.Height; row++)
        {
            Span<uint> line = pixels.Slice(row * size.Width, size.Width);
            line[..(size.Width / 2)].Fill(Red);
            line[(size.Width / 2)..].Fill(Blue);
            if (row >= size.Height * 5 / 8 && row < size.Height * 6 / 8)
            {
                line.Slice(number * 4 % (size.Width - 40), 40).Fill(White);
            }
        }
    }
}
