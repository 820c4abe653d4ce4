using ZeroBuffer;

namespace V1Sample;

/// <summary>A stream: the reader draws into the frames that it reads.</summary>
internal static class Overlay
{
    private const byte Line = 255;

    internal static void Draw(string buffer)
    {
        using var reader = new Reader(buffer, new BufferConfig { MetadataSize = 4096, PayloadSize = 4 * 1024 * 1024 });
        Console.WriteLine("reading");
        Caps? caps = null;
        while (true)
        {
            try
            {
                using Frame frame = reader.ReadFrame(TimeSpan.FromSeconds(1));
                if (!frame.IsValid)
                {
                    continue;
                }
                caps ??= Caps.Parse(reader.GetMetadata());
                Outline(frame.GetMutableSpan(), caps);
                long sum = 0;
                foreach (byte value in frame.Span)
                {
                    sum += value;
                }
                Console.WriteLine($"picture {frame.Sequence}: sum {sum}");
            }
            catch (WriterDeadException) when (caps is not null)
            {
                // The writer has closed, and the time was over.
                return;
            }
            catch (WriterDeadException)
            {
                // None has come so far.
            }
        }
    }

    internal static void Write(string buffer)
    {
        if (!Reader.WaitExists(buffer, TimeSpan.FromSeconds(30)))
        {
            throw new BufferNotFoundException(buffer);
        }
        using var writer = new Writer(buffer) { WriteTimeout = TimeSpan.FromSeconds(10) };
        writer.SetMetadata(Caps.Small.ToJson());
        for (byte picture = 1; picture <= 3; picture++)
        {
            Span<byte> bytes = writer.GetFrameBuffer(Caps.Small.Bytes, out _);
            bytes.Fill(picture);
            writer.CommitFrame();
        }
    }

    private static void Outline(Span<byte> picture, Caps caps)
    {
        picture[..caps.Width].Fill(Line);
        picture[^caps.Width..].Fill(Line);
        for (int row = 0; row < caps.Height; row++)
        {
            picture[row * caps.Width] = picture[((row + 1) * caps.Width) - 1] = Line;
        }
    }
}
