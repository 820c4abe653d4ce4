using System.Diagnostics.CodeAnalysis;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Native;

/// <summary>The answers that handlers on one thread of a server write, one after the other.</summary>
internal sealed unsafe class ResponseState
{
    [ThreadStatic]
    private static ResponseState? _ofThread;

    private void* _responder;
    private long _version;

    /// <summary>The handler's way to answer, until <see cref="End"/>.</summary>
    internal static ResponseWriter Begin(void* responder)
    {
        ResponseState state = _ofThread ??= new ResponseState();
        state._responder = responder;
        return new ResponseWriter(state, ++state._version);
    }

    /// <summary>The handler of this thread has returned.</summary>
    internal static void End()
    {
        if (_ofThread is ResponseState state)
        {
            state._version++;
            state._responder = null;
        }
    }

    internal void* Look(long version) => version == Volatile.Read(ref _version) ? _responder : ThrowEnded();

    [DoesNotReturn]
    internal static void* ThrowEnded() =>
        throw new ObjectDisposedException(nameof(ResponseWriter), "The handler has returned, and with it the right to answer its request.");
}
