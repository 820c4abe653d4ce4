namespace ZeroBuffer;

/// <summary>An output of a <see cref="Tee"/>, and what it got.</summary>
public sealed class TeeOutput
{
    internal TeeOutput(string name, long? bound, ulong framesShared, ulong framesCopied, ulong framesDropped, ErrorKind? ended)
    {
        Name = name;
        Bound = bound;
        FramesShared = framesShared;
        FramesCopied = framesCopied;
        FramesDropped = framesDropped;
        Ended = ended;
    }

    /// <summary>Name of the buffer that it writes.</summary>
    public string Name { get; }

    /// <summary>Of a drop output, how many frames it has at most that its reader has not given back; null: a block output.</summary>
    public long? Bound { get; }

    /// <summary>Frames that it got without a copy of its own.</summary>
    public ulong FramesShared { get; }

    /// <summary>Frames that it got as a copy of its own.</summary>
    public ulong FramesCopied { get; }

    /// <summary>Frames that it did not get.</summary>
    public ulong FramesDropped { get; }

    /// <summary>Why it has ended, for example <see cref="ErrorKind.ReaderDead"/>; null while it gets frames.</summary>
    public ErrorKind? Ended { get; }
}
