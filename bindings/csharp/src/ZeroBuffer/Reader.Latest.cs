using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>The newest frame.</content>
public sealed unsafe partial class Reader
{
    /// <summary>Frames that <see cref="ReadLatestFrame()"/> passed over so far, which do not count as read; 0 when the reader has been disposed.</summary>
    public ulong FramesSkipped => Count(&Api.zb_reader_frames_skipped);

    /// <summary>Waits up to 5 s for the newest frame. See <see cref="ReadLatestFrame(TimeSpan, CancellationToken)"/>.</summary>
    /// <inheritdoc cref="ReadLatestFrame(TimeSpan, CancellationToken)"/>
    public Frame ReadLatestFrame() => Read(Milliseconds.Default, CancellationToken.None, latest: true);

    /// <summary>Waits for the newest frame. See <see cref="ReadLatestFrame(TimeSpan, CancellationToken)"/>.</summary>
    /// <inheritdoc cref="ReadLatestFrame(TimeSpan, CancellationToken)"/>
    public Frame ReadLatestFrame(TimeSpan timeout) => Read(Milliseconds.From(timeout), CancellationToken.None, latest: true);

    /// <summary>Waits for the newest frame without limit. See <see cref="ReadLatestFrame(TimeSpan, CancellationToken)"/>.</summary>
    /// <inheritdoc cref="ReadLatestFrame(TimeSpan, CancellationToken)"/>
    public Frame ReadLatestFrame(CancellationToken cancellationToken) => ReadLatest(Milliseconds.Infinite, cancellationToken);

    /// <summary>
    /// Waits for a frame and returns the newest one, and ends the frame before. Those before it are passed over, and their space goes back
    /// at once; <see cref="FramesSkipped"/> counts them. Only frames of one writer are passed over: the newest frame of a writer that
    /// ended comes before its end, and its end before the next writer's newest frame.
    /// </summary>
    /// <inheritdoc cref="ReadFrame(TimeSpan, CancellationToken)"/>
    public Frame ReadLatestFrame(TimeSpan timeout, CancellationToken cancellationToken) =>
        ReadLatest(Milliseconds.From(timeout), cancellationToken);

    /// <summary>
    /// The newest frame again and again, each valid until the next step, until the writer closes. Waits for each without limit.
    /// </summary>
    /// <inheritdoc cref="ReadFrame(TimeSpan, CancellationToken)"/>
    public IEnumerable<Frame> LatestFrames(CancellationToken cancellationToken = default)
    {
        while (true)
        {
            Frame frame = ReadLatestFrame(cancellationToken);
            if (!frame.IsValid)
            {
                yield break;
            }
            yield return frame;
        }
    }

    private Frame ReadLatest(long timeoutMs, CancellationToken cancellationToken)
    {
        using CancellationTokenRegistration registration = InterruptOn(cancellationToken);
        return Read(timeoutMs, cancellationToken, latest: true);
    }
}
