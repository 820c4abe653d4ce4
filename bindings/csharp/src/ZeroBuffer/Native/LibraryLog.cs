using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;

namespace ZeroBuffer.Native;

/// <summary>The messages of the native library, on their way to a logger.</summary>
internal static unsafe class LibraryLog
{
    private static readonly Action<ILogger, string, string, Exception?>[] Writers = Enum.GetValues<LogLevel>()
        .Where(static level => level != LogLevel.None)
        .Select(static level => LoggerMessage.Define<string, string>(level, default, "{Target}: {Message}"))
        .ToArray();

    private static ILogger? _logger;

    /// <summary>The <c>zb_logger</c> of this assembly; null until it is wanted. Another load context of the assembly has its own.</summary>
    private static void* _handle;

    /// <summary>Sends the library's messages to this logger from now on.</summary>
    internal static void SendTo(ILogger logger)
    {
        LibraryLoader.Ensure();
        lock (Writers)
        {
            Volatile.Write(ref _logger, logger);
            if (_handle != null)
            {
                return;
            }
            void* handle = null;
            void* error = null;
            // The logger decides on levels; the library logs clean-up and repair only.
            if (Api.zb_logger_add(&Receive, 5, null, null, &handle, &error) != Errors.Ok)
            {
                // A host of this runtime has a logger of its own, which gets the messages.
                Api.zb_error_free(error);
            }
            _handle = handle;
        }
    }

    /// <summary>As <see cref="SendTo"/>, if there is a logger.</summary>
    internal static void SendToIfGiven(ILogger? logger)
    {
        if (logger is not null)
        {
            SendTo(logger);
        }
    }

    /// <summary>Takes the callback away, as its code is about to go, and waits for calls of it that are under way.</summary>
    internal static void Remove()
    {
        void* handle;
        lock (Writers)
        {
            Volatile.Write(ref _logger, null);
            handle = _handle;
            _handle = null;
        }
        // No lock is held: a logger that is being called may make a reader.
        if (handle != null)
        {
            Api.zb_logger_remove(handle);
        }
    }

    [UnmanagedCallersOnly]
    private static void Receive(void* userData, int level, byte* target, byte* message)
    {
        try
        {
            // Levels of the library: 1 error, 2 warning, 3 information, 4 debug, 5 trace.
            if (Volatile.Read(ref _logger) is ILogger logger && level is >= 1 and <= 5 && logger.IsEnabled((LogLevel)(5 - level)))
            {
                Writers[5 - level](logger, Text.FromUtf8(target), Text.FromUtf8(message), null);
            }
        }
        catch (Exception)
        {
            // A logger that throws shall not end the process: nothing may unwind into the library.
        }
    }
}
