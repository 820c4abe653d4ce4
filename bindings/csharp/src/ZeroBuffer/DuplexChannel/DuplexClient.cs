using System.Diagnostics;
using System.Runtime.InteropServices;
using ZeroBuffer.Native;

namespace ZeroBuffer.DuplexChannel;

/// <summary>The client that the library makes; see <see cref="IDuplexClient"/>.</summary>
public sealed unsafe class DuplexClient : IDuplexClient
{
    private readonly ClientHandle _handle;

    /// <summary>The last response of each thread, whose place the next one takes.</summary>
    private readonly ThreadLocal<OwnedFrame> _responses = new(static () => new OwnedFrame());

    /// <summary>Connects to the server of the channel, with all defaults.</summary>
    /// <inheritdoc cref="DuplexClient(string, ClientOptions?)"/>
    public DuplexClient(string channelName)
        : this(channelName, options: null)
    {
    }

    /// <summary>Connects to the server of the channel, and creates the response buffer.</summary>
    /// <exception cref="BufferNotFoundException">There is no server, within the connect time-out.</exception>
    /// <exception cref="ReaderDeadException">It died.</exception>
    /// <exception cref="WriterAlreadyConnectedException">It has a client.</exception>
    /// <exception cref="ZeroBufferException">Those of <see cref="Reader(string, BufferConfig?)"/> and <see cref="Writer(string, WriterOptions?)"/>.</exception>
    public DuplexClient(string channelName, ClientOptions? options) =>
        _handle = ClientHandle.Connect(channelName, options ?? new ClientOptions());

    /// <inheritdoc/>
    public string Channel => _handle.Name;

    /// <inheritdoc/>
    public long MaxRequestSize => _handle.MaxRequestSize;

    /// <inheritdoc/>
    public bool IsServerConnected
    {
        get
        {
            if (!_handle.EnterAsGuest())
            {
                return false;
            }
            bool connected = Api.zb_client_is_server_connected(_handle.Pointer) != 0;
            _handle.LeaveAsGuest();
            return connected;
        }
    }

    /// <inheritdoc/>
    public ulong SendRequest(byte[] data)
    {
        ArgumentNullException.ThrowIfNull(data);
        return SendRequest(new ReadOnlySpan<byte>(data));
    }

    /// <inheritdoc/>
    public ulong SendRequest(ReadOnlySpan<byte> data)
    {
        ulong sequence = 0;
        void* error = null;
        int status;
        _handle.EnterAsGuestOrThrow();
        fixed (byte* bytes = &MemoryMarshal.GetReference(data))
        {
            status = Api.zb_client_send_request(_handle.Pointer, Present(bytes), (nuint)data.Length, &sequence, &error);
        }
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        return sequence;
    }

    /// <inheritdoc/>
    public ulong SendRequestWithin(ReadOnlySpan<byte> data, TimeSpan timeout)
    {
        long timeoutMs = Milliseconds.From(timeout);
        ulong sequence = 0;
        void* error = null;
        int status;
        _handle.EnterAsGuestOrThrow();
        fixed (byte* bytes = &MemoryMarshal.GetReference(data))
        {
            status = Api.zb_client_send_request_within(_handle.Pointer, Present(bytes), (nuint)data.Length, timeoutMs, &sequence, &error);
        }
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        return sequence;
    }

