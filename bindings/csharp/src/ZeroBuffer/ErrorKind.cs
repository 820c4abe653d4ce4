namespace ZeroBuffer;

/// <summary>What went wrong, as a number that is never reused: that of the C ABI.</summary>
public enum ErrorKind
{
    /// <summary>No reader has created the buffer, or its files are gone.</summary>
    BufferNotFound = -1,

    /// <summary>Another live writer is connected to the buffer.</summary>
    WriterAlreadyConnected = -2,

    /// <summary>Another live reader owns the buffer.</summary>
    ReaderAlreadyConnected = -3,

    /// <summary>No space became free within the write time-out.</summary>
    BufferFull = -4,

    /// <summary>The reader died or closed the buffer: what is written will not be read.</summary>
    ReaderDead = -5,

    /// <summary>The writer died; every frame that it had committed has been delivered.</summary>
    WriterDead = -6,

    /// <summary>The writer closed. A read returns <see cref="Frame.EndOfStream"/> instead of throwing this.</summary>
    WriterClosed = -7,

    /// <summary>The frame, with its 16-byte header, is larger than the buffer's payload.</summary>
    FrameTooLarge = -8,

    /// <summary>A frame of 0 bytes, or a commit of more bytes than were acquired.</summary>
    InvalidFrameSize = -9,

    /// <summary>A frame is missing: its sequence number is not the next one.</summary>
    SequenceError = -10,

    /// <summary>Metadata is written at most once per buffer.</summary>
    MetadataAlreadyWritten = -11,

    /// <summary>The metadata, with its 8-byte prefix, is larger than the buffer's metadata block.</summary>
    MetadataTooLarge = -12,

    /// <summary>The name cannot be the name of a buffer.</summary>
    InvalidName = -13,

    /// <summary>The configuration cannot be used.</summary>
    InvalidConfig = -14,

    /// <summary>The call does not fit the state of the object, or another thread is using it.</summary>
    InvalidState = -15,

    /// <summary>The buffer speaks another version of the protocol.</summary>
    IncompatibleProtocol = -16,

    /// <summary>The shared memory holds values that cannot be true.</summary>
    CorruptBuffer = -17,

    /// <summary>The operating system refused access.</summary>
    PermissionDenied = -18,

    /// <summary>The shared-memory file system, or a limit on it, has no room left.</summary>
    OutOfMemory = -19,

    /// <summary><c>Interrupt()</c> ended the call.</summary>
    Interrupted = -20,

    /// <summary>The object has been disposed, before the call or while it was blocked.</summary>
    Closed = -21,

    /// <summary>The handler of a duplex server failed, for this request alone; the message is the handler's.</summary>
    RequestFailed = -22,

    /// <summary>The request was cancelled.</summary>
    Cancelled = -23,

    /// <summary>No response came in time, or the server had not started in time.</summary>
    DeadlineExceeded = -24,

    /// <summary>A handler of a duplex server is still running; the server ends when it returns.</summary>
    HandlerBusy = -25,

    /// <summary>Any other failure of the operating system.</summary>
    System = -26,

    /// <summary>An argument makes no sense.</summary>
    InvalidArgument = -100,

    /// <summary>The library itself failed: please report it.</summary>
    Internal = -101,
}
