using System.Runtime.InteropServices;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>What concerns the library as a whole.</summary>
public static unsafe class ZeroBufferRuntime
{
    private static readonly List<PosixSignalRegistration> Signals = new();

    /// <summary>The version of the native library, such as "2.0.0".</summary>
    /// <exception cref="DllNotFoundException">There is no native library, or it is of another version.</exception>
    public static string NativeVersion
    {
        get
        {
            LibraryLoader.Ensure();
            return Text.FromUtf8(Api.zb_version());
        }
    }

    /// <summary>
    /// Closes every reader, writer, client and server of this process when SIGTERM, SIGINT, SIGHUP or SIGQUIT comes, before the signal has its
    /// usual effect. For programs without a host: from .NET 10 on, these signals end a process without <c>ProcessExit</c>.
    /// </summary>
    public static void CloseOnSignals()
    {
        lock (Signals)
        {
            if (Signals.Count > 0)
            {
                return;
            }
            foreach (PosixSignal signal in new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP, PosixSignal.SIGQUIT })
            {
                Signals.Add(PosixSignalRegistration.Create(signal, static _ => LiveHandles.CloseAtTheEnd()));
            }
        }
    }

    /// <summary>Closes every reader, writer, client and server of this process.</summary>
    public static void CloseAll() => LiveHandles.CloseAll();
}
