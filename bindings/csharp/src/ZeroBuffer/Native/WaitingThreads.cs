using System.Collections.Concurrent;

namespace ZeroBuffer.Native;

/// <summary>
/// Threads for calls that block, apart from the thread pool, which they would starve. A thread without work stays for a moment.
/// </summary>
internal static class WaitingThreads
{
    private static readonly TimeSpan Idle = TimeSpan.FromSeconds(1);
    private static readonly ConcurrentStack<Worker> Workers = new();

    /// <summary>Runs <paramref name="work"/>, which does not throw, on one of the threads.</summary>
    internal static void Run(Action work)
    {
        while (Workers.TryPop(out Worker? worker))
        {
            if (worker.TryGive(work))
            {
                return;
            }
        }
        _ = new Worker(work);
    }

    private sealed class Worker
    {
        private readonly object _lock = new();
        private Action? _work;
        private bool _gone;

        internal Worker(Action first)
        {
            _work = first;
            new Thread(Work) { IsBackground = true, Name = "zerobuffer-wait" }.UnsafeStart();
        }

        /// <summary>False if the thread has ended.</summary>
        internal bool TryGive(Action work)
        {
            lock (_lock)
            {
                if (_gone)
                {
                    return false;
                }
                _work = work;
                Monitor.Pulse(_lock);
                return true;
            }
        }

        private void Work()
        {
            while (Take() is Action work)
            {
                work();
                Workers.Push(this);
            }
        }

        private Action? Take()
        {
            lock (_lock)
            {
                if (_work is null)
                {
                    Monitor.Wait(_lock, Idle);
                }
                Action? work = _work;
                _work = null;
                _gone = work is null;
                return work;
            }
        }
    }
}
