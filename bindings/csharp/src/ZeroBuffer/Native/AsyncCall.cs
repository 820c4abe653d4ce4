using System.Threading.Tasks.Sources;

namespace ZeroBuffer.Native;

/// <summary>
/// A call that waits without a thread: it asks for a notification, tries again when there is news, and so on. One object serves all such
/// calls of a handle, one at a time.
/// </summary>
/// <remarks>
/// From its start to its end the call has the handle to itself, as a call that blocks has. It ends on the thread that brings the news
/// or closes the handle, and nowhere else: a token, a time-out and the user interrupt the handle, which is news too. So no
/// two threads compete for the end, and no frame is lost on the way to a caller who has been told something else.
/// </remarks>
internal abstract unsafe class AsyncCall<T> : IValueTaskSource<T>, INotified
{
    /// <summary>Stands for a status that another try is to tell.</summary>
    private const int Again = int.MaxValue;

    /// <summary>The longest time that a timer knows.</summary>
    private const long LongestTimer = uint.MaxValue - 1;

    private readonly NativeHandle _handle;
    private ManualResetValueTaskSourceCore<T> _core;
    private CancellationToken _cancellation;
    private CancellationTokenRegistration _registration;
    private Timer? _timer;
    private Deadline _deadline;
    private long _timeoutMs;
    private bool _isPrepared;
    private bool _isAsking;
    private int _busy;

    private protected AsyncCall(NativeHandle handle) => _handle = handle;

    /// <summary>The result when the time is over, or an exception. To be called inside.</summary>
    private protected abstract T OutOfTime();

    /// <summary>Tries the call itself, without waiting; <see cref="Errors.Timeout"/> if it has to wait. To be called inside.</summary>
    private protected abstract int Try(out T result, out void* error);

    /// <summary>What a status other than OK, TIMEOUT and INTERRUPTED means: a result, or an exception.</summary>
    private protected abstract T Judge(int status, void* error);

    /// <summary>What an interrupt means: an exception, or that it came late, and the call goes on.</summary>
    private protected abstract void JudgeInterrupt(void* error, CancellationToken cancellation);

    /// <summary>Has the library open the descriptor on which notifications rest.</summary>
    private protected abstract int Prepare(out void* error);

    private protected abstract bool Ask(out int status, out void* error);

    /// <summary>The call has ended.</summary>
    private protected virtual void Forget()
    {
    }

    /// <summary>Whether the token or the time has ended the call.</summary>
    private protected bool IsOver => _cancellation.IsCancellationRequested || (_timeoutMs >= 0 && _deadline.Left == 0);

    /// <summary>Interrupts the handle, from any thread.</summary>
    private protected abstract void Interrupt();

    public T GetResult(short token)
    {
        try
        {
            return _core.GetResult(token);
        }
        finally
        {
            Volatile.Write(ref _busy, 0);
        }
    }

    public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

    public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    /// <summary>Begins a call that has just been tried in vain, with time left; then <see cref="Go"/>.</summary>
    private protected ValueTask<T> BeginAsync(long timeoutMs, CancellationToken cancellationToken)
    {
        _handle.EnterToAwait();
        if (Interlocked.Exchange(ref _busy, 1) != 0)
        {
            _handle.Leave(asOwner: false);
            throw new InvalidStateException($"`{_handle.Name}`: the last asynchronous call has not been awaited; await it first")
            {
                BufferName = _handle.Name,
            };
        }
        _core.Reset();
        _cancellation = cancellationToken;
        _timeoutMs = timeoutMs;
        _deadline = new Deadline(timeoutMs);
        return new ValueTask<T>(this, _core.Version);
    }

