namespace ZeroBuffer.Cli;

/// <summary>A retained frame with several users, the last of which disposes it.</summary>
internal sealed class SharedFrame
{
    private int _users;

    internal SharedFrame(Frame frame, int users)
    {
        Frame = frame;
        _users = users;
    }

    internal Frame Frame { get; }

    internal void Release()
    {
        if (Interlocked.Decrement(ref _users) == 0)
        {
            Frame.Dispose();
        }
    }
}
