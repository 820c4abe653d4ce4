using System.Diagnostics;
using System.Runtime.InteropServices;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Native;

/// <summary>A call of a client that waits without a thread: the library calls back with its outcome.</summary>
/// <remarks>
/// The call has one outcome: that of the library, or the cancellation, if the library says that its own does not come any more. The
/// library refers to the call, and so to the client, until then.
/// </remarks>
internal sealed unsafe class PendingCall
{
    private readonly TaskCompletionSource<DuplexResponse> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly NativeHandle _client;
    private readonly CancellationToken _cancellation;
    private readonly Activity? _activity;
    private CancellationTokenRegistration _registration;
    private ulong _number;

    /// <summary>Counts the registration and the end, of which the second one ends the registration.</summary>
    private int _steps;

    private PendingCall(NativeHandle client, CancellationToken cancellation)
    {
        _client = client;
        _cancellation = cancellation;
        Activity? own = Activity.Current;
        _activity = Telemetry.StartCall(client.Name);
        // The caller goes on with its own.
        Restore(own);
    }

    /// <summary>Sends a request, and returns what will be its response.</summary>
    internal static Task<DuplexResponse> StartAsync(
        NativeHandle client, ReadOnlySpan<byte> data, long timeoutMs, CancellationToken cancellation)
    {
        var call = new PendingCall(client, cancellation);
        try
        {
            call.Send(data, timeoutMs);
        }
        catch (ZeroBufferException error)
        {
            call.EndActivity();
            return Task.FromException<DuplexResponse>(error);
        }
        call.CancelByToken();
#pragma warning disable VSTHRD003 // The library's threads complete it, and run no continuation.
        return call._outcome.Task;
#pragma warning restore VSTHRD003
    }

    [UnmanagedCallersOnly]
    private static void OnDone(void* data, int status, NativeFrame* response, void* error)
    {
        PendingCall call = Of(data);
        call.End();
        if (status == Errors.Ok)
        {
            var frame = new DuplexResponse(new OwnedFrame().TakeFrom(response));
            if (!call._outcome.TrySetResult(frame))
            {
                frame.Dispose();
            }
            return;
        }
        ZeroBufferException exception = Errors.Describe(status, error);
        if (!LiveHandles.IsEnding)
        {
            call.Fail(exception);
            return;
        }
        // The caller is not told while the process ends.
        ThreadPool.UnsafeQueueUserWorkItem(
            static failed =>
            {
                LiveHandles.AwaitTheEnd();
                failed.Call.Fail(failed.Exception);
            },
            (Call: call, Exception: exception),
            preferLocal: false);
    }

    [UnmanagedCallersOnly]
    private static void OnDestroy(void* data) => GCHandle.FromIntPtr((nint)data).Free();

    private static PendingCall Of(void* data) => (PendingCall)GCHandle.FromIntPtr((nint)data).Target!;

    private static void Restore(Activity? activity)
    {
        if (Activity.Current != activity)
        {
            Activity.Current = activity;
        }
    }

    private void Send(ReadOnlySpan<byte> data, long timeoutMs)
    {
        ulong number = 0;
        void* error = null;
        int status;
        _client.EnterAsGuestOrThrow();
        // Freed by the library, whatever becomes of the call.
        void* self = (void*)GCHandle.ToIntPtr(GCHandle.Alloc(this));
        fixed (byte* bytes = &MemoryMarshal.GetReference(data))
        {
            // The C ABI takes no NULL, even for 0 bytes.
            byte* present = bytes == null ? (byte*)1 : bytes;
            status = Api.zb_client_call_async(
                _client.Pointer, present, (nuint)data.Length, timeoutMs, &OnDone, self, &OnDestroy, &number, &error);
        }
        _client.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        _number = number;
    }

    /// <summary>Has the token cancel the call, whose outcome may have come already.</summary>
    private void CancelByToken()
    {
        if (_cancellation.CanBeCanceled)
        {
            _registration = _cancellation.UnsafeRegister(static call => ((PendingCall)call!).Cancel(), this);
            Step();
        }
    }

    private void Cancel()
    {
        // A client that is closed gives the call its outcome.
        if (!_client.EnterAsGuest())
        {
            return;
        }
        byte waited = 0;
        _ = Api.zb_client_cancel_call(_client.Pointer, _number, &waited, null);
        _client.LeaveAsGuest();
        if (waited != 0)
        {
            End();
            _outcome.TrySetCanceled(_cancellation);
        }
    }

    private void Fail(ZeroBufferException error)
    {
        if (error is CancelledException && _cancellation.IsCancellationRequested)
        {
            _outcome.TrySetCanceled(_cancellation);
            return;
        }
        Telemetry.Count(error);
        _outcome.TrySetException(error);
    }

    private void End()
    {
        EndActivity();
        Step();
    }

    private void Step()
    {
        // Not Dispose, which would wait for a cancellation that waits for this call.
        if (Interlocked.Increment(ref _steps) == 2)
        {
            _registration.Unregister();
        }
    }

    private void EndActivity()
    {
        if (_activity is not null)
        {
            Activity? own = Activity.Current;
            _activity.Dispose();
            Restore(own);
        }
    }
}
