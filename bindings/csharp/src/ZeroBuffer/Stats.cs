namespace ZeroBuffer;

/// <summary>What a reader has done so far, and what it holds.</summary>
/// <param name="FramesRead">Frames read.</param>
/// <param name="BytesRead">Bytes of data read, without headers.</param>
/// <param name="Waits">How often a call found no frame and began to wait for one.</param>
/// <param name="FramesHeld">
/// Retained frames that have not been disposed. In a classic ring a frame that is lent counts too.
/// </param>
/// <param name="BytesHeld">
/// Bytes of the ring that cannot go back to the writer because of them: their own, and those of later frames that were released
/// already, headers included.
/// </param>
/// <param name="OldestHeld">The sequence number of the oldest one; null if none is held.</param>
public readonly record struct ReaderStats(
    ulong FramesRead, ulong BytesRead, ulong Waits, ulong FramesHeld, ulong BytesHeld, ulong? OldestHeld)
{
    /// <summary>How many of the frames held are lent to other readers now (<see cref="Writer.Forward"/>).</summary>
    public ulong FramesLent { get; init; }

    /// <summary>Frames read whose bytes lie in another reader's buffer, which lent them; they count as frames read, too.</summary>
    public ulong FramesShared { get; init; }

    /// <summary>Bytes of data of these.</summary>
    public ulong BytesShared { get; init; }
}

/// <summary>What a writer has done so far.</summary>
/// <param name="FramesWritten">Frames written.</param>
/// <param name="BytesWritten">Bytes of data written, without headers.</param>
/// <param name="Waits">How often a call found no space and began to wait for some.</param>
/// <param name="Full">How often a call found no space in time.</param>
public readonly record struct WriterStats(ulong FramesWritten, ulong BytesWritten, ulong Waits, ulong Full)
{
    /// <summary>Frames that were forwarded without a copy (<see cref="Writer.Forward"/>).</summary>
    public ulong FramesShared { get; init; }

    /// <summary>Frames that were forwarded by a copy.</summary>
    public ulong FramesCopied { get; init; }
}
