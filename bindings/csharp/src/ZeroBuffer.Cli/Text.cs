using System.Globalization;

namespace ZeroBuffer.Cli;

/// <summary>Numbers for people, as all the command lines print them.</summary>
internal static class Text
{
    private static readonly string[] Units = ["KiB", "MiB", "GiB", "TiB"];

    /// <summary>A number with so many decimals; where two are as near, the even one.</summary>
    internal static string Fixed(double value, int decimals)
    {
        // A number lies between two decimals only if it is an odd multiple of a power of two; the runtime rounds it away from zero.
        double scaled = value * Math.Pow(10, decimals);
        bool isBetween = Math.Abs((value * Math.Pow(2, decimals + 1)) % 2) == 1;
        double rounded = isBetween ? Math.Round(scaled, MidpointRounding.ToEven) / Math.Pow(10, decimals) : value;
        return rounded.ToString("F" + decimals.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
    }

    /// <summary>A number of bytes.</summary>
    internal static string Human(ulong bytes)
    {
        if (bytes < 1024)
        {
            return string.Create(CultureInfo.InvariantCulture, $"{bytes} B");
        }
        double value = bytes;
        string unit = "";
        foreach (string next in Units)
        {
            if (value < 1024)
            {
                break;
            }
            value /= 1024;
            unit = next;
        }
        return $"{Fixed(value, 1)} {unit}";
    }

    /// <summary>A number of frames.</summary>
    internal static string Frames(ulong count) => string.Create(CultureInfo.InvariantCulture, $"{count} {(count == 1 ? "frame" : "frames")}");
}
