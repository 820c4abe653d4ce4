namespace ZeroBuffer.DuplexChannel;

/// <summary>How a server runs its handler.</summary>
public enum ProcessingMode
{
    /// <summary>One request after the other, on one thread. The default.</summary>
    SingleThread = 0,

    /// <summary>Several requests at once, on several threads.</summary>
    ThreadPool = 1,
}

/// <summary>Answers a request through the writer: <see cref="Writer.WriteFrame"/>, or <see cref="Writer.GetFrameBuffer"/> and <see cref="Writer.CommitFrame"/>, once.</summary>
/// <param name="request">Valid during the call.</param>
/// <param name="responseWriter">For this call. A handler that writes nothing answers with 0 bytes.</param>
public delegate void RequestHandler(Frame request, Writer responseWriter);

/// <summary>Gets the metadata of a client, valid during the call.</summary>
public delegate void InitHandler(ReadOnlySpan<byte> metadata);

/// <summary>What <see cref="IDuplexServer.OnError"/> is told.</summary>
public class ErrorEventArgs : EventArgs
{
    /// <summary>Arguments with an exception.</summary>
    public ErrorEventArgs(Exception exception) => Exception = exception;

    /// <summary>What went wrong; when a handler threw, what it threw.</summary>
    public Exception Exception { get; }
}

/// <summary>The side of a duplex channel that answers requests.</summary>
public interface IDuplexServer : IDisposable
{
    /// <summary>Raised when a handler throws, or a response cannot be sent.</summary>
    event EventHandler<ErrorEventArgs>? OnError;

    /// <summary>Whether requests are being processed.</summary>
    bool IsRunning { get; }

    /// <summary>Stops processing; a handler that is running ends by itself.</summary>
    void Stop();
}

/// <summary>A server whose handler reads each request and writes a response.</summary>
public interface IImmutableDuplexServer : IDuplexServer
{
    /// <summary>Starts processing, on threads of the server, and returns at once.</summary>
    /// <param name="handler">Answers a request.</param>
    /// <param name="onInit">Gets the metadata of each client that sets some, before its first request is handled.</param>
    /// <param name="mode">How the handler is run.</param>
    /// <exception cref="InvalidOperationException">Server is already running.</exception>
    void Start(RequestHandler handler, InitHandler? onInit = null, ProcessingMode mode = ProcessingMode.SingleThread);
}
