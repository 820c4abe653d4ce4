extern alias v2;

using Microsoft.Extensions.Logging;
using V2 = v2::ZeroBuffer;

namespace ZeroBuffer;

/// <summary>The reading side of a buffer: creates it, owns it, removes it when it is disposed.</summary>
public sealed class Reader : IDisposable
{
    private static readonly TimeSpan Default = TimeSpan.FromSeconds(5);

    /// <summary>How often <see cref="WaitExists"/> looks.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(5);

    private readonly V2.Reader _reader;

    /// <summary>Creates the buffer and becomes its reader.</summary>
    /// <exception cref="ArgumentException">The name or the config cannot be used.</exception>
    /// <exception cref="ReaderAlreadyConnectedException">Another live reader has the name.</exception>
    public Reader(string name, BufferConfig config, ILogger<Reader>? logger = null)
    {
        Errors.CheckName(name, nameof(name));
        ArgumentNullException.ThrowIfNull(config);
        V2.Native.LibraryLog.SendToIfGiven(logger);
        try
        {
            _reader = new V2.Reader(name, config.ToV2());
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <summary>The buffer's name.</summary>
    public string Name => _reader.Name;

    /// <summary>Waits until a live reader has created the buffer.</summary>
    /// <returns>False if that did not happen in time.</returns>
    public static bool WaitExists(string name, TimeSpan timeout, ILogger? logger = null)
    {
        Errors.CheckName(name, nameof(name));
        V2.Native.LibraryLog.SendToIfGiven(logger);
        long start = Environment.TickCount64;
        while (!Exists(name))
        {
            if (timeout != Timeout.InfiniteTimeSpan && Environment.TickCount64 - start >= timeout.TotalMilliseconds)
            {
                return false;
            }
            Thread.Sleep(Look);
        }
        return true;
    }

    /// <summary>
    /// Waits for the next frame; the frame is valid until it is disposed. When the time is over and a writer is connected, the result is
    /// <see cref="Frame.Invalid"/>.
    /// </summary>
    /// <param name="timeout">5 s if null; zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit, for later writers too.</param>
    /// <exception cref="WriterDeadException">The time is over, and no writer is connected: it closed, died, or never came.</exception>
    public Frame ReadFrame(TimeSpan? timeout = null)
    {
        TimeSpan wait = timeout ?? Default;
        bool endless = wait == Timeout.InfiniteTimeSpan;
        long start = Environment.TickCount64;
        TimeSpan left = wait;
        while (true)
        {
            try
            {
                V2.Frame frame = _reader.ReadFrame(left);
                if (frame.IsValid)
                {
                    return new Frame(frame.Retain());
                }
                if (!frame.EndOfStream && !endless)
                {
                    return _reader.IsWriterConnected() ? Frame.Invalid : throw new WriterDeadException();
                }
            }
            catch (V2.WriterDeadException)
            {
                // As after a close: another writer may come before the time is over.
            }
            catch (V2.ZeroBufferException error)
            {
                throw Errors.ToV1(error);
            }
            if (!endless)
            {
                left = wait - TimeSpan.FromMilliseconds(Environment.TickCount64 - start);
                left = left > TimeSpan.Zero ? left : TimeSpan.Zero;
            }
        }
    }

    /// <summary>Whether a writer is connected, or frames of one are still unread.</summary>
    public bool IsWriterConnected() => Ask(static reader => reader.IsWriterConnected());

    /// <summary>Waits up to so many milliseconds for a writer.</summary>
    public bool IsWriterConnected(int timeoutMs) => Ask(reader => reader.IsWriterConnected(timeoutMs));

    /// <summary>The metadata that the writer set; empty if it has set none.</summary>
    public ReadOnlySpan<byte> GetMetadata()
    {
        try
        {
            return _reader.GetMetadata();
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <summary>Closes the reader and removes the buffer. Frames that are still valid stay so until they are disposed.</summary>
    public void Dispose() => _reader.Dispose();

    private static bool Exists(string name)
    {
        try
        {
            return V2.Inspect.Snapshot(name).Reader.Presence == V2.Presence.Alive;
        }
        catch (V2.BufferNotFoundException)
        {
            return false;
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    private bool Ask(Func<V2.Reader, bool> question)
    {
        try
        {
            return question(_reader);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }
}
