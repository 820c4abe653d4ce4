extern alias v2;

using V2 = v2::ZeroBuffer;

namespace ZeroBuffer;

/// <summary>The exceptions of version 2 as those of 1.x. The message stays, and the exception itself is the inner one.</summary>
internal static class Errors
{
    internal static Exception ToV1(V2.ZeroBufferException error) => error switch
    {
        V2.BufferNotFoundException => new BufferNotFoundException(error.BufferName, error.Message, error),
        V2.BufferFullException => new BufferFullException(error.Message, error),
        V2.FrameTooLargeException => new FrameTooLargeException(error.Message, error),
        V2.WriterDeadException => new WriterDeadException(error.Message, error),
        V2.ReaderDeadException => new ReaderDeadException(error.Message, error),
        V2.WriterAlreadyConnectedException => new WriterAlreadyConnectedException(error.Message, error),
        V2.ReaderAlreadyConnectedException => new ReaderAlreadyConnectedException(error.Message, error),
        V2.MetadataAlreadyWrittenException => new InvalidOperationException("Metadata already written", error),
        V2.MetadataTooLargeException => new ArgumentException("Metadata too large for buffer", error),
        V2.InvalidNameException or V2.InvalidConfigException => new ArgumentException(error.Message, error),
        V2.InvalidStateException => new InvalidOperationException(error.Message, error),
        V2.ClosedException => new ObjectDisposedException(error.Message, error),
        _ => new ZeroBufferException(error.Message, error),
    };

    /// <exception cref="ArgumentException">The name is missing or empty.</exception>
    internal static string CheckName(string name, string parameter)
    {
        if (string.IsNullOrEmpty(name))
        {
            throw new ArgumentException("A name cannot be empty", parameter);
        }
        return name;
    }
}
