namespace ZeroBuffer;

/// <summary>No reader has created the buffer, or its files are gone.</summary>
public sealed class BufferNotFoundException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public BufferNotFoundException(string message)
        : base(ErrorKind.BufferNotFound, message)
    {
    }
}

/// <summary>Another live writer is connected to the buffer.</summary>
public sealed class WriterAlreadyConnectedException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public WriterAlreadyConnectedException(string message)
        : base(ErrorKind.WriterAlreadyConnected, message)
    {
    }
}

/// <summary>Another live reader owns the buffer.</summary>
public sealed class ReaderAlreadyConnectedException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public ReaderAlreadyConnectedException(string message)
        : base(ErrorKind.ReaderAlreadyConnected, message)
    {
    }
}

/// <summary>No space became free within the write time-out.</summary>
public sealed class BufferFullException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public BufferFullException(string message)
        : base(ErrorKind.BufferFull, message)
    {
    }
}

/// <summary>The reader died or closed the buffer: what is written will not be read.</summary>
public sealed class ReaderDeadException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public ReaderDeadException(string message)
        : base(ErrorKind.ReaderDead, message)
    {
    }
}

/// <summary>The writer died; every frame that it had committed has been delivered.</summary>
public sealed class WriterDeadException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public WriterDeadException(string message)
        : base(ErrorKind.WriterDead, message)
    {
    }
}

/// <summary>The writer closed. A read returns <see cref="Frame.EndOfStream"/> instead of throwing this.</summary>
public sealed class WriterClosedException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public WriterClosedException(string message)
        : base(ErrorKind.WriterClosed, message)
    {
    }
}

/// <summary>The frame, with its 16-byte header, is larger than the buffer's payload.</summary>
public sealed class FrameTooLargeException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public FrameTooLargeException(string message)
        : base(ErrorKind.FrameTooLarge, message)
    {
    }
}

/// <summary>A frame of 0 bytes, or a commit of more bytes than were acquired.</summary>
public sealed class InvalidFrameSizeException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public InvalidFrameSizeException(string message)
        : base(ErrorKind.InvalidFrameSize, message)
    {
    }
}

/// <summary>A frame is missing: its sequence number is not the next one.</summary>
public sealed class SequenceErrorException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public SequenceErrorException(string message)
        : base(ErrorKind.SequenceError, message)
    {
    }

    /// <summary>The sequence number that the next frame had to have; 0 if the error is not about a gap.</summary>
    public ulong Expected { get; internal set; }

    /// <summary>The sequence number that the next frame has; 0 if the error is not about a gap.</summary>
    public ulong Got { get; internal set; }
}

/// <summary>Metadata is written at most once per buffer.</summary>
public sealed class MetadataAlreadyWrittenException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public MetadataAlreadyWrittenException(string message)
        : base(ErrorKind.MetadataAlreadyWritten, message)
    {
    }
}

/// <summary>The metadata, with its 8-byte prefix, is larger than the buffer's metadata block.</summary>
public sealed class MetadataTooLargeException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public MetadataTooLargeException(string message)
        : base(ErrorKind.MetadataTooLarge, message)
    {
    }
}

/// <summary>The name cannot be the name of a buffer.</summary>
public sealed class InvalidNameException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public InvalidNameException(string message)
        : base(ErrorKind.InvalidName, message)
    {
    }
}

/// <summary>The configuration cannot be used.</summary>
public sealed class InvalidConfigException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public InvalidConfigException(string message)
        : base(ErrorKind.InvalidConfig, message)
    {
    }
}

/// <summary>The call does not fit the state of the object, or another thread is using it.</summary>
public sealed class InvalidStateException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public InvalidStateException(string message)
        : base(ErrorKind.InvalidState, message)
    {
    }
}

/// <summary>The buffer speaks another version of the protocol.</summary>
public sealed class IncompatibleProtocolException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public IncompatibleProtocolException(string message)
        : base(ErrorKind.IncompatibleProtocol, message)
    {
    }
}

/// <summary>The shared memory holds values that cannot be true.</summary>
public sealed class CorruptBufferException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public CorruptBufferException(string message)
        : base(ErrorKind.CorruptBuffer, message)
    {
    }
}

/// <summary>The operating system refused access.</summary>
public sealed class PermissionDeniedException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public PermissionDeniedException(string message)
        : base(ErrorKind.PermissionDenied, message)
    {
    }
}

/// <summary>The shared-memory file system, or a limit on it, has no room left.</summary>
/// <remarks>Not named after its kind, which would hide <see cref="OutOfMemoryException"/>.</remarks>
public sealed class OutOfSharedMemoryException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public OutOfSharedMemoryException(string message)
        : base(ErrorKind.OutOfMemory, message)
    {
    }
}

/// <summary><c>Interrupt()</c> ended the call.</summary>
public sealed class InterruptedException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public InterruptedException(string message)
        : base(ErrorKind.Interrupted, message)
    {
    }
}

/// <summary>The object has been disposed, before the call or while it was blocked.</summary>
public sealed class ClosedException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public ClosedException(string message)
        : base(ErrorKind.Closed, message)
    {
    }
}

/// <summary>The handler of a duplex server failed, for this request alone; the message is the handler's.</summary>
public sealed class RequestFailedException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public RequestFailedException(string message)
        : base(ErrorKind.RequestFailed, message)
    {
    }

    /// <summary>The failure that the library reports, with what the handler threw.</summary>
    internal RequestFailedException(ZeroBufferException reported, Exception thrown)
        : base(ErrorKind.RequestFailed, reported.Message, thrown)
    {
        BufferName = reported.BufferName;
        Sequence = reported.Sequence;
    }
}

/// <summary>The request was cancelled.</summary>
public sealed class CancelledException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public CancelledException(string message)
        : base(ErrorKind.Cancelled, message)
    {
    }
}

/// <summary>No response came in time, or the server had not started in time.</summary>
public sealed class DeadlineExceededException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public DeadlineExceededException(string message)
        : base(ErrorKind.DeadlineExceeded, message)
    {
    }
}

/// <summary>A handler of a duplex server is still running; the server ends when it returns.</summary>
public sealed class HandlerBusyException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public HandlerBusyException(string message)
        : base(ErrorKind.HandlerBusy, message)
    {
    }
}

/// <summary>Any other failure of the operating system.</summary>
/// <remarks>Not named after its kind, which would hide <see cref="SystemException"/>.</remarks>
public sealed class SystemErrorException : ZeroBufferException
{
    /// <summary>An exception with a message that names the buffer, the cause and the way out.</summary>
    public SystemErrorException(string message)
        : base(ErrorKind.System, message)
    {
    }
}
