using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ZeroBuffer.Native;

namespace ZeroBuffer.DuplexChannel;

/// <summary>What both kinds of servers are made of.</summary>
public abstract unsafe class DuplexServer : IDuplexServer
{
    private static readonly Action<ILogger, string, Exception?> LogError =
        LoggerMessage.Define<string>(LogLevel.Error, default, "channel `{Channel}`: an error of the server");

    /// <summary>What this thread's handler threw last, for the error that the library reports next.</summary>
    [ThreadStatic]
    private static Exception? _thrown;

    private readonly ServerHandle _handle;
    private readonly ILogger _logger;

    /// <summary>The wait of a thread for the end of the server; null if none waits. Guarded by the lock on <see cref="_handle"/>.</summary>
    private TaskCompletionSource? _end;

    private protected DuplexServer(string channelName, BufferConfig? config, bool mutable, ILogger? logger)
    {
        _logger = logger ?? NullLogger.Instance;
        _handle = ServerHandle.Create(channelName, config, mutable);
        // Weak: only a started server keeps itself alive.
        void* error = null;
        Errors.ThrowIfFailed(Api.zb_server_on_error(_handle.Pointer, &TellError, Handle(weak: true), &Destroy, &error), error);
        Errors.ThrowIfFailed(Api.zb_server_on_init(_handle.Pointer, &TellInit, Handle(weak: true), &Destroy, &error), error);
    }

    /// <inheritdoc/>
    public event EventHandler<DuplexErrorEventArgs>? OnError;

    /// <inheritdoc/>
    public event InitHandler? OnInit;

    /// <inheritdoc/>
    public string Channel => _handle.Name;

    /// <inheritdoc/>
    public bool IsRunning
    {
        get
        {
            if (!_handle.EnterAsGuest())
            {
                return false;
            }
            bool running = Api.zb_server_is_running(_handle.Pointer) != 0;
            _handle.LeaveAsGuest();
            return running;
        }
    }

    /// <inheritdoc/>
    public void SetPoolSize(int threads)
    {
        if (threads < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(threads), threads, "A pool has at least 1 thread.");
        }
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_server_set_pool_size(_handle.Pointer, (nuint)threads, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
    }

