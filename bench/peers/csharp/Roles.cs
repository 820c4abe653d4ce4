using System.Diagnostics;

namespace ZeroBuffer.Bench;

/// <summary>Streams, copied and in place, and round trips.</summary>
internal static class Roles
{
    /// <summary>Connects; what is returned plays the role.</summary>
    internal static Func<SortedDictionary<string, double>> Prepare(Job job)
    {
        switch (job.Role)
        {
            case "produce":
            {
                Writer writer = Connect(job.Forth);
                return () =>
                {
                    using (writer)
                    {
                        return Produce(writer, job);
                    }
                };
            }
            case "consume":
            {
                Reader reader = Listen(job.Forth, job);
                Accept(reader);
                return () =>
                {
                    using (reader)
                    {
                        return job.IsInPlace ? ConsumeInPlace(reader, job) : ConsumeCopies(reader, job);
                    }
                };
            }
            case "ping":
            {
                Reader reader = Listen(job.Back, job);
                Writer writer = Connect(job.Forth);
                Accept(reader);
                return () =>
                {
                    using (reader)
                    using (writer)
                    {
                        return Ping(writer, reader, job);
                    }
                };
            }
            case "echo":
            {
                Reader reader = Listen(job.Forth, job);
                Accept(reader);
                Writer writer = Connect(job.Back);
                return () =>
                {
                    using (reader)
                    using (writer)
                    {
                        return Echo(writer, reader, job);
                    }
                };
            }
            default:
                throw new InvalidOperationException($"no part for a {job.Role}");
        }
    }

    private static Writer Connect(string name) =>
        new(name, new WriterOptions { ConnectTimeout = Job.Patience, WriteTimeout = Job.Patience });

    private static Reader Listen(string name, Job job) => new(name, new BufferConfig { PayloadSize = job.Payload });

    private static void Accept(Reader reader)
    {
        if (!reader.IsWriterConnected(Job.Patience))
        {
            throw new InvalidOperationException("no writer came");
        }
    }

    private static InvalidOperationException Wrong(ulong index) => new($"frame {index} is not what was sent");

    /// <summary>Copies the next frame out; fails if it has another size, or none came.</summary>
    private static void Receive(Reader reader, byte[] target)
    {
        Frame frame = reader.ReadFrame(Job.Patience);
        if (frame.Size != target.Length)
        {
            throw new InvalidOperationException($"a frame of {frame.Size} bytes");
        }
        frame.Data.CopyTo(target);
    }

    /// <summary>When the time of a run is over; small frames look at the clock now and then only, as in <see cref="Meter"/>.</summary>
    private static (ulong Stride, long End) TimeOf(Job job) =>
        (job.Size <= 4096 ? 64UL : 1, Stopwatch.GetTimestamp() + (long)((job.Seconds + job.WarmUp) * Stopwatch.Frequency));

    private static SortedDictionary<string, double> Produce(Writer writer, Job job)
    {
        byte[] data = Content.New(job.Size);
        (ulong stride, long end) = TimeOf(job);
        ulong index = 0;
        if (job.IsInPlace)
        {
            bool marked = job.Mode == "marked";
            for (; index % stride != 0 || Stopwatch.GetTimestamp() < end; index++)
            {
                writer.AcquireFrameBuffer(job.Size, out Span<byte> frame);
                if (marked)
                {
                    Content.Mark(frame, index);
                }
                writer.CommitFrame();
            }
            if (!marked)
            {
                // Untouched frames end with their number, in a frame of its own size.
                writer.WriteFrame(BitConverter.GetBytes(index));
                return new SortedDictionary<string, double>();
            }
        }
        else if (job.Mode == "verify")
        {
            for (; index < job.Count; index++)
            {
                Content.Fill(index, data);
                writer.WriteFrame(data);
            }
        }
        else
        {
            for (; index % stride != 0 || Stopwatch.GetTimestamp() < end; index++)
            {
                Content.Mark(data, index);
                writer.WriteFrame(data);
            }
        }
        Content.Mark(data, Content.End);
        writer.WriteFrame(data);
        return new SortedDictionary<string, double>();
    }

    private static SortedDictionary<string, double> ConsumeCopies(Reader reader, Job job)
    {
        byte[] data = new byte[job.Size];
        byte[] expected = new byte[job.Size];
        bool verify = job.Mode == "verify";
        var meter = new Meter(job);
        for (ulong index = 0; ; index++)
        {
            Receive(reader, data);
            if (Content.IsMarked(data, Content.End))
            {
                return !verify || index == job.Count ? meter.Finish() : throw Wrong(index);
            }
            if (verify)
            {
                Content.Fill(index, expected);
            }
            if (verify ? !data.AsSpan().SequenceEqual(expected) : !Content.IsMarked(data, index))
            {
                throw Wrong(index);
            }
            meter.Frame();
        }
    }

    private static SortedDictionary<string, double> ConsumeInPlace(Reader reader, Job job)
    {
        bool marked = job.Mode == "marked";
        var meter = new Meter(job);
        for (ulong index = 0; ; index++)
        {
            ReadOnlySpan<byte> data = reader.ReadFrame(Job.Patience).Data;
            if (marked)
            {
                if (Content.IsMarked(data, Content.End))
                {
                    return meter.Finish();
                }
                if (data.Length != job.Size || !Content.IsMarked(data, index))
                {
                    throw Wrong(index);
                }
            }
            else if (data.Length != job.Size)
            {
                return BitConverter.ToUInt64(data) == index ? meter.Finish() : throw Wrong(index);
            }
            meter.Frame();
        }
    }

    private static SortedDictionary<string, double> Ping(Writer writer, Reader reader, Job job)
    {
        byte[] data = Content.New(job.Size);
        byte[] answer = new byte[job.Size];
        var samples = new Latencies();
        // One trip before the time starts.
        writer.WriteFrame(data);
        Receive(reader, answer);
        long start = Stopwatch.GetTimestamp();
        long warmAt = start + (long)(job.WarmUp * Stopwatch.Frequency);
        long end = warmAt + (long)(job.Seconds * Stopwatch.Frequency);
        for (ulong index = 0; ; index++)
        {
            if (job.Pace != 0)
            {
                TimeSpan left = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), start + (long)(index * (ulong)Stopwatch.Frequency / job.Pace));
                if (left > TimeSpan.Zero)
                {
                    Pause.For(left);
                }
            }
            Content.Mark(data, index);
            long sent = Stopwatch.GetTimestamp();
            if (sent >= end)
            {
                break;
            }
            writer.WriteFrame(data);
            Receive(reader, answer);
            long back = Stopwatch.GetTimestamp();
            if (!answer.AsSpan().SequenceEqual(data))
            {
                throw Wrong(index);
            }
            if (sent >= warmAt)
            {
                samples.Add(back - sent);
            }
        }
        Content.Mark(data, Content.End);
        writer.WriteFrame(data);
        return samples.Finish(job);
    }

    private static SortedDictionary<string, double> Echo(Writer writer, Reader reader, Job job)
    {
        byte[] data = new byte[job.Size];
        while (true)
        {
            Receive(reader, data);
            if (Content.IsMarked(data, Content.End))
            {
                return new SortedDictionary<string, double>();
            }
            writer.WriteFrame(data);
        }
    }
}
