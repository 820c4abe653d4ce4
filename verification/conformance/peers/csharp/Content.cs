using System.Text;
using System.Text.Json;

namespace ZeroBuffer.Conformance;

/// <summary>The content of frames, which every language makes for itself.</summary>
internal static class Content
{
    private const int BlockSize = 65521;
    private const ulong Stride = 7919;
    private static readonly byte[] Block = MakeBlock();
    private static readonly uint[] Table = MakeTable();

    /// <summary>The bytes that a seed stands for.</summary>
    internal static byte[] Of(ulong seed, int size)
    {
        byte[] bytes = new byte[size];
        int from = (int)(unchecked(seed * Stride) % BlockSize);
        for (int at = 0; at < size;)
        {
            int count = Math.Min(BlockSize - from, size - at);
            Block.AsSpan(from, count).CopyTo(bytes.AsSpan(at));
            at += count;
            from = 0;
        }
        return bytes;
    }

    /// <summary>The bytes that a step is about.</summary>
    internal static byte[] Of(JsonElement step) =>
        step.TryGetProperty("text", out JsonElement text)
            ? Encoding.UTF8.GetBytes(text.GetString()!)
            : Of(step.Number("seed", 1), (int)step.Number("size", 0));

    /// <summary>Seed and size of each frame of a stream.</summary>
    internal static IEnumerable<(ulong Seed, int Size)> Stream(JsonElement step)
    {
        ulong first = step.Number("seed", 1);
        ulong low = step.Number("low", 1);
        ulong high = step.Number("high", 1);
        for (ulong seed = first; seed < first + step.Number("count", 1); seed++)
        {
            ulong state = seed;
            yield return (seed, (int)(low + (SplitMix(ref state) % (high - low + 1))));
        }
    }

    internal static Dictionary<string, object> Describe(ReadOnlySpan<byte> data, ulong sequence = 0)
    {
        uint sum = uint.MaxValue;
        foreach (byte value in data)
        {
            sum = Table[(byte)(sum ^ value)] ^ (sum >> 8);
        }
        return new() { ["size"] = data.Length, ["sum"] = ~sum, ["sequence"] = sequence };
    }

    internal static ulong Number(this JsonElement step, string name, ulong otherwise) =>
        step.TryGetProperty(name, out JsonElement value) ? value.GetUInt64() : otherwise;

    internal static bool Flag(this JsonElement step, string name) => step.TryGetProperty(name, out JsonElement value) && value.GetBoolean();

    /// <summary>SplitMix64 (Steele, Lea, Flood 2014).</summary>
    private static ulong SplitMix(ref ulong state)
    {
        state = unchecked(state + 0x9e3779b97f4a7c15);
        ulong z = state;
        z = unchecked((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9);
        z = unchecked((z ^ (z >> 27)) * 0x94d049bb133111eb);
        return z ^ (z >> 31);
    }

    private static byte[] MakeBlock()
    {
        byte[] words = new byte[(BlockSize + 7) / 8 * 8];
        ulong state = 1;
        for (int at = 0; at < words.Length; at += 8)
        {
            BitConverter.TryWriteBytes(words.AsSpan(at), SplitMix(ref state));
        }
        return words[..BlockSize];
    }

    /// <summary>CRC-32 (IEEE).</summary>
    private static uint[] MakeTable()
    {
        uint[] table = new uint[256];
        for (uint index = 0; index < 256; index++)
        {
            uint value = index;
            for (int bit = 0; bit < 8; bit++)
            {
                value = (value & 1) == 0 ? value >> 1 : (value >> 1) ^ 0xedb88320;
            }
            table[index] = value;
        }
        return table;
    }
}