    /// <inheritdoc/>
    public ulong AcquireRequestBuffer(int size, out Span<byte> buffer)
    {
        ArgumentOutOfRange.ThrowIfNegative(size);
        ulong sequence = 0;
        byte* data = null;
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_client_acquire_request_buffer(_handle.Pointer, (nuint)size, &sequence, &data, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        buffer = new Span<byte>(data, size);
        return sequence;
    }

    /// <inheritdoc/>
    public void CommitRequest()
    {
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_client_commit_request(_handle.Pointer, null, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
    }

    /// <inheritdoc/>
    public void DiscardRequest()
    {
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_client_discard_request(_handle.Pointer, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
    }

    /// <inheritdoc/>
    public DuplexResponse CallAcquired(TimeSpan timeout)
    {
        long timeoutMs = Milliseconds.From(timeout);
        void* error = null;
        OwnedFrame place = Place();
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_client_call_acquired(_handle.Pointer, timeoutMs, place.Empty(), &error);
        _handle.LeaveAsGuest();
        return Filled(place, status, error);
    }

    /// <inheritdoc/>
    public DuplexResponse ReceiveResponse(TimeSpan timeout)
    {
        long timeoutMs = Milliseconds.From(timeout);
        void* error = null;
        OwnedFrame place = Place();
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_client_receive_response(_handle.Pointer, timeoutMs, place.Empty(), &error);
        _handle.LeaveAsGuest();
        return Filled(place, status, error);
    }

    /// <inheritdoc/>
    public DuplexResponse ReceiveResponseTo(ulong sequence, TimeSpan timeout) => ReceiveTo(Place(), sequence, Milliseconds.From(timeout));

    /// <inheritdoc/>
    public DuplexResponse Call(ReadOnlySpan<byte> data, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        // The usual call is no part of a try block, in which the runtime would call the library by a detour.
        if (Telemetry.StartCall(Channel) is not Activity activity)
        {
            return cancellationToken.CanBeCanceled ? CallCancellable(data, timeout, cancellationToken) : CallPlainly(data, timeout);
        }
        using (activity)
        {
            return cancellationToken.CanBeCanceled ? CallCancellable(data, timeout, cancellationToken) : CallPlainly(data, timeout);
        }
    }

    /// <inheritdoc/>
    public Task<DuplexResponse> CallAsync(ReadOnlyMemory<byte> data, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return Task.FromCanceled<DuplexResponse>(cancellationToken);
        }
        return PendingCall.StartAsync(_handle, data.Span, Milliseconds.From(timeout), cancellationToken);
    }

    /// <inheritdoc/>
    public bool CancelRequest(ulong sequence)
    {
        byte underWay = 0;
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_client_cancel_request(_handle.Pointer, sequence, &underWay, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        return underWay != 0;
    }

    /// <inheritdoc/>
    public void SetMetadata(ReadOnlySpan<byte> metadata)
    {
        void* error = null;
        int status;
        _handle.EnterAsGuestOrThrow();
        fixed (byte* bytes = &MemoryMarshal.GetReference(metadata))
        {
            status = Api.zb_client_set_metadata(_handle.Pointer, Present(bytes), (nuint)metadata.Length, &error);
        }
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
    }

    /// <summary>
    /// Closes the client; calls that wait throw <see cref="ClosedException"/>. Responses that are still valid stay so.
    /// </summary>
    public void Dispose() => _handle.Close();

    /// <summary>As <see cref="Dispose"/>.</summary>
    public void Close() => Dispose();

    /// <summary>The C ABI takes no NULL, even for 0 bytes.</summary>
    private static byte* Present(byte* bytes) => bytes == null ? (byte*)1 : bytes;

    private static DuplexResponse Filled(OwnedFrame place, int status, void* error)
    {
        if (status == Errors.Ok)
        {
            return new DuplexResponse(place.Filled());
        }
        Errors.ThrowIfFailed(status, error);
        return default;
    }

    /// <summary>This thread's place for a response.</summary>
    private OwnedFrame Place()
    {
        OwnedFrame place = _responses.Value!;
        if (place.IsUsedUp)
        {
            place.Empty();
            place = _responses.Value = new OwnedFrame();
        }
        return place;
    }

    private DuplexResponse CallPlainly(ReadOnlySpan<byte> data, TimeSpan timeout)
    {
        long timeoutMs = Milliseconds.From(timeout);
        void* error = null;
        int status;
        OwnedFrame place = Place();
        NativeFrame* empty = place.Empty();
        _handle.EnterAsGuestOrThrow();
        fixed (byte* bytes = &MemoryMarshal.GetReference(data))
        {
            status = Api.zb_client_call(_handle.Pointer, Present(bytes), (nuint)data.Length, timeoutMs, empty, &error);
        }
        _handle.LeaveAsGuest();
        return Filled(place, status, error);
    }

    private DuplexResponse CallCancellable(ReadOnlySpan<byte> data, TimeSpan timeout, CancellationToken cancellationToken)
    {
        long timeoutMs = Milliseconds.From(timeout);
        cancellationToken.ThrowIfCancellationRequested();
        ulong sequence = SendRequestWithin(data, timeout);
        using CancellationTokenRegistration registration = CancelOn(sequence, cancellationToken);
        return ReceiveOutcome(Place(), sequence, timeoutMs, cancellationToken);
    }

    private DuplexResponse ReceiveTo(OwnedFrame place, ulong sequence, long timeoutMs)
    {
        void* error = null;
        NativeFrame* empty = place.Empty();
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_client_receive_response_to(_handle.Pointer, sequence, timeoutMs, empty, &error);
        _handle.LeaveAsGuest();
        return Filled(place, status, error);
    }

    /// <summary>The outcome of a request that was sent with the same time-out as a deadline.</summary>
    private DuplexResponse ReceiveOutcome(OwnedFrame place, ulong sequence, long timeoutMs, CancellationToken cancellationToken)
    {
        DuplexResponse response;
        try
        {
            response = ReceiveTo(place, sequence, timeoutMs);
        }
        catch (CancelledException error) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(error.Message, error, cancellationToken);
        }
        if (!response.IsValid)
        {
            // The time is over on this side: the request is given up, as Call does.
            _ = CancelRequest(sequence);
            throw new DeadlineExceededException($"channel `{Channel}`: no response to request {sequence} came within {timeoutMs} ms")
            {
                BufferName = Channel,
                Sequence = sequence,
            };
        }
        return response;
    }

    private CancellationTokenRegistration CancelOn(ulong sequence, CancellationToken cancellationToken) =>
        cancellationToken.CanBeCanceled
            ? cancellationToken.UnsafeRegister(
                static state =>
                {
                    var (client, request) = ((DuplexClient, ulong))state!;
                    try
                    {
                        client.CancelRequest(request);
                    }
                    catch (ZeroBufferException)
                    {
                        // The channel has ended, which the waiting call learns too.
                    }
                },
                (this, sequence))
            : default;

    private sealed class ClientHandle : NativeHandle
    {
        // Asked once, as a closed client is to tell it too.
        private ClientHandle(void* pointer, string name)
            : base(pointer, name) => MaxRequestSize = (long)Api.zb_client_max_request_size(pointer);

        internal long MaxRequestSize { get; }

        private protected override string What => "the client of channel";

        internal static ClientHandle Connect(string channel, ClientOptions options)
        {
            LibraryLoader.Ensure();
            byte[] utf8 = Text.NameToUtf8(channel, out nuint length);
            void* settings = options.ToNative();
            void* client = null;
            void* error = null;
            int status;
            fixed (byte* text = utf8)
            {
                status = Api.zb_client_connect_n(text, length, settings, &client, &error);
            }
            Api.zb_client_options_free(settings);
            Errors.ThrowIfFailed(status, error);
            return new ClientHandle(client, channel);
        }

        private protected override void CloseNative() => _ = Api.zb_client_close(Pointer, null);

        private protected override void FreeNative() => Api.zb_client_free(Pointer);
    }
}
