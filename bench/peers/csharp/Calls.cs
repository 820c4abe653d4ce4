using System.Diagnostics;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Bench;

/// <summary>The client of a duplex channel: one caller, as in ../../src/duplex/drive.rs.</summary>
internal static class Calls
{
    private const ulong Checked = 20;

    internal static Func<SortedDictionary<string, double>> Prepare(Job job)
    {
        IDuplexClient client =
            DuplexChannelFactory.Instance.CreateClient(job.Channel, new ClientOptions { ConnectTimeout = Job.Patience });
        return () =>
        {
            using (client)
            {
                return Play(client, job);
            }
        };
    }

    private static SortedDictionary<string, double> Play(IDuplexClient client, Job job)
    {
        Span<byte> request = Content.NewAtPage(job.Size);
        Span<byte> answer = Content.NewAtPage(job.Size);
        var samples = new Latencies();
        long warmAt = Stopwatch.GetTimestamp() + (long)(job.WarmUp * Stopwatch.Frequency);
        long end = warmAt + (long)(job.Seconds * Stopwatch.Frequency);
        for (ulong index = 0; !job.Verify || index < Checked; index++)
        {
            if (job.Verify)
            {
                Content.Fill(index, request);
            }
            else
            {
                Content.Mark(request, index);
            }
            long sent = Stopwatch.GetTimestamp();
            if (!job.Verify && sent >= end)
            {
                break;
            }
            client.Call(request, Job.Patience).CopyTo(answer);
            long back = Stopwatch.GetTimestamp();
            if (job.Verify ? !answer.SequenceEqual(request) : !Content.IsMarked(answer, index))
            {
                throw new InvalidOperationException($"the response to request {index} is another one");
            }
            if (sent >= warmAt && back <= end)
            {
                samples.Add(back - sent);
            }
        }
        Content.Mark(request, Content.End);
        try
        {
            client.Call(request, Job.Patience);
        }
        catch (ZeroBufferException)
        {
            // The server may be gone before it has answered.
        }
        return samples.Finish(job);
    }
}
