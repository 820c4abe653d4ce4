extern alias v2;

using V2 = v2::ZeroBuffer;

namespace ZeroBuffer;

/// <summary>Sizes of a buffer, decided by the reader that creates it.</summary>
public class BufferConfig
{
    /// <summary>A config with all defaults.</summary>
    public BufferConfig()
    {
    }

    /// <summary>A config with other sizes.</summary>
    public BufferConfig(int metadataSize, int payloadSize)
    {
        MetadataSize = metadataSize;
        PayloadSize = payloadSize;
    }

    /// <summary>Bytes of the metadata block, of which 8 hold the length. 1024 by default.</summary>
    public int MetadataSize { get; set; } = 1024;

    /// <summary>Bytes of the ring. A frame needs its size plus 16. 1 MiB by default.</summary>
    public int PayloadSize { get; set; } = 1024 * 1024;

    internal V2.BufferConfig ToV2() => new(MetadataSize, PayloadSize) { Mode = FileMode() };

    /// <summary>Files of 1.x readers have mode 0666 less the umask.</summary>
    private static int FileMode()
    {
        const int Everyone = 0b110_110_110;
        const int Usual = 0b000_010_010;
        const string Field = "Umask:";
        try
        {
            // The kernel tells it without changing it, which umask(2) cannot.
            string? line = File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith(Field, StringComparison.Ordinal));
            return Everyone & ~(line is null ? Usual : Convert.ToInt32(line[Field.Length..].Trim(), 8));
        }
        catch (IOException)
        {
            return Everyone & ~Usual;
        }
    }
}
