using System.Runtime.CompilerServices;

namespace ZeroBuffer.Native;

/// <summary>
/// A handle of the C ABI, closed by <see cref="Close"/> from any thread at any time, and freed when the last call has left it.
/// </summary>
/// <remarks>
/// A call that is for one thread at a time enters by <see cref="Enter"/>. The first thread that does so owns the handle: it enters
/// and leaves by plain stores. When a second thread comes, ownership ends for good, and each entry is an interlocked operation.
/// <see cref="Interlocked.MemoryBarrierProcessWide"/>, in the rare revocation and in the one <see cref="Close"/>, stands in for the
/// fence that the owner leaves out: after it, the owner has either made its entry visible or sees that it is not the owner any more.
/// Calls for any thread enter by <see cref="EnterAsGuest"/>.
/// </remarks>
internal abstract unsafe class NativeHandle
{
    private const int NotYetOwned = 0;
    private const int Shared = -1;
    private const int Inside = 1;
    private const int InsideBriefly = 2;

    /// <summary>How often a thread looks whether the former owner is only about to leave.</summary>
    private const int Patience = 200;

    /// <summary>The managed thread id of the owner, or one of the constants.</summary>
    private int _owner;

    /// <summary>Whether the owner is inside: 0, or one of the constants; written by the owner alone.</summary>
    private int _ownerInside;

    /// <summary>Whether another thread is inside.</summary>
    private int _otherInside;

    /// <summary>The managed thread id of this thread, once it has been asked for: read without a call.</summary>
    [ThreadStatic]
    private static int _thisThread;

    private readonly WeakReference<NativeHandle> _registration;
    private int _guests;
    private int _closed;
    private int _freed;

    private protected NativeHandle(void* pointer, string name)
    {
        Pointer = pointer;
        Name = name;
        _registration = LiveHandles.Add(this);
    }

    ~NativeHandle()
    {
        // Nothing can reach this handle any more, but a span of a frame may still be in use.
        if (Interlocked.Exchange(ref _closed, 1) == 0)
        {
            CloseNative();
        }
        if (Interlocked.Exchange(ref _freed, 1) == 0 && !IsLending)
        {
            FreeNative();
        }
        LiveHandles.Remove(_registration);
    }

    /// <summary>The handle itself, for use between entering and leaving.</summary>
    internal void* Pointer { get; }

    /// <summary>The name of the buffer or channel.</summary>
    internal string Name { get; }

    internal bool IsClosed => Volatile.Read(ref _closed) != 0;

    /// <summary>Whether memory is lent that goes when the handle is freed.</summary>
    private protected virtual bool IsLending => false;

    /// <summary>What the handle is called in messages.</summary>
    private protected abstract string What { get; }

    private protected abstract void CloseNative();

    private protected abstract void FreeNative();

    /// <summary>Frames and bytes so far, and the side of a buffer that counts them; null for handles that count nothing.</summary>
    internal virtual string? Counters(out ulong frames, out ulong bytes)
    {
        frames = bytes = 0;
        return null;
    }

    /// <summary>Enters for a call that is for one thread at a time; the result is for <see cref="Leave"/>.</summary>
    /// <exception cref="InvalidStateException">Another thread is inside.</exception>
    /// <exception cref="ClosedException">The handle has been closed.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool Enter() => TryEnterAsOwner(Inside) || EnterSlowly();

    /// <summary>
    /// Enters for a call that ends on another thread, which then calls <see cref="Leave"/>, not as the owner. Ownership ends for good.
    /// </summary>
    /// <exception cref="InvalidStateException">Another thread is inside.</exception>
    /// <exception cref="ClosedException">The handle has been closed.</exception>
    internal void EnterToAwait()
    {
        int owner = Volatile.Read(ref _owner);
        if (owner == Environment.CurrentManagedThreadId && _ownerInside != 0)
        {
            ThrowInUse();
        }
        EndOwnership(owner);
        EnterAsOther();
    }

    /// <summary>
    /// Enters by plain stores if this thread owns the handle and is not inside, for a call that waits for nothing: other threads wait for its end.
    /// Then <see cref="Leave"/> as the owner.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool TryEnterBriefly() => TryEnterAsOwner(InsideBriefly);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Leave(bool asOwner)
    {
        if (asOwner)
        {
            Volatile.Write(ref _ownerInside, 0);
        }
        else
        {
            Volatile.Write(ref _otherInside, 0);
        }
        if (Volatile.Read(ref _closed) != 0)
        {
            FreeIfUnused();
        }
    }

