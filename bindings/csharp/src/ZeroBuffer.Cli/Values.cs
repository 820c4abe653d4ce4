using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace ZeroBuffer.Cli;

/// <summary>The values of options, from their texts.</summary>
internal static class Values
{
    internal static Func<ArgumentResult, T?> Number<T>(T least, T most)
        where T : struct, INumber<T> =>
        result =>
        {
            string text = Text(result);
            if (T.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out T value) && value >= least && value <= most)
            {
                return value;
            }
            result.AddError($"invalid value '{text}': a number between {least} and {most}");
            return null;
        };

    /// <summary>A number of bytes, with or without a 1024-based unit.</summary>
    internal static Func<ArgumentResult, ulong?> Bytes(ulong least) => result =>
    {
        string text = Text(result);
        string digits = text.TrimEnd("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".ToCharArray());
        string unit = text[digits.Length..];
        int shift = unit.ToUpperInvariant() switch
        {
            "" or "B" => 0,
            "K" or "KB" or "KIB" => 10,
            "M" or "MB" or "MIB" => 20,
            "G" or "GB" or "GIB" => 30,
            _ => -1,
        };
        if (shift < 0)
        {
            result.AddError($"unknown unit '{unit}'; K, M and G are known");
            return null;
        }
        ulong most = ulong.MaxValue >> shift;
        if (ulong.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out ulong count) && count >= least && count <= most)
        {
            return count << shift;
        }
        result.AddError($"invalid value '{text}': a number between {least} and {most}");
        return null;
    };

    /// <summary>Octal permissions.</summary>
    internal static int? Permissions(ArgumentResult result)
    {
        string text = Text(result);
        int value = 0;
        foreach (char digit in text)
        {
            if (digit is < '0' or > '7' || (value = (value << 3) + digit - '0') > 0xfff)
            {
                value = -1;
                break;
            }
        }
        if (text.Length > 0 && value >= 0)
        {
            return value;
        }
        result.AddError($"invalid value '{text}': octal permissions, as 0600 or 660");
        return null;
    }

    /// <summary>One of a few words.</summary>
    internal static Func<ArgumentResult, T?> Word<T>(IReadOnlyDictionary<string, T> words)
        where T : struct =>
        result =>
        {
            string text = Text(result);
            if (words.TryGetValue(text, out T value))
            {
                return value;
            }
            result.AddError($"invalid value '{text}': one of {string.Join(", ", words.Keys)}");
            return null;
        };

    private static string Text(ArgumentResult result) => result.Tokens.Count == 1 ? result.Tokens[0].Value : "";
}
