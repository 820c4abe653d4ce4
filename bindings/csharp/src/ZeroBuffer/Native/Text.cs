using System.Runtime.InteropServices;
using System.Text;

namespace ZeroBuffer.Native;

/// <summary>Strings on their way to the C ABI and back.</summary>
internal static unsafe class Text
{
    /// <summary>The bytes of <paramref name="text"/> with a zero byte behind them.</summary>
    internal static byte[] ToUtf8(string text)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text) + 1];
        Encoding.UTF8.GetBytes(text, bytes);
        return bytes;
    }

    /// <summary>As <see cref="ToUtf8"/>, for the name of a buffer or channel.</summary>
    /// <exception cref="InvalidNameException">The name has a zero character, behind which the C ABI would not look.</exception>
    internal static byte[] NameToUtf8(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (name.Contains('\0', StringComparison.Ordinal))
        {
            throw new InvalidNameException($"buffer `{name.Replace("\0", "\\0", StringComparison.Ordinal)}`: a name cannot contain a zero character");
        }
        return ToUtf8(name);
    }

    internal static string FromUtf8(byte* text) => Marshal.PtrToStringUTF8((nint)text) ?? "";
}
