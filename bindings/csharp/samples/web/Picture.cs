using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace WebSample;

/// <summary>What the metadata block says of the pictures, as JSON. A pixel is four bytes: blue, green, red, and one that is not used.</summary>
internal sealed record PictureSize(int Width, int Height)
{
    internal const int PixelSize = 4;

    internal int Bytes => Width * Height * PixelSize;

    internal static PictureSize Parse(ReadOnlySpan<byte> json) =>
        JsonSerializer.Deserialize(json, Json.Default.PictureSize) ?? throw new InvalidDataException("the metadata does not say how large pictures are");

    internal byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, Json.Default.PictureSize);
}

/// <summary>What stands before the pixels of each frame.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PictureHeader
{
    /// <summary>The moment of the exposure, as <see cref="System.Diagnostics.Stopwatch.GetTimestamp"/>, which is the same in all processes.</summary>
    internal long Taken;
}

/// <summary>What the page shows beside the picture.</summary>
/// <param name="Connected">Whether a writer is there.</param>
/// <param name="Pictures">Pictures so far.</param>
/// <param name="Rate">Pictures a second.</param>
/// <param name="LatencyMs">From the exposure to the picture that is ready to be sent, in milliseconds.</param>
internal sealed record Statistics(bool Connected, long Pictures, double Rate, double LatencyMs);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(PictureSize))]
[JsonSerializable(typeof(Statistics))]
[JsonSerializable(typeof(Watched))]
[JsonSerializable(typeof(Watched[]))]
internal sealed partial class Json : JsonSerializerContext;
