using System.Buffers.Binary;

namespace ZeroBuffer.Soak;

/// <summary>Pseudo-random numbers (SplitMix64: Steele, Lea, Flood 2014), as in ../content.rs.</summary>
internal struct Numbers(ulong state)
{
    private ulong _state = state;

    internal ulong Next()
    {
        _state = unchecked(_state + 0x9e3779b97f4a7c15);
        ulong z = _state;
        z = unchecked((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9);
        z = unchecked((z ^ (z >> 27)) * 0x94d049bb133111eb);
        return z ^ (z >> 31);
    }

    /// <summary>A number from <paramref name="low"/> to <paramref name="high"/>, which is not one of them.</summary>
    internal int Between(int low, int high) => low + (int)(Next() % (ulong)(high - low));

    internal bool OneIn(int of) => Next() % (ulong)of == 0;
}

/// <summary>Frames that can be verified, as in ../content.rs.</summary>
internal static class Content
{
    /// <summary>Bytes in front of a first frame, which name its writer.</summary>
    internal const int Salt = 8;

    /// <summary>Writes the content of frame <paramref name="sequence"/> of writer <paramref name="salt"/>.</summary>
    internal static void Fill(ulong salt, ulong sequence, Span<byte> bytes)
    {
        if (sequence == 1)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes, salt);
            bytes = bytes[Salt..];
        }
        var numbers = new Numbers(Seed(salt, sequence));
        Span<byte> number = stackalloc byte[8];
        for (; !bytes.IsEmpty; bytes = bytes[Math.Min(8, bytes.Length)..])
        {
            BinaryPrimitives.WriteUInt64LittleEndian(number, numbers.Next());
            number[..Math.Min(8, bytes.Length)].CopyTo(bytes);
        }
    }

    /// <summary>Whether the bytes are those that <see cref="Fill"/> writes.</summary>
    internal static bool IsFilled(ulong salt, ulong sequence, ReadOnlySpan<byte> bytes)
    {
        if (sequence == 1 && bytes.Length < Salt)
        {
            return false;
        }
        byte[] expected = new byte[bytes.Length];
        Fill(salt, sequence, expected);
        return bytes.SequenceEqual(expected);
    }

    private static ulong Seed(ulong salt, ulong sequence) => unchecked(salt * 0xd1342543de82ef95) ^ sequence;
}
