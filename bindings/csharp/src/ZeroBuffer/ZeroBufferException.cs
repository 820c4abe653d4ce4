namespace ZeroBuffer;

/// <summary>An error of this library. The message names the buffer, the cause and the way out.</summary>
/// <example>
/// <code>
/// try
/// {
///     using var writer = new Writer("camera");
/// }
/// catch (BufferNotFoundException error)
/// {
///     Console.Error.WriteLine(error.Message);
/// }
/// </code>
/// </example>
public class ZeroBufferException : Exception
{
    /// <summary>An exception of one kind.</summary>
    public ZeroBufferException(ErrorKind kind, string message)
        : base(message) => Kind = kind;

    /// <summary>An exception of one kind, with the one that led to it.</summary>
    public ZeroBufferException(ErrorKind kind, string message, Exception? innerException)
        : base(message, innerException) => Kind = kind;

    /// <summary>What went wrong.</summary>
    public ErrorKind Kind { get; }

    /// <summary>The name of the buffer that the error is about; empty if it is about none.</summary>
    public string BufferName { get; internal set; } = "";

    /// <summary>The operating system's number, 0 if it was not the operating system.</summary>
    public int Errno { get; internal set; }

    /// <summary>The sequence number of the request of a duplex channel that the error is about, 0 if it is not about one alone.</summary>
    public ulong Sequence { get; internal set; }
}
