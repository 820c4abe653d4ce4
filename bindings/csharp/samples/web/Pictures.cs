using System.Diagnostics;
using System.Runtime.CompilerServices;
using SkiaSharp;
using ZeroBuffer;

namespace WebSample;

/// <summary>Reads the buffer, and encodes each picture once for all browsers.</summary>
internal sealed class Pictures : BackgroundService
{
    private const int Quality = 90;
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(1);

    private readonly Reader _reader;
    private readonly Queue<long> _times = new();
    private TaskCompletionSource<byte[]> _next = New();
    private byte[]? _last;
    private PictureSize? _size;
    private long _count;
    private double _latencyMs;

    public Pictures(string buffer) => _reader = new Reader(buffer);

    /// <summary>The picture that comes next, as JPEG; the first time, the last one if there is one.</summary>
    internal async IAsyncEnumerable<byte[]> Follow([EnumeratorCancellation] CancellationToken cancellation)
    {
        Task<byte[]> next = Volatile.Read(ref _next).Task;
        if (_last is byte[] last)
        {
            yield return last;
        }
        while (true)
        {
            byte[] picture = await next.WaitAsync(cancellation).ConfigureAwait(false);
            next = Volatile.Read(ref _next).Task;
            yield return picture;
        }
    }

    internal Statistics Statistics()
    {
        lock (_times)
        {
            Forget(Stopwatch.GetTimestamp());
            return new Statistics(_reader.IsWriterConnected(), _count, _times.Count / Window.TotalSeconds, _latencyMs);
        }
    }

    public override void Dispose()
    {
        _reader.Dispose();
        base.Dispose();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (true)
        {
            // One camera after the other: each stream ends when its writer closes or dies.
            try
            {
                await foreach (Frame frame in _reader.ReadAllAsync(stoppingToken).ConfigureAwait(false))
                {
                    Publish(frame);
                }
            }
            catch (WriterDeadException)
            {
                // The next camera may come.
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private static TaskCompletionSource<byte[]> New() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private unsafe void Publish(Frame frame)
    {
        // Metadata is written once for each buffer.
        _size ??= PictureSize.Parse(_reader.GetMetadata());
        int header = Unsafe.SizeOf<PictureHeader>();
        if (frame.Size != header + _size.Bytes)
        {
            throw new InvalidDataException($"a picture of {frame.Size - header} bytes, and {_size.Bytes} are announced");
        }
        // Skia reads the pixels where they lie.
        var info = new SKImageInfo(_size.Width, _size.Height, SKColorType.Bgra8888, SKAlphaType.Opaque);
        using var pixels = new SKPixmap(info, (nint)(frame.Pointer + header), _size.Width * PictureSize.PixelSize);
        using SKData jpeg = pixels.Encode(SKEncodedImageFormat.Jpeg, Quality) ?? throw new InvalidDataException("the picture cannot be encoded");
        byte[] picture = jpeg.ToArray();
        long now = Stopwatch.GetTimestamp();
        lock (_times)
        {
            _times.Enqueue(now);
            Forget(now);
            _count++;
            _latencyMs = Stopwatch.GetElapsedTime(((PictureHeader*)frame.Pointer)->Taken, now).TotalMilliseconds;
        }
        _last = picture;
        Interlocked.Exchange(ref _next, New()).SetResult(picture);
    }

    private void Forget(long now)
    {
        while (_times.TryPeek(out long time) && Stopwatch.GetElapsedTime(time, now) > Window)
        {
            _times.Dequeue();
        }
    }
}
