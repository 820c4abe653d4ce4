using System.Runtime.InteropServices;
using System.Runtime.Loader;

namespace ZeroBuffer.Native;

/// <summary>Who asked for a one-shot notification of a handle.</summary>
internal interface INotified
{
    /// <summary>There may be news. On a thread of the library.</summary>
    void OnNews();

    /// <summary>The handle has been closed, and no news will come. On the thread that closes it.</summary>
    void OnClosed();
}

/// <summary>
/// One-shot notifications: threads of the library call back, two for the whole process, so that a wait needs no thread. Each
/// notification ends in one call, of <see cref="INotified.OnNews"/> or <see cref="INotified.OnClosed"/>.
/// </summary>
internal static unsafe class Notification
{
    private const int Threads = 2;

    /// <summary>
    /// Whether continuations may run on the threads that call back. Not in a load context of its own: another context counts on a free
    /// thread too.
    /// </summary>
    private static readonly bool MayLinger =
        AssemblyLoadContext.GetLoadContext(typeof(Notification).Assembly) == AssemblyLoadContext.Default
        && Api.zb_set_callback_threads(Threads) != 0;

    /// <summary>How many threads that called back run a continuation.</summary>
    private static int _lingering;

    /// <summary>What this thread asks for right now.</summary>
    [ThreadStatic]
    private static Request* _asking;

    /// <summary>Whether that was destroyed uncalled.</summary>
    [ThreadStatic]
    private static bool _destroyed;

    /// <summary>
    /// Asks for a notification. False if the handle has been closed meanwhile, or with an <paramref name="error"/>; then no call comes.
    /// Otherwise it may come before this returns.
    /// </summary>
    internal static bool Ask(
        delegate*<void*, delegate* unmanaged<void*, void>, void*, delegate* unmanaged<void*, void>, void**, int> notify,
        void* handle,
        INotified target,
        out int status,
        out void* error)
    {
        var request = (Request*)NativeMemory.Alloc((nuint)sizeof(Request));
        *request = new Request { Target = GCHandle.ToIntPtr(GCHandle.Alloc(target)) };
        void* failure = null;
        _asking = request;
        _destroyed = false;
        status = notify(handle, &OnCall, request, &OnDestroy, &failure);
        _asking = null;
        error = failure;
        return status == Errors.Ok && !_destroyed;
    }

    /// <summary>
    /// Whether this thread, which calls back, may run a continuation: another one is free for further news. Then
    /// <see cref="EndLingering"/>.
    /// </summary>
    internal static bool TryLinger()
    {
        if (MayLinger && Interlocked.Increment(ref _lingering) < Threads)
        {
            return true;
        }
        if (MayLinger)
        {
            Interlocked.Decrement(ref _lingering);
        }
        return false;
    }

    internal static void EndLingering()
    {
        Interlocked.Decrement(ref _lingering);
        if (SynchronizationContext.Current is not null)
        {
            SynchronizationContext.SetSynchronizationContext(null);
        }
    }

    [UnmanagedCallersOnly]
    private static void OnCall(void* data)
    {
        var request = (Request*)data;
        request->IsCalled = true;
        ((INotified)GCHandle.FromIntPtr(request->Target).Target!).OnNews();
    }

    [UnmanagedCallersOnly]
    private static void OnDestroy(void* data)
    {
        var request = (Request*)data;
        GCHandle handle = GCHandle.FromIntPtr(request->Target);
        var target = (INotified)handle.Target!;
        bool isCalled = request->IsCalled;
        handle.Free();
        NativeMemory.Free(request);
        if (isCalled)
        {
            return;
        }
        if (_asking == request)
        {
            _destroyed = true;
            return;
        }
        target.OnClosed();
    }

    /// <summary>The user data of one notification.</summary>
    private struct Request
    {
        /// <summary>Keeps the target, and the handle with it, alive while the notification is awaited.</summary>
        internal nint Target;
        internal bool IsCalled;
    }
}
