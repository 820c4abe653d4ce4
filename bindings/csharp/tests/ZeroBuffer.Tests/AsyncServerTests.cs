using System.Runtime.CompilerServices;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Tests;

/// <summary>Servers whose handlers await.</summary>
public sealed class AsyncServerTests
{
    private static readonly BufferConfig Small = new(256, 1 << 16);
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task Requests_are_under_way_together_and_keep_their_bytes()
    {
        using var server = new ImmutableDuplexServer(Names.New(), Small);
        using var all = new SemaphoreSlim(0);
        int came = 0;
        server.StartAsync(async (request, cancellation) =>
        {
            ReadOnlyMemory<byte> bytes = request.Memory;
            // The first to come is the last to be answered.
            if (Interlocked.Increment(ref came) == 8)
            {
                all.Release(8);
            }
            await all.WaitAsync(cancellation);
            Assert.True(request.IsValid);
            Assert.False(request.IsCancelled);
            Assert.InRange(request.TimeLeft!.Value, TimeSpan.FromMilliseconds(1), Soon);
            return bytes;
        });
        using var client = new DuplexClient(server.Channel);
        Task<DuplexResponse>[] calls = Enumerable.Range(0, 8).Select(number => client.CallAsync(new[] { (byte)number, (byte)9 }, Soon)).ToArray();
        for (int number = 0; number < calls.Length; number++)
        {
            using DuplexResponse response = await calls[number];
            Assert.Equal(new byte[] { (byte)number, 9 }, response.ToArray());
        }
        Assert.Throws<InvalidStateException>(() => server.StartAsync((request, cancellation) => new ValueTask<ReadOnlyMemory<byte>>(request.Memory)));
    }

    [Fact]
    public void A_request_ends_with_its_answer_and_can_be_copied_before()
    {
        using var server = new ImmutableDuplexServer(Names.New(), Small);
        var seen = new StrongBox<(Frame Request, Frame Copy)>();
        server.StartAsync(async (request, cancellation) =>
        {
            await Task.Yield();
            Assert.Throws<InvalidStateException>(() => request.GetMutableSpan());
            if (request.Data[0] == 1)
            {
                seen.Value = (request, default);
                return request.Memory;
            }
            Frame copy = request.Retain();
            Assert.Throws<ObjectDisposedException>(() => _ = request.Data);
            seen.Value = (request, copy);
            return copy.Memory;
        });
        using var client = new DuplexClient(server.Channel);
        Assert.Equal(1, client.Call(new byte[] { 1 }, Soon).Data[0]);
        Eventually.Holds(() => !seen.Value.Request.IsValid);
        Assert.Throws<ObjectDisposedException>(() => _ = seen.Value.Request.IsCancelled);
        Assert.Throws<ObjectDisposedException>(() => _ = seen.Value.Request.TimeLeft);
        Assert.Equal(2, client.Call(new byte[] { 2 }, Soon).Data[0]);
        Assert.Equal(2, seen.Value.Copy.Data[0]);
        seen.Value.Copy.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_an_awaiting_handler_throws_reaches_the_client_and_OnError(bool later)
    {
        using var server = new ImmutableDuplexServer(Names.New(), Small);
        var told = new TaskCompletionSource<ZeroBufferException>();
        server.OnError += (_, arguments) => told.TrySetResult(arguments.Exception);
        server.StartAsync(async (request, cancellation) =>
        {
            if (later)
            {
                await Task.Yield();
            }
            throw new ArgumentException("no such picture");
        });
        using var client = new DuplexClient(server.Channel);
        var failed = Assert.Throws<RequestFailedException>(() => client.Call(new byte[1], Soon));
        Assert.Contains("no such picture", failed.Message, StringComparison.Ordinal);
        ZeroBufferException error = Eventually.Result(told.Task);
        Assert.IsType<ArgumentException>(Assert.IsType<RequestFailedException>(error).InnerException);
    }

    [Fact]
    public async Task A_cancelled_call_cancels_its_handlers_token()
    {
        using var server = new ImmutableDuplexServer(Names.New(), Small);
        var errors = new List<ZeroBufferException>();
        server.OnError += (_, arguments) => errors.Add(arguments.Exception);
        var waiting = new TaskCompletionSource<bool>();
        var cancelled = new TaskCompletionSource<bool>();
        server.StartAsync(async (request, cancellation) =>
        {
            if (request.Data[0] == 1)
            {
                waiting.SetResult(true);
                using CancellationTokenRegistration registration = cancellation.Register(() => cancelled.SetResult(request.IsCancelled));
                await Task.Delay(Timeout.InfiniteTimeSpan, cancellation);
            }
            return request.Memory;
        });
        using var client = new DuplexClient(server.Channel);
        using var source = new CancellationTokenSource();
        Task<DuplexResponse> call = client.CallAsync(new byte[] { 1 }, Soon, source.Token);
        await waiting.Task.WaitAsync(Soon);
        source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        Assert.True(await cancelled.Task.WaitAsync(Soon));
        Assert.Equal(2, client.Call(new byte[] { 2 }, Soon).Data[0]);
        Assert.Empty(errors);
    }

    [Fact]
    public void Stopping_a_server_cancels_what_awaits_and_late_answers_go_nowhere()
    {
        string channel = Names.New();
        var server = new ImmutableDuplexServer(channel, Small);
        using var waiting = new ManualResetEventSlim();
        var ended = new TaskCompletionSource<bool>();
        var goOn = new TaskCompletionSource<bool>();
        server.StartAsync(async (request, cancellation) =>
        {
            using CancellationTokenRegistration registration = cancellation.Register(() => ended.TrySetResult(true));
            waiting.Set();
            await goOn.Task;
            return request.Memory;
        });
        using var client = new DuplexClient(channel);
        Task<Exception?> call = Task.Factory.StartNew(() => Record.Exception(() => client.Call(new byte[1], Soon)), TaskCreationOptions.LongRunning);
        Assert.True(waiting.Wait(Soon));
        server.Dispose();
        Assert.IsAssignableFrom<ZeroBufferException>(Eventually.Result(call));
        Assert.True(Eventually.Result(ended.Task));
        // The server has been freed by now; the request has not.
        goOn.SetResult(true);
        Eventually.Holds(() => !Names.Exists(channel + "_request"));
    }
}
