using System.Text.Json;
using System.Text.Json.Serialization;

namespace V1Sample;

/// <summary>What the metadata block says of the pictures that follow, as JSON.</summary>
internal sealed record Caps(int Width, int Height, string Format)
{
    internal static Caps Small { get; } = new(8, 4, "GRAY8");

    internal int Bytes => Width * Height;

    internal static Caps Parse(ReadOnlySpan<byte> json) =>
        JsonSerializer.Deserialize(json, CapsJson.Default.Caps) ?? throw new InvalidDataException("the metadata describes no picture");

    internal byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, CapsJson.Default.Caps);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(Caps))]
internal sealed partial class CapsJson : JsonSerializerContext;
