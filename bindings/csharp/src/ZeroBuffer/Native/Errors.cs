using System.Diagnostics.CodeAnalysis;

namespace ZeroBuffer.Native;

/// <summary>Statuses and error objects of the C ABI, and the exceptions that they become.</summary>
internal static unsafe class Errors
{
    internal const int Ok = 0;
    internal const int Timeout = 1;
    internal const int EndOfStream = 2;
    internal const int Interrupted = -20;
    internal const int Closed = -21;

    /// <summary>Throws if <paramref name="status"/> is a failure.</summary>
    internal static void ThrowIfFailed(int status, void* error)
    {
        if (status < 0)
        {
            Throw(status, error);
        }
    }

    /// <summary>Throws what the error object says, and frees it.</summary>
    [DoesNotReturn]
    internal static void Throw(int status, void* error)
    {
        ZeroBufferException exception = ToException(status, error);
        LiveHandles.AwaitTheEnd();
        Telemetry.Count(exception);
        throw exception;
    }

    internal static ZeroBufferException ToException(int status, void* error)
    {
        ZeroBufferException exception = Describe(status, error);
        Api.zb_error_free(error);
        return exception;
    }

    /// <summary>The exception for an error object that somebody else frees.</summary>
    internal static ZeroBufferException Describe(int status, void* error)
    {
        string message = error == null ? $"the call failed with status {status}" : Text.FromUtf8(Api.zb_error_message(error));
        ZeroBufferException exception = Create((ErrorKind)status, message);
        if (error != null)
        {
            exception.BufferName = Text.FromUtf8(Api.zb_error_buffer(error));
            exception.Errno = Api.zb_error_os_error(error);
            exception.Sequence = Api.zb_error_sequence(error);
            if (exception is SequenceErrorException gap)
            {
                ulong expected = 0;
                ulong got = 0;
                _ = Api.zb_error_sequence_gap(error, &expected, &got);
                gap.Expected = expected;
                gap.Got = got;
            }
        }
        return exception;
    }

    private static ZeroBufferException Create(ErrorKind kind, string message) => kind switch
    {
        ErrorKind.BufferNotFound => new BufferNotFoundException(message),
        ErrorKind.WriterAlreadyConnected => new WriterAlreadyConnectedException(message),
        ErrorKind.ReaderAlreadyConnected => new ReaderAlreadyConnectedException(message),
        ErrorKind.BufferFull => new BufferFullException(message),
        ErrorKind.ReaderDead => new ReaderDeadException(message),
        ErrorKind.WriterDead => new WriterDeadException(message),
        ErrorKind.WriterClosed => new WriterClosedException(message),
        ErrorKind.FrameTooLarge => new FrameTooLargeException(message),
        ErrorKind.InvalidFrameSize => new InvalidFrameSizeException(message),
        ErrorKind.SequenceError => new SequenceErrorException(message),
        ErrorKind.MetadataAlreadyWritten => new MetadataAlreadyWrittenException(message),
        ErrorKind.MetadataTooLarge => new MetadataTooLargeException(message),
        ErrorKind.InvalidName => new InvalidNameException(message),
        ErrorKind.InvalidConfig => new InvalidConfigException(message),
        ErrorKind.InvalidState => new InvalidStateException(message),
        ErrorKind.IncompatibleProtocol => new IncompatibleProtocolException(message),
        ErrorKind.CorruptBuffer => new CorruptBufferException(message),
        ErrorKind.PermissionDenied => new PermissionDeniedException(message),
        ErrorKind.OutOfMemory => new OutOfSharedMemoryException(message),
        ErrorKind.Interrupted => new InterruptedException(message),
        ErrorKind.Closed => new ClosedException(message),
        ErrorKind.RequestFailed => new RequestFailedException(message),
        ErrorKind.Cancelled => new CancelledException(message),
        ErrorKind.DeadlineExceeded => new DeadlineExceededException(message),
        ErrorKind.HandlerBusy => new HandlerBusyException(message),
        ErrorKind.System => new SystemErrorException(message),
        _ => new ZeroBufferException(kind, message),
    };

    [DoesNotReturn]
    internal static void ThrowClosed(string what, string name)
    {
        LiveHandles.AwaitTheEnd();
        throw new ClosedException($"{what} `{name}` has been disposed") { BufferName = name };
    }
}