    /// <summary>Enters for a call that any thread may make at any time; false if the handle has been closed.</summary>
    internal bool EnterAsGuest()
    {
        Interlocked.Increment(ref _guests);
        if (Volatile.Read(ref _closed) == 0)
        {
            return true;
        }
        LeaveAsGuest();
        return false;
    }

    internal void LeaveAsGuest()
    {
        if (Interlocked.Decrement(ref _guests) == 0 && Volatile.Read(ref _closed) != 0)
        {
            FreeIfUnused();
        }
    }

    /// <summary>As <see cref="EnterAsGuest"/>, also after a close, for what is lent: that keeps the handle from being freed.</summary>
    internal void EnterToGiveBack() => Interlocked.Increment(ref _guests);

    /// <summary>As <see cref="EnterAsGuest"/>, or throws.</summary>
    internal void EnterAsGuestOrThrow()
    {
        if (!EnterAsGuest())
        {
            ThrowClosed();
        }
    }

    /// <summary>Closes the handle; calls that are blocked end. A second close does nothing.</summary>
    internal void Close()
    {
        // A guest before it is closed: a call that leaves meanwhile must not free it.
        Interlocked.Increment(ref _guests);
        if (Interlocked.Exchange(ref _closed, 1) == 0)
        {
            Interlocked.Exchange(ref _owner, Shared);
            Interlocked.MemoryBarrierProcessWide();
            CloseNative();
        }
        LeaveAsGuest();
    }

    /// <summary>Frees the handle if it is closed, no call is inside and nothing is lent.</summary>
    internal void FreeIfUnused()
    {
        bool unused = Volatile.Read(ref _closed) != 0
            && Volatile.Read(ref _ownerInside) == 0
            && Volatile.Read(ref _otherInside) == 0
            && Volatile.Read(ref _guests) == 0
            && !IsLending;
        if (unused && Interlocked.Exchange(ref _freed, 1) == 0)
        {
            FreeNative();
            LiveHandles.Remove(_registration);
#pragma warning disable CA1816 // What the finaliser would do has been done; Dispose is the owner's.
            GC.SuppressFinalize(this);
#pragma warning restore CA1816
        }
    }

    private static int ThisThread
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => _thisThread != 0 ? _thisThread : LearnThread();
    }

    internal void ThrowClosed() => Errors.ThrowClosed(What, Name);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool TryEnterAsOwner(int inside)
    {
        if (_owner == ThisThread && _ownerInside == 0)
        {
            Volatile.Write(ref _ownerInside, inside);
            if (Volatile.Read(ref _owner) > 0)
            {
                return true;
            }
            Volatile.Write(ref _ownerInside, 0);
        }
        return false;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int LearnThread() => _thisThread = Environment.CurrentManagedThreadId;

    private bool EnterSlowly()
    {
        int owner = Volatile.Read(ref _owner);
        if (owner != Shared)
        {
            int own = Environment.CurrentManagedThreadId;
            owner = Interlocked.CompareExchange(ref _owner, own, NotYetOwned);
            if (owner == NotYetOwned)
            {
                return Enter();
            }
            if (owner == own)
            {
                ThrowInUse();
            }
            EndOwnership(owner);
        }
        EnterAsOther();
        return false;
    }

    private void EndOwnership(int owner)
    {
        if (owner != Shared && Interlocked.CompareExchange(ref _owner, Shared, owner) == owner)
        {
            Interlocked.MemoryBarrierProcessWide();
        }
    }

    /// <summary>Enters as a thread that does not own the handle, which no thread owns any more.</summary>
    private void EnterAsOther()
    {
        if (Interlocked.CompareExchange(ref _otherInside, 1, 0) != 0)
        {
            ThrowInUse();
        }
        for (int turn = 0, inside; (inside = Volatile.Read(ref _ownerInside)) != 0; turn++)
        {
            if (turn < Patience)
            {
                Thread.SpinWait(1);
                continue;
            }
            if (inside != InsideBriefly)
            {
                Leave(asOwner: false);
                ThrowInUse();
            }
            Thread.Yield();
        }
        if (Volatile.Read(ref _closed) != 0)
        {
            Leave(asOwner: false);
            ThrowClosed();
        }
    }

    private void ThrowInUse()
    {
        if (IsClosed)
        {
            ThrowClosed();
        }
        throw new InvalidStateException($"{What} `{Name}`: another thread is using it, and it is for one thread at a time") { BufferName = Name };
    }
}
