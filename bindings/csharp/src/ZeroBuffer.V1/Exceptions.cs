namespace ZeroBuffer;

/// <summary>An error of this library.</summary>
public class ZeroBufferException : Exception
{
    /// <summary>An exception with a message.</summary>
    public ZeroBufferException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and the one that led to it.</summary>
    public ZeroBufferException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}

/// <summary>No reader has created the buffer, or its files are gone.</summary>
public class BufferNotFoundException : ZeroBufferException
{
    /// <summary>An exception that names the buffer.</summary>
    public BufferNotFoundException(string bufferName)
        : base($"Buffer '{bufferName}' not found") => BufferName = bufferName;

    /// <summary>An exception whose message is the text itself if <paramref name="isMessage"/>, else one that names the buffer.</summary>
    public BufferNotFoundException(string text, bool isMessage)
        : base(isMessage ? text : $"Buffer '{text}' not found") => BufferName = isMessage ? "" : text;

    internal BufferNotFoundException(string bufferName, string message, Exception inner)
        : base(message, inner) => BufferName = bufferName;

    /// <summary>The buffer's name; empty if the message alone is known.</summary>
    public string BufferName { get; }
}

/// <summary>No space became free within the write time-out.</summary>
public class BufferFullException : ZeroBufferException
{
    /// <summary>An exception with a message of its own.</summary>
    public BufferFullException()
        : base("Buffer is full")
    {
    }

    internal BufferFullException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>The frame, with its 16-byte header, is larger than the buffer's payload.</summary>
public class FrameTooLargeException : ZeroBufferException
{
    /// <summary>An exception with a message of its own.</summary>
    public FrameTooLargeException()
        : base("Frame is too large for the buffer")
    {
    }

    internal FrameTooLargeException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>The writer is gone: it closed, died, or never came.</summary>
public class WriterDeadException : ZeroBufferException
{
    /// <summary>An exception with a message of its own.</summary>
    public WriterDeadException()
        : base("Writer process is dead")
    {
    }

    internal WriterDeadException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>The reader is gone: it closed the buffer, or died.</summary>
public class ReaderDeadException : ZeroBufferException
{
    /// <summary>An exception with a message of its own.</summary>
    public ReaderDeadException()
        : base("Reader process is dead")
    {
    }

    internal ReaderDeadException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>Another live writer is connected to the buffer.</summary>
public class WriterAlreadyConnectedException : ZeroBufferException
{
    /// <summary>An exception with a message of its own.</summary>
    public WriterAlreadyConnectedException()
        : base("Another writer is already connected")
    {
    }

    internal WriterAlreadyConnectedException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>Another live reader owns the buffer.</summary>
public class ReaderAlreadyConnectedException : ZeroBufferException
{
    /// <summary>An exception with a message of its own.</summary>
    public ReaderAlreadyConnectedException()
        : base("Another reader is already connected")
    {
    }

    internal ReaderAlreadyConnectedException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
