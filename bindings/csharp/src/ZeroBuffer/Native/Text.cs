using System.Runtime.InteropServices;
using System.Text;

namespace ZeroBuffer.Native;

/// <summary>Strings on their way to the C ABI and back.</summary>
internal static unsafe class Text
{
    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The bytes of <paramref name="text"/> with a zero byte behind them.</summary>
    internal static byte[] ToUtf8(string text)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text) + 1];
        Encoding.UTF8.GetBytes(text, bytes);
        return bytes;
    }

    /// <summary>
    /// The bytes of the name of a buffer or channel, for functions that take its length; <paramref name="length"/> leaves out the zero byte
    /// behind them.
    /// </summary>
    /// <exception cref="InvalidNameException">The name is no Unicode text: a half of a surrogate pair stands alone.</exception>
    internal static byte[] NameToUtf8(string name, out nuint length)
    {
        ArgumentNullException.ThrowIfNull(name);
        try
        {
            byte[] bytes = new byte[Strict.GetByteCount(name) + 1];
            length = (nuint)Strict.GetBytes(name, bytes);
            return bytes;
        }
        catch (EncoderFallbackException)
        {
            throw new InvalidNameException($"buffer `{name}`: a name is Unicode text, and this one has half of a surrogate pair");
        }
    }

    internal static string FromUtf8(byte* text) => Marshal.PtrToStringUTF8((nint)text) ?? "";
}
