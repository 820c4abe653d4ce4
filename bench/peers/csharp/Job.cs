using System.Buffers.Binary;
using System.Text.Json;

namespace ZeroBuffer.Bench;

/// <summary>What one process is to do, as the driver says it.</summary>
internal sealed record Job(
    string Role, string Mode, int? Cpu, int Size, long Payload, double Seconds, double WarmUp, ulong Count, ulong Pace, bool Verify, string Forth, string Back, string Channel)
{
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    internal bool IsInPlace => Mode is "in-place" or "marked";

    internal static Job From(JsonElement json)
    {
        JsonElement Of(string name) => json.TryGetProperty(name, out JsonElement value) ? value : default;
        ulong Number(string name) => Of(name).ValueKind == JsonValueKind.Number ? Of(name).GetUInt64() : 0;
        JsonElement forth = Of("forth");
        return new Job(
            Of("role").ValueKind == JsonValueKind.String ? Of("role").GetString()! : "",
            Of("mode").ValueKind == JsonValueKind.String ? Of("mode").GetString()! : "",
            Of("cpu").ValueKind == JsonValueKind.Number ? Of("cpu").GetInt32() : null,
            Of("size").GetInt32(),
            forth.GetProperty("payload").GetInt64(),
            Of("seconds").GetDouble(),
            Of("warm_up").GetDouble(),
            Number("count"),
            Number("pace"),
            Of("verify").ValueKind == JsonValueKind.True,
            forth.GetProperty("name").GetString()!,
            Of("back").GetProperty("name").GetString()!,
            forth.GetProperty("run").GetString()!);
    }
}

/// <summary>What frames carry.</summary>
internal static class Content
{
    /// <summary>The index of the frame that ends a stream.</summary>
    internal const ulong End = ulong.MaxValue;

    private const byte Filling = 0x5a;

    internal static byte[] New(int size)
    {
        byte[] data = new byte[size];
        data.AsSpan().Fill(Filling);
        return data;
    }

    /// <summary>An array's bytes from the start of a page, as in ../../src/duplex/drive.rs.</summary>
    internal static unsafe Span<byte> NewAtPage(int size)
    {
        const int Page = 4096;
        byte[] array = GC.AllocateUninitializedArray<byte>(size + Page, pinned: true);
        int start = (int)(-(nint)System.Runtime.CompilerServices.Unsafe.AsPointer(ref array[0]) & (Page - 1));
        Span<byte> data = array.AsSpan(start, size);
        data.Fill(Filling);
        return data;
    }

    /// <summary>Writes the index at both ends.</summary>
    internal static void Mark(Span<byte> data, ulong index)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(data, index);
        BinaryPrimitives.WriteUInt64LittleEndian(data[^8..], index);
    }

    internal static bool IsMarked(ReadOnlySpan<byte> data, ulong index) =>
        BinaryPrimitives.ReadUInt64LittleEndian(data) == index && BinaryPrimitives.ReadUInt64LittleEndian(data[^8..]) == index;

    /// <summary>The bytes of frame <paramref name="index"/>: SplitMix64, seeded with it.</summary>
    internal static void Fill(ulong index, Span<byte> data)
    {
        ulong state = index;
        Span<byte> word = stackalloc byte[8];
        for (int at = 0; at < data.Length; at += 8)
        {
            state += 0x9e3779b97f4a7c15;
            ulong z = state;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            BinaryPrimitives.WriteUInt64LittleEndian(word, z ^ (z >> 31));
            word[..Math.Min(8, data.Length - at)].CopyTo(data[at..]);
        }
    }
}
