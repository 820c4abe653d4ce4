using System.Runtime.CompilerServices;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Tests;

/// <summary>Calls that wait without a thread.</summary>
public sealed class PendingCallTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task A_thousand_pending_calls_need_no_thread_each_and_wait_for_space_too()
    {
        const int Count = 1000;
        const int Size = 200;
        // Above the threads that the pool and the test runner may start meanwhile.
        const int FewThreads = 40;
        string channel = Names.New();
        var goOn = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var server = new ImmutableDuplexServer(channel, new BufferConfig(64, 1 << 16));
        server.StartAsync(async (request, _) =>
        {
            await goOn.Task;
            return request.ToArray();
        });
        using var client = new DuplexClient(channel);
        int before = Threads();
        var pending = new List<Task<DuplexResponse>>();
        for (int number = 0; number < Count; number++)
        {
            byte[] request = new byte[Size];
            BitConverter.TryWriteBytes(request, number);
            pending.Add(client.CallAsync(request, Timeout.InfiniteTimeSpan));
        }
        int threads = Threads() - before;
        Assert.All(pending, call => Assert.False(call.IsCompleted));
        Assert.True(threads < FewThreads, $"{threads} threads for {Count} calls");
        goOn.SetResult();
        for (int number = 0; number < Count; number++)
        {
            using DuplexResponse response = await pending[number].WaitAsync(Patience);
            Assert.Equal((Size, number), (response.Size, BitConverter.ToInt32(response.Data)));
        }
    }

    [Fact]
    public async Task A_call_that_is_cancelled_meanwhile_ends_once_in_one_of_two_ways()
    {
        const int Rounds = 2000;
        string channel = Names.New();
        using var server = new ImmutableDuplexServer(channel, new BufferConfig(64, 1 << 16));
        server.Start(request => request.Data);
        using var client = new DuplexClient(channel);
        var random = new Random(1);
        int cancelled = 0;
        for (int round = 0; round < Rounds; round++)
        {
            using var source = new CancellationTokenSource();
            using var ready = new Barrier(2);
            // From much less than a call takes to much more.
            int turns = 1 << random.Next(18);
            Task cancelling = Task.Run(() =>
            {
                ready.SignalAndWait(Patience);
                Thread.SpinWait(turns);
                source.Cancel();
            });
            ready.SignalAndWait(Patience);
            Task<DuplexResponse> call = client.CallAsync(BitConverter.GetBytes(round), Patience, source.Token);
            try
            {
                using DuplexResponse response = await call.WaitAsync(Patience);
                Assert.Equal(round, BitConverter.ToInt32(response.Data));
            }
            catch (OperationCanceledException error)
            {
                Assert.Equal(source.Token, error.CancellationToken);
                cancelled++;
            }
            await cancelling;
        }
        // Both ways were gone, and neither response nor callback is left over.
        Assert.InRange(cancelled, 1, Rounds - 1);
        Assert.False(client.ReceiveResponse(TimeSpan.Zero).IsValid);
        Assert.Equal(7, client.Call(new byte[] { 7 }, Patience).Data[0]);
    }

    [Fact]
    public async Task What_a_program_does_with_a_response_holds_up_no_other_call()
    {
        var answer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var server = new ImmutableDuplexServer(Names.New(), new BufferConfig(64, 1 << 16));
        server.StartAsync(async (request, _) =>
        {
            await answer.Task;
            return request.ToArray();
        });
        using var client = new DuplexClient(server.Channel);
        using var goOn = new ManualResetEventSlim();
        var busy = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        // Would run on the thread that completes the call, if that let it.
        Task<bool> busyWith = client.CallAsync(new byte[] { 1 }, Patience).ContinueWith(
            _ =>
            {
                busy.SetResult();
                return goOn.Wait(Patience);
            },
            CancellationToken.None,
            TaskContinuationOptions.ExecuteSynchronously,
            TaskScheduler.Default);
        answer.SetResult();
        await busy.Task.WaitAsync(Patience);
        using (DuplexResponse response = await client.CallAsync(new byte[] { 2 }, Patience).WaitAsync(Patience))
        {
            Assert.Equal(2, response.Data[0]);
        }
        goOn.Set();
        Assert.True(await busyWith);
    }

    [Fact]
    public async Task A_token_that_outlives_its_calls_keeps_none_of_them()
    {
        using var server = new ImmutableDuplexServer(Names.New(), new BufferConfig(64, 1 << 16));
        server.Start(request => request.Data);
        using var client = new DuplexClient(server.Channel);
        using var source = new CancellationTokenSource();
        WeakReference first = CallOnce(client, source.Token);
        Eventually.Holds(() =>
        {
            GC.Collect();
            return !first.IsAlive;
        });
        source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.CallAsync(new byte[1], Patience, source.Token));
    }

    [Fact]
    public async Task Calls_learn_of_a_server_that_dies()
    {
        string suffix = Names.New("-dies");
        using RunningProgram program = RunningProgram.Example("serves", suffix);
        program.Says("there");
        using var client = new DuplexClient("server" + suffix);
        Task<DuplexResponse>[] calls = Enumerable.Range(0, 100).Select(_ => client.CallAsync(new byte[] { 1 }, Timeout.InfiniteTimeSpan)).ToArray();
        program.Says("handling");
        program.Kill();
        foreach (Task<DuplexResponse> call in calls)
        {
            Exception? error = await Record.ExceptionAsync(() => call.WaitAsync(Patience));
            Assert.True(error is ReaderDeadException or WriterDeadException, error?.ToString() ?? "no exception");
        }
        await Assert.ThrowsAnyAsync<ZeroBufferException>(() => client.CallAsync(new byte[1], Patience));
    }

    [Fact]
    public async Task Disposing_a_client_ends_its_pending_calls()
    {
        using var server = new ImmutableDuplexServer(Names.New(), new BufferConfig(64, 1 << 16));
        server.StartAsync(async (request, cancellation) =>
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, cancellation);
            return request.Memory;
        });
        var client = new DuplexClient(server.Channel);
        Task<DuplexResponse>[] calls = Enumerable.Range(0, 20).Select(_ => client.CallAsync(new byte[1], Timeout.InfiniteTimeSpan)).ToArray();
        client.Dispose();
        foreach (Task<DuplexResponse> call in calls)
        {
            await Assert.ThrowsAsync<ClosedException>(() => call.WaitAsync(Patience));
        }
        await Assert.ThrowsAsync<ClosedException>(() => client.CallAsync(new byte[1], Patience));
    }

    [Fact]
    public async Task What_cannot_be_sent_fails_its_call()
    {
        using var server = new ImmutableDuplexServer(Names.New(), new BufferConfig(64, 4096));
        server.Start(request => request.Data);
        using var client = new DuplexClient(server.Channel);
        // The tasks fail, not the method that returns them.
        Task<DuplexResponse> large = client.CallAsync(new byte[5000], Patience);
        Task<DuplexResponse> empty = client.CallAsync(Array.Empty<byte>(), Patience);
        await Assert.ThrowsAsync<FrameTooLargeException>(() => large.WaitAsync(Patience));
        await Assert.ThrowsAsync<InvalidFrameSizeException>(() => empty.WaitAsync(Patience));
        Assert.Throws<ArgumentOutOfRangeException>(() => { _ = client.CallAsync(new byte[1], TimeSpan.FromSeconds(-5)); });
        Assert.Equal(1, (await client.CallAsync(new byte[1], Patience)).Size);
    }

    private static int Threads() => Directory.GetDirectories("/proc/self/task").Length;

    /// <summary>A method of its own, whose variables keep nothing afterwards.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference CallOnce(DuplexClient client, CancellationToken token)
    {
        Task<DuplexResponse> call = client.CallAsync(new byte[1], Patience, token);
        Eventually.Result(call).Dispose();
        return new WeakReference(call);
    }
}
