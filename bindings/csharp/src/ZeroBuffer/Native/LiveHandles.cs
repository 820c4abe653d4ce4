using System.Runtime.Loader;

namespace ZeroBuffer.Native;

/// <summary>
/// The handles that are open. They are closed when the process exits, when an exception ends it, and when the load context of this
/// assembly is unloaded, so that no file is left behind and no callback goes to code that is gone.
/// </summary>
internal static class LiveHandles
{
    private static readonly HashSet<WeakReference<NativeHandle>> Handles = new();

    /// <summary>How long a call waits for the end of the process, instead of throwing.</summary>
    private const int Grace = 1000;

    private static bool _watching;

    /// <summary>The thread that closes everything because the process ends; null before.</summary>
    private static Thread? _ending;

    /// <summary>Whether everything is closed because the process ends.</summary>
    internal static bool IsEnding => Volatile.Read(ref _ending) is not null;

    internal static WeakReference<NativeHandle> Add(NativeHandle handle)
    {
        var reference = new WeakReference<NativeHandle>(handle);
        Telemetry.Ensure();
        lock (Handles)
        {
            Handles.Add(reference);
            if (!_watching)
            {
                _watching = true;
                // The context's own event does not keep a collectible context alive, as AppDomain.ProcessExit would; it is
                // raised at the end of the process too.
                AssemblyLoadContext context = AssemblyLoadContext.GetLoadContext(typeof(LiveHandles).Assembly) ?? AssemblyLoadContext.Default;
                context.Unloading += OnUnloading;
                AppDomain.CurrentDomain.UnhandledException += OnUnhandledException;
            }
        }
        return reference;
    }

    internal static void Remove(WeakReference<NativeHandle> reference)
    {
        lock (Handles)
        {
            Handles.Remove(reference);
        }
    }

    /// <summary>All handles that are open now.</summary>
    internal static List<NativeHandle> Snapshot()
    {
        var live = new List<NativeHandle>();
        lock (Handles)
        {
            foreach (WeakReference<NativeHandle> reference in Handles)
            {
                if (reference.TryGetTarget(out NativeHandle? handle) && !handle.IsClosed)
                {
                    live.Add(handle);
                }
            }
        }
        return live;
    }

    internal static void CloseAll() => Snapshot().ForEach(static handle => handle.Close());

    /// <summary>Closes all handles, as the process is about to end.</summary>
    internal static void CloseAtTheEnd()
    {
        Volatile.Write(ref _ending, Thread.CurrentThread);
        CloseAll();
    }

    /// <summary>
    /// To be called before an exception is thrown. While the process ends, the calls of other threads fail because everything is closed, and a
    /// thread that does not catch that would make the process fail: it waits for the end. Should the process live on, it throws after all.
    /// </summary>
    internal static void AwaitTheEnd()
    {
        if (Volatile.Read(ref _ending) is Thread ending && ending != Thread.CurrentThread)
        {
            Thread.Sleep(Grace);
        }
    }

    private static void OnUnhandledException(object sender, UnhandledExceptionEventArgs arguments)
    {
        if (arguments.IsTerminating)
        {
            CloseAtTheEnd();
        }
    }

    private static void OnUnloading(AssemblyLoadContext context)
    {
        context.Unloading -= OnUnloading;
        AppDomain.CurrentDomain.UnhandledException -= OnUnhandledException;
        if (context.IsCollectible)
        {
            CloseAll();
        }
        else
        {
            // Such a context goes with the process.
            CloseAtTheEnd();
        }
        LibraryLog.Remove();
        Telemetry.Remove();
    }
}