    /// <inheritdoc/>
    public void Stop()
    {
        if (!_handle.EnterAsGuest())
        {
            return;
        }
        void* error = null;
        int status = Api.zb_server_stop(_handle.Pointer, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
    }

    /// <inheritdoc/>
    public bool Wait(TimeSpan timeout)
    {
        long timeoutMs = Milliseconds.From(timeout);
        if (!_handle.EnterAsGuest())
        {
            return true;
        }
        void* error = null;
        int status = Api.zb_server_wait(_handle.Pointer, timeoutMs, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        return status == Errors.Ok;
    }

    /// <inheritdoc/>
    public Task WaitAsync(CancellationToken cancellationToken = default)
    {
        if (Wait(TimeSpan.Zero))
        {
            return Task.CompletedTask;
        }
        TaskCompletionSource end;
        lock (_handle)
        {
            if (_end is null)
            {
                _end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                new Thread(TellEnd) { IsBackground = true, Name = "zerobuffer-wait" }.UnsafeStart();
            }
            end = _end;
        }
        return end.Task.WaitAsync(cancellationToken);
    }

    /// <summary>Stops the server, if that was not done; a handler that is still running is left to end by itself.</summary>
    public void Dispose()
    {
        _handle.Close();
        GC.SuppressFinalize(this);
    }

    /// <summary>Handles one request, during the call; what it throws fails the request.</summary>
    private protected delegate void Answer(Frame request, void* responder);

    /// <summary>Handles one request as the library passes it on; what it throws fails the request.</summary>
    private protected delegate void NativeAnswer(NativeFrame* request, void* responder);

    /// <summary>Starts processing by a handler that has answered when it returns.</summary>
    private protected void Run(Answer answer, ProcessingMode mode) => RunNative(
        (native, responder) =>
        {
            using Activity? activity = Telemetry.StartRequest(Channel, native->Sequence);
            using Frame request = RequestState.Begin(native);
            answer(request, responder);
        },
        mode);

    /// <summary>Starts processing.</summary>
    private protected void RunNative(NativeAnswer answer, ProcessingMode mode)
    {
        void* error = null;
        int status;
        // The context refers to the server: the library holds it, and with it the server, until the run is over.
        void* context = (void*)GCHandle.ToIntPtr(GCHandle.Alloc(new Context(this, answer)));
        if (!_handle.EnterAsGuest())
        {
            Free(context);
            _handle.ThrowClosed();
        }
        status = _handle.IsMutable
            ? Api.zb_server_start_mutable(_handle.Pointer, &Run, (int)mode, context, &Destroy, &error)
            : Api.zb_server_start(_handle.Pointer, &Run, (int)mode, context, &Destroy, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
    }

    [UnmanagedCallersOnly]
    private static void Run(void* userData, NativeFrame* native, void* responder)
    {
        // Nothing may unwind into the library.
        try
        {
            ((Context)GCHandle.FromIntPtr((nint)userData).Target!).Answer(native, responder);
        }
#pragma warning disable CA1031
        catch (Exception error)
#pragma warning restore CA1031
        {
            Fail(responder, error);
        }
    }

    /// <summary>Waits for the end of the server, and tells those that await it.</summary>
    private void TellEnd()
    {
        Exception? failure = null;
        try
        {
            Wait(Timeout.InfiniteTimeSpan);
        }
#pragma warning disable CA1031 // Any exception belongs to the awaiting callers.
        catch (Exception error)
#pragma warning restore CA1031
        {
            failure = error;
        }
        TaskCompletionSource end;
        lock (_handle)
        {
            end = _end!;
            // Who asks from now on may mean the next run.
            _end = null;
        }
        if (failure is null)
        {
            end.SetResult();
        }
        else
        {
            end.SetException(failure);
        }
    }

    private static void Fail(void* responder, Exception error)
    {
        _thrown = error;
        fixed (byte* message = Text.ToUtf8(error.Message.Replace('\0', ' ')))
        {
            Api.zb_responder_fail(responder, message);
        }
    }

    /// <summary>Fails a request whose answer was put off; the library tells of the error on this thread.</summary>
    private protected static void Fail(DeferredRequest request, Exception error)
    {
        _thrown = error;
        request.Fail(error.Message);
        _thrown = null;
    }

    [UnmanagedCallersOnly]
    private static void TellError(void* userData, void* error)
    {
        try
        {
            if (GCHandle.FromIntPtr((nint)userData).Target is DuplexServer server)
            {
                ZeroBufferException exception = Errors.Describe(Api.zb_error_code(error), error);
                if (exception is RequestFailedException && _thrown is Exception inner)
                {
                    exception = new RequestFailedException(exception, inner);
                }
                _thrown = null;
                LogError(server._logger, server.Channel, exception);
                server.OnError?.Invoke(server, new DuplexErrorEventArgs(exception));
            }
        }
#pragma warning disable CA1031 // What a subscriber throws is dropped.
        catch (Exception)
#pragma warning restore CA1031
        {
        }
    }

    [UnmanagedCallersOnly]
    private static void TellInit(void* userData, byte* metadata, nuint size)
    {
        try
        {
            if (GCHandle.FromIntPtr((nint)userData).Target is DuplexServer server)
            {
                server.OnInit?.Invoke(new ReadOnlySpan<byte>(metadata, checked((int)size)));
            }
        }
#pragma warning disable CA1031 // What a subscriber throws is dropped.
        catch (Exception)
#pragma warning restore CA1031
        {
        }
    }

    [UnmanagedCallersOnly]
    private static void Destroy(void* userData) => Free(userData);

    private static void Free(void* userData) => GCHandle.FromIntPtr((nint)userData).Free();

    private void* Handle(bool weak) => (void*)GCHandle.ToIntPtr(GCHandle.Alloc(this, weak ? GCHandleType.Weak : GCHandleType.Normal));

    private sealed class Context
    {
        internal Context(DuplexServer server, NativeAnswer answer)
        {
            Server = server;
            Answer = answer;
        }

        /// <summary>Kept alive as long as the library holds the context.</summary>
        internal DuplexServer Server { get; }

        internal NativeAnswer Answer { get; }
    }

    private sealed class ServerHandle : NativeHandle
    {
        private ServerHandle(void* pointer, string name, bool mutable)
            : base(pointer, name) => IsMutable = mutable;

        internal bool IsMutable { get; }

        private protected override string What => "the server of channel";

        internal static ServerHandle Create(string channel, BufferConfig? config, bool mutable)
        {
            LibraryLoader.Ensure();
            byte[] utf8 = Text.NameToUtf8(channel, out nuint length);
            void* settings = config is null ? null : config.ToNative();
            void* server = null;
            void* error = null;
            int status;
            fixed (byte* text = utf8)
            {
                status = mutable
                    ? Api.zb_server_create_mutable_n(text, length, settings, &server, &error)
                    : Api.zb_server_create_immutable_n(text, length, settings, &server, &error);
            }
            Api.zb_config_free(settings);
            Errors.ThrowIfFailed(status, error);
            return new ServerHandle(server, channel, mutable);
        }

        private protected override void CloseNative() => _ = Api.zb_server_stop(Pointer, null);

        private protected override void FreeNative() => Api.zb_server_free(Pointer);
    }
}
