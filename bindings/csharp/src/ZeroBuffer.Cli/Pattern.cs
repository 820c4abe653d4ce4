using System.Buffers.Binary;

namespace ZeroBuffer.Cli;

/// <summary>The test patterns: made by a writer, checked by a reader, known to the command lines of all languages.</summary>
internal enum Pattern
{
    /// <summary>Byte i of frame f (both from 0) is (f + i) mod 256.</summary>
    Sequential,

    /// <summary>SplitMix64 seeded with the frame's index, as little-endian words.</summary>
    Random,

    /// <summary>All bytes 0.</summary>
    Zero,

    /// <summary>All bytes 255.</summary>
    Ones,
}

/// <summary>A byte that is not what it should be.</summary>
internal readonly record struct Mismatch(int At, byte Found, byte Expected);

/// <summary>Makes frames of a pattern, and compares them.</summary>
internal static class PatternExtensions
{
    private const int Piece = 256;

    /// <summary>Two rounds of all bytes: any 256 bytes of a sequential frame are a slice of it.</summary>
    private static readonly byte[] Rounds = Enumerable.Range(0, 2 * Piece).Select(static number => (byte)number).ToArray();

    /// <summary>Fills in frame <paramref name="index"/>, counted from 0.</summary>
    internal static void Fill(this Pattern pattern, ulong index, Span<byte> frame)
    {
        var maker = new Maker(pattern, index);
        while (!frame.IsEmpty)
        {
            int size = Math.Min(Piece, frame.Length);
            maker.Next()[..size].CopyTo(frame);
            frame = frame[size..];
        }
    }

    /// <summary>Where frame <paramref name="index"/> first differs from what <see cref="Fill"/> makes.</summary>
    internal static Mismatch? Compare(this Pattern pattern, ulong index, ReadOnlySpan<byte> frame)
    {
        var maker = new Maker(pattern, index);
        for (int start = 0; start < frame.Length; start += Piece)
        {
            ReadOnlySpan<byte> found = frame.Slice(start, Math.Min(Piece, frame.Length - start));
            ReadOnlySpan<byte> expected = maker.Next()[..found.Length];
            if (found.SequenceEqual(expected))
            {
                continue;
            }
            for (int at = 0; at < found.Length; at++)
            {
                // One read: the byte that is reported is the one that was compared.
                byte one = found[at];
                if (one != expected[at])
                {
                    return new Mismatch(start + at, one, expected[at]);
                }
            }
        }
        return null;
    }

    /// <summary>Makes a frame, 256 bytes after the other.</summary>
    private ref struct Maker
    {
        private readonly Pattern _pattern;
        private readonly ReadOnlySpan<byte> _same;
        private ulong _random;

        internal Maker(Pattern pattern, ulong index)
        {
            _pattern = pattern;
            _random = index;
            byte[] made = new byte[Piece];
            if (pattern == Pattern.Ones)
            {
                Array.Fill(made, (byte)255);
            }
            _same = pattern == Pattern.Sequential ? Rounds.AsSpan((int)(index % Piece), Piece) : made;
            Made = made;
        }

        private Span<byte> Made { get; }

        /// <summary>The next 256 bytes, valid until the next call.</summary>
        internal ReadOnlySpan<byte> Next()
        {
            if (_pattern != Pattern.Random)
            {
                return _same;
            }
            for (int at = 0; at < Piece; at += sizeof(ulong))
            {
                BinaryPrimitives.WriteUInt64LittleEndian(Made[at..], Split());
            }
            return Made;
        }

        /// <summary>The next word of SplitMix64 (Steele, Lea, Flood 2014).</summary>
        private ulong Split()
        {
            unchecked
            {
                _random += 0x9e3779b97f4a7c15;
                ulong word = _random;
                word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
                word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
                return word ^ (word >> 31);
            }
        }
    }
}