    private protected void Go()
    {
        if (_cancellation.CanBeCanceled)
        {
            _registration = _cancellation.UnsafeRegister(static call => ((AsyncCall<T>)call!).Interrupt(), this);
        }
        if (_timeoutMs > 0)
        {
            _timer ??= NewTimer();
            _timer.Change(Math.Min(_timeoutMs, LongestTimer), Timeout.Infinite);
        }
        if (_isPrepared)
        {
            Proceed(Errors.Timeout, mayLinger: false);
            return;
        }
        int status = Prepare(out void* error);
        if (status == Errors.Ok)
        {
            // What has come since the try before has made no descriptor ready.
            _isPrepared = true;
            Proceed(Again, mayLinger: false);
        }
        else
        {
            End(status, error);
        }
    }

    void INotified.OnNews()
    {
        // The thread that has asked may not have left the library yet, which lets one thread in at a time.
        var turns = default(SpinWait);
        while (Volatile.Read(ref _isAsking))
        {
            turns.SpinOnce(sleep1Threshold: -1);
        }
        Proceed(Again, mayLinger: true);
    }

    void INotified.OnClosed()
    {
        if (LiveHandles.IsEnding)
        {
            // The caller is not told while the process ends.
            ThreadPool.UnsafeQueueUserWorkItem(static call => call.End(Errors.Closed, error: null), this, preferLocal: false);
        }
        else
        {
            End(Errors.Closed, error: null);
        }
    }

    /// <summary>Goes on after a try with this status, and ends the call or waits for news.</summary>
    private void Proceed(int status, bool mayLinger)
    {
        T result = default!;
        void* error = null;
        try
        {
            while (true)
            {
                if (status == Again)
                {
                    status = Try(out result, out error);
                }
                if (status == Errors.Ok)
                {
                    break;
                }
                if (status == Errors.Interrupted && !_handle.IsClosed)
                {
                    JudgeInterrupt(error, _cancellation);
                    if (_timeoutMs < 0 || _deadline.Left > 0)
                    {
                        status = Again;
                        continue;
                    }
                    result = OutOfTime();
                    break;
                }
                if (status != Errors.Timeout)
                {
                    result = Judge(status, error);
                    break;
                }
                Volatile.Write(ref _isAsking, true);
                bool asked = Ask(out status, out error);
                Volatile.Write(ref _isAsking, false);
                if (asked)
                {
                    return;
                }
                result = Judge(status == Errors.Ok ? Errors.Closed : status, error);
                break;
            }
        }
#pragma warning disable CA1031 // Any exception belongs to the awaiting caller.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            Finish(default!, exception, mayLinger);
            return;
        }
        Finish(result, error: null, mayLinger);
    }

    private void End(int status, void* error)
    {
        T result;
        try
        {
            result = Judge(status, error);
        }
#pragma warning disable CA1031 // Any exception belongs to the awaiting caller.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            Finish(default!, exception, mayLinger: false);
            return;
        }
        Finish(result, error: null, mayLinger: false);
    }

    private void Finish(T result, Exception? error, bool mayLinger)
    {
        // A callback that runs already interrupts the next call, which then goes on.
        _registration.Unregister();
        _registration = default;
        _cancellation = default;
        if (_timeoutMs > 0)
        {
            _timer!.Change(Timeout.Infinite, Timeout.Infinite);
        }
        Forget();
        _handle.Leave(asOwner: false);
        bool lingers = mayLinger && Notification.TryLinger();
        _core.RunContinuationsAsynchronously = !lingers;
        if (error is null)
        {
            _core.SetResult(result);
        }
        else
        {
            _core.SetException(error);
        }
        if (lingers)
        {
            Notification.EndLingering();
        }
    }

    private Timer NewTimer()
    {
        // The timer must not keep the context of its first caller.
        using (ExecutionContext.IsFlowSuppressed() ? default : ExecutionContext.SuppressFlow())
        {
            return new Timer(static call => ((AsyncCall<T>)call!).OnTime(), this, Timeout.Infinite, Timeout.Infinite);
        }
    }

    private void OnTime()
    {
        // It may come some milliseconds early, or late for a call that has ended, which then interrupts the next one.
        long left = _deadline.Left;
        if (left > 0)
        {
            _timer!.Change(Math.Min(left, LongestTimer), Timeout.Infinite);
        }
        else
        {
            Interrupt();
        }
    }
}
