using System.Runtime.CompilerServices;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Tests;

/// <summary>Duplex channels in one process.</summary>
public sealed class DuplexTests
{
    private static readonly BufferConfig Small = new(256, 1 << 16);
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    private static readonly DuplexChannelFactory Factory = DuplexChannelFactory.Instance;

    [Fact]
    public void Each_call_gets_its_own_response()
    {
        string channel = Names.New();
        using IImmutableDuplexServer server = Factory.CreateImmutableServer(channel, Small);
        server.Start(Reversed);
        Assert.True(server.IsRunning);
        using IDuplexClient client = Factory.CreateClient(channel);
        Assert.True(client.IsServerConnected);
        Assert.Equal(channel, client.Channel);
        for (byte number = 1; number < 200; number++)
        {
            DuplexResponse response = client.Call(new byte[] { number, 0 }, Soon);
            Assert.True(response.IsValid);
            Assert.Equal(number, response.Sequence);
            Assert.Equal(new byte[] { 0, number }, response.ToArray());
        }
        ulong sent = client.SendRequest(new byte[] { 1, 2, 3 });
        ulong inPlace = client.AcquireRequestBuffer(2, out Span<byte> buffer);
        Assert.Throws<InvalidStateException>(() => client.SendRequest(new byte[1]));
        buffer[0] = 8;
        buffer[1] = 9;
        client.CommitRequest();
        DuplexResponse first = client.ReceiveResponse(Soon);
        Assert.Equal((sent, 3), (first.Sequence, first.Size));
        DuplexResponse second = client.ReceiveResponseTo(inPlace, Soon);
        Assert.Equal(new byte[] { 9, 8 }, second.Span.ToArray());
        Assert.False(first.IsValid, "the next receive of the thread ended it");
        Assert.False(client.ReceiveResponse(TimeSpan.FromMilliseconds(5)).IsValid);
        client.AcquireRequestBuffer(2, out buffer);
        client.DiscardRequest();
        client.AcquireRequestBuffer(1, out buffer);
        buffer[0] = 4;
        Assert.Equal(4, client.CallAcquired(Soon).Data[0]);
        server.Stop();
        Assert.False(server.IsRunning);
        Assert.ThrowsAny<ZeroBufferException>(() => client.Call(new byte[1], Soon));
    }

    [Fact]
    public void A_mutable_server_answers_in_place()
    {
        string channel = Names.New();
        using IMutableDuplexServer server = Factory.CreateMutableServer(channel, Small);
        server.Start(request => request.GetMutableSpan().Reverse());
        using IDuplexClient client = Factory.CreateClient(channel);
        Assert.Equal(new byte[] { 3, 2, 1 }, client.Call(new byte[] { 1, 2, 3 }, Soon).ToArray());
    }

    [Theory]
    [InlineData(ProcessingMode.SingleThread)]
    [InlineData(ProcessingMode.ThreadPool)]
    public void A_handler_may_write_its_answer_in_place(ProcessingMode mode)
    {
        string channel = Names.New();
        ResponseWriter leaked = default;
        using IImmutableDuplexServer server = Factory.CreateImmutableServer(channel, Small);
        server.StartInPlace(
            (request, response) =>
            {
                Assert.Throws<InvalidStateException>(response.Commit);
                Span<byte> answer = response.Acquire(request.Size + 2);
                Assert.Throws<InvalidStateException>(() => response.Acquire(1).Length);
                Assert.Throws<InvalidStateException>(() => response.Write(new byte[1]));
                Assert.Throws<InvalidFrameSizeException>(() => response.Commit(10_000));
                request.Data.CopyTo(answer);
                answer[..request.Size].Reverse();
                response.Commit(request.Size);
                Assert.Throws<InvalidStateException>(() => response.Acquire(1).Length);
                Assert.NotEqual(default, response);
                leaked = response;
            },
            mode);
        using IDuplexClient client = Factory.CreateClient(channel);
        for (byte number = 1; number < 100; number++)
        {
            Assert.Equal(new byte[] { 0, number }, client.Call(new byte[] { number, 0 }, Soon).ToArray());
        }
        server.Stop();
        Assert.Throws<ObjectDisposedException>(() => leaked.Acquire(1).Length);
        Assert.Throws<ObjectDisposedException>(leaked.Discard);
        Assert.Throws<ObjectDisposedException>(() => default(ResponseWriter).Write(default));
        Assert.Throws<ArgumentOutOfRangeException>(() => default(ResponseWriter).Acquire(-1).Length);
    }

    [Theory]
    [InlineData(ProcessingMode.SingleThread)]
    [InlineData(ProcessingMode.ThreadPool)]
    public void An_answer_in_place_that_is_never_committed_fails_its_request(ProcessingMode mode)
    {
        string channel = Names.New();
        using IImmutableDuplexServer server = Factory.CreateImmutableServer(channel, Small);
        server.StartInPlace(
            (request, response) =>
            {
                if (request.Data[0] == 0)
                {
                    return;
                }
                response.Acquire(4).Fill(1);
                switch (request.Data[0])
                {
                    case 1:
                        return;
                    case 2:
                        throw new FormatException("no such picture");
                    case 3:
                        response.Commit(0);
                        return;
                    case 4:
                        response.Discard();
                        response.Write("instead"u8);
                        return;
                    default:
                        response.Discard();
                        Assert.Throws<FrameTooLargeException>(() => response.Acquire(1 << 30).Length);
                        response.Acquire(1)[0] = 5;
                        response.Commit();
                        return;
                }
            },
            mode);
        using IDuplexClient client = Factory.CreateClient(channel);
        var forgotten = Assert.Throws<RequestFailedException>(() => client.Call(new byte[] { 1 }, Soon));
        Assert.Contains("committed none", forgotten.Message, StringComparison.Ordinal);
        var failed = Assert.Throws<RequestFailedException>(() => client.Call(new byte[] { 2 }, Soon));
        Assert.Contains("no such picture", failed.Message, StringComparison.Ordinal);
        Assert.Equal(0, client.Call(new byte[] { 0 }, Soon).Size);
        Assert.Equal(0, client.Call(new byte[] { 3 }, Soon).Size);
        Assert.Equal("instead"u8.ToArray(), client.Call(new byte[] { 4 }, Soon).ToArray());
        Assert.Equal(new byte[] { 5 }, client.Call(new byte[] { 5 }, Soon).ToArray());
    }

    [Fact]
    public void What_a_handler_throws_reaches_the_client_and_OnError()
    {
        string channel = Names.New();
        using IImmutableDuplexServer server = Factory.CreateImmutableServer(channel, Small);
        var told = new TaskCompletionSource<ZeroBufferException>();
        server.OnError += (sender, error) => told.TrySetResult(error.Exception);
        server.OnError += (_, _) => throw new InvalidOperationException("dropped");
        server.Start(request => request.Data[0] == 1 ? throw new FormatException("no such picture") : request.Data);
        using IDuplexClient client = Factory.CreateClient(channel);
        var failed = Assert.Throws<RequestFailedException>(() => client.Call(new byte[] { 1 }, Soon));
        Assert.Contains("no such picture", failed.Message, StringComparison.Ordinal);
        Assert.Equal(1UL, failed.Sequence);
        ZeroBufferException error = Eventually.Result(told.Task);
        Assert.IsType<RequestFailedException>(error);
        Assert.IsType<FormatException>(error.InnerException);
        Assert.Equal(2, client.Call(new byte[] { 2 }, Soon).Data[0]);
    }

    [Fact]
    public void An_immutable_request_cannot_be_changed_and_ends_with_its_handler()
    {
        string channel = Names.New();
        Frame leaked = default;
        Frame kept = default;
        using IImmutableDuplexServer server = Factory.CreateImmutableServer(channel, Small);
        server.Start(request =>
        {
            Assert.Throws<InvalidStateException>(() => request.GetMutableSpan());
            Assert.False(request.IsCancelled);
            Assert.InRange(request.TimeLeft!.Value, TimeSpan.Zero, Soon);
            leaked = request;
            if (request.Data[0] == 2)
            {
                kept = request.Retain();
            }
            return default;
        });
        using IDuplexClient client = Factory.CreateClient(channel);
        DuplexResponse empty = client.Call(new byte[] { 1 }, Soon);
        Assert.True(empty.IsValid);
        Assert.Equal(0, empty.Size);
        // The response is sent before the handler's call is over.
        Eventually.Holds(() => !leaked.IsValid);
        Assert.Throws<ObjectDisposedException>(() => _ = leaked.Data);
        client.Call(new byte[] { 2 }, Soon).Dispose();
        Assert.Equal(2, kept.Data[0]);
        kept.Dispose();
        Assert.Throws<ObjectDisposedException>(() => _ = kept.Data);
    }

    [Fact]
    public void A_pool_handles_several_requests_at_once()
    {
        string channel = Names.New();
        using var server = new ImmutableDuplexServer(channel, Small);
        server.SetPoolSize(4);
        using var together = new Barrier(4);
        server.Start(
            request =>
            {
                Assert.True(together.SignalAndWait(Soon));
                return request.Data;
            },
            ProcessingMode.ThreadPool);
        using IDuplexClient client = Factory.CreateClient(channel);
        var calls = Enumerable.Range(1, 4).Select(number => Task.Factory.StartNew(
            () => client.Call(new[] { (byte)number }, Soon).ToArray()[0], TaskCreationOptions.LongRunning)).ToArray();
        Assert.Equal(new byte[] { 1, 2, 3, 4 }, calls.Select(call => Eventually.Result(call)).ToArray());
        Assert.Throws<ArgumentOutOfRangeException>(() => server.SetPoolSize(0));
    }

    [Fact]
    public async Task Calls_can_be_awaited_and_cancelled()
    {
        string channel = Names.New();
        using var server = new ImmutableDuplexServer(channel, Small);
        using var seen = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        server.Start(request =>
        {
            if (request.Data[0] == 9)
            {
                goOn.Wait(Soon);
            }
            if (request.Data[0] == 0)
            {
                seen.Set();
                SpinWait.SpinUntil(() => request.IsCancelled, Soon);
                Assert.True(request.IsCancelled);
            }
            return request.Data;
        });
        using var client = new DuplexClient(channel);
        using (DuplexResponse response = await client.CallAsync(new byte[] { 5 }, Soon))
        {
            client.Call(new byte[] { 6 }, Soon);
            client.Call(new byte[] { 7 }, Soon);
            Assert.Equal(5, response.ToArray()[0]);
        }
        using var source = new CancellationTokenSource();
        Task<DuplexResponse> waiting = client.CallAsync(new byte[] { 0 }, Soon, source.Token);
        Assert.True(seen.Wait(Soon));
        source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        using var second = new CancellationTokenSource();
        seen.Reset();
        var cancel = Task.Run(() =>
        {
            seen.Wait(Soon);
            second.Cancel();
        });
        Assert.ThrowsAny<OperationCanceledException>(() => client.Call(new byte[] { 0 }, Soon, second.Token));
        await cancel;
        await Assert.ThrowsAsync<DeadlineExceededException>(() => client.CallAsync(new byte[] { 9 }, TimeSpan.FromMilliseconds(30)));
        Assert.Throws<DeadlineExceededException>(() => client.Call(new byte[] { 9 }, TimeSpan.FromMilliseconds(30)));
        goOn.Set();
        Assert.Equal(1, client.Call(new byte[] { 1 }, Soon).Data[0]);
        ulong request = client.SendRequest(new byte[] { 0 });
        Assert.True(client.CancelRequest(request));
        Assert.Throws<CancelledException>(() => client.ReceiveResponseTo(request, Soon));
        Assert.Throws<InvalidStateException>(() => client.ReceiveResponseTo(999, Soon));
    }

    [Fact]
    public void A_clients_metadata_reaches_the_server()
    {
        string channel = Names.New();
        using var server = new ImmutableDuplexServer(channel, Small);
        var told = new TaskCompletionSource<byte[]>();
        server.OnInit += metadata => told.TrySetResult(metadata.ToArray());
        server.Start(Reversed);
        using var client = new DuplexClient(channel, new ClientOptions { ResponseConfig = Small });
        client.SetMetadata("video/raw"u8);
        Assert.Equal(1, client.Call(new byte[] { 1 }, Soon).Size);
        Assert.Equal("video/raw"u8.ToArray(), Eventually.Result(told.Task));
        Assert.Throws<MetadataAlreadyWrittenException>(() => client.SetMetadata("again"u8));
    }

    [Fact]
    public void Disposing_a_client_ends_its_calls()
    {
        string channel = Names.New();
        using var server = new ImmutableDuplexServer(channel, Small);
        server.Start(Reversed);
        var client = new DuplexClient(channel);
        Task<Exception?> blocked = Task.Factory.StartNew(
            () => Record.Exception(() => client.ReceiveResponse(Timeout.InfiniteTimeSpan)), TaskCreationOptions.LongRunning);
        client.Dispose();
        Assert.IsType<ClosedException>(Eventually.Result(blocked));
        Assert.Throws<ClosedException>(() => client.SendRequest(new byte[1]));
        Assert.False(client.IsServerConnected);
    }

    [Fact]
    public void A_handler_may_dispose_its_own_server()
    {
        string channel = Names.New();
        var server = new ImmutableDuplexServer(channel, Small);
        var disposed = new TaskCompletionSource<Exception?>();
        server.Start(request =>
        {
            disposed.SetResult(Record.Exception(server.Dispose));
            return default;
        });
        using var client = new DuplexClient(channel);
        Assert.ThrowsAny<ZeroBufferException>(() => client.Call(new byte[1], Soon));
        Assert.Null(Eventually.Result(disposed.Task));
        Assert.False(server.IsRunning);
        Eventually.Holds(() => !Names.Exists(channel + "_request"));
    }

    [Fact]
    public void Subscribers_that_throw_and_handlers_that_cancel_leave_a_server_running()
    {
        using var server = new ImmutableDuplexServer(Names.New(), Small);
        DuplexClient? caller = null;
        server.OnError += (_, _) => throw new InvalidOperationException("dropped");
        server.OnInit += _ => throw new InvalidOperationException("dropped");
        server.Start(request => request.Data[0] switch
        {
            1 => throw new ArgumentException("asked for"),
            2 => caller!.CancelRequest(request.Sequence) ? request.Data : default,
            3 => Collected(request),
            _ => request.Data,
        });
        using var client = new DuplexClient(server.Channel, new ClientOptions { ResponseConfig = Small });
        caller = client;
        client.SetMetadata("video"u8);
        Assert.Throws<RequestFailedException>(() => client.Call(new byte[] { 1 }, Soon));
        ulong cancelled = client.SendRequest(new byte[] { 2 });
        Assert.Throws<CancelledException>(() => client.ReceiveResponseTo(cancelled, Soon));
        Assert.Equal(3, client.Call(new byte[] { 3 }, Soon).Data[0]);
        Assert.Equal(4, client.Call(new byte[] { 4 }, Soon).Data[0]);
        Assert.True(server.IsRunning);

        // What the handler refers to goes on living in the middle of a call.
        static ReadOnlySpan<byte> Collected(Frame request)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            GC.Collect();
            return request.Data;
        }
    }

    [Fact]
    public void Subscribers_may_dispose_their_own_server()
    {
        for (int turn = 0; turn < 2; turn++)
        {
            bool onError = turn == 0;
            var server = new ImmutableDuplexServer(Names.New(), Small);
            var disposed = new TaskCompletionSource<Exception?>();
            server.OnError += (_, _) => disposed.TrySetResult(Record.Exception(server.Dispose));
            if (!onError)
            {
                server.OnInit += _ => disposed.TrySetResult(Record.Exception(server.Dispose));
            }
            server.Start(request => throw new ArgumentException("asked for"));
            using var client = new DuplexClient(server.Channel, new ClientOptions { ResponseConfig = Small });
            if (!onError)
            {
                client.SetMetadata("video"u8);
            }
            // Its own failure, or the end of the channel.
            Assert.ThrowsAny<ZeroBufferException>(() => client.Call(new byte[] { 1 }, Soon));
            Assert.Null(Eventually.Result(disposed.Task));
            Assert.True(server.Wait(Soon));
            Eventually.Holds(() => !Names.Exists(server.Channel + "_request"));
        }
    }

    [Fact]
    public void A_token_may_dispose_the_reader_whose_wait_it_ends()
    {
        var reader = new Reader(Names.New(), Small);
        using var source = new CancellationTokenSource();
        using CancellationTokenRegistration registration = source.Token.Register(reader.Dispose);
        Task<Exception?> blocked = Task.Factory.StartNew(
            () => Record.Exception(() => reader.ReadFrame(Timeout.InfiniteTimeSpan, source.Token)), TaskCreationOptions.LongRunning);
        source.Cancel();
        Exception? told = Eventually.Result(blocked);
        Assert.True(told is OperationCanceledException or ClosedException, told?.ToString());
        Assert.False(Names.Exists(reader.Name));
    }

    [Fact]
    public void A_stop_while_a_handler_runs_is_told()
    {
        string channel = Names.New();
        using var server = new ImmutableDuplexServer(channel, Small);
        using var running = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        server.Start(request =>
        {
            running.Set();
            goOn.Wait();
            return default;
        });
        using var client = new DuplexClient(channel);
        client.SendRequest(new byte[1]);
        Assert.True(running.Wait(Soon));
        Assert.Throws<HandlerBusyException>(server.Stop);
        goOn.Set();
    }

    [Fact]
    public async Task A_wait_for_a_server_ends_when_its_last_handler_has()
    {
        using var server = new ImmutableDuplexServer(Names.New(), Small);
        Assert.True(server.Wait(Timeout.InfiniteTimeSpan), "it has not been started");
        Assert.True(server.WaitAsync().IsCompletedSuccessfully);
        using var running = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        bool waitedForItself = true;
        server.Start(request =>
        {
            waitedForItself = server.Wait(Timeout.InfiniteTimeSpan);
            running.Set();
            goOn.Wait();
            return default;
        });
        Assert.False(server.Wait(TimeSpan.Zero));
        Assert.False(server.Wait(TimeSpan.FromMilliseconds(5)));
        Task<bool> blocked = Task.Factory.StartNew(() => server.Wait(Timeout.InfiniteTimeSpan), TaskCreationOptions.LongRunning);
        Task first = server.WaitAsync();
        Task second = server.WaitAsync();
        using var source = new CancellationTokenSource();
        Task givenUp = server.WaitAsync(source.Token);
        source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => givenUp);
        using var client = new DuplexClient(server.Channel, new ClientOptions { ResponseConfig = Small });
        client.SendRequest(new byte[1]);
        Assert.True(running.Wait(Soon));
        Assert.False(waitedForItself, "a handler waited for its own end");
        Assert.Throws<HandlerBusyException>(server.Stop);
        Assert.False(server.Wait(TimeSpan.Zero), "the handler is still running");
        Assert.False(blocked.IsCompleted || first.IsCompleted || second.IsCompleted);
        goOn.Set();
        Assert.True(Eventually.Result(blocked));
        await Task.WhenAll(first, second).WaitAsync(Soon);

        server.Start(Reversed);
        Task next = server.WaitAsync();
        Assert.False(next.IsCompleted, "the wait for the next run");
        server.Dispose();
        await next.WaitAsync(Soon);
        Assert.True(server.Wait(Timeout.InfiniteTimeSpan), "it has been disposed");
        Assert.True(server.WaitAsync().IsCompletedSuccessfully);
    }

    [Fact]
    public void The_largest_request_is_known()
    {
        using var server = new ImmutableDuplexServer(Names.New(), Small);
        server.Start(Reversed);
        using var client = new DuplexClient(server.Channel, new ClientOptions { ResponseConfig = Small });
        Assert.Equal(Small.PayloadSize - 16, client.MaxRequestSize);
        byte[] largest = new byte[client.MaxRequestSize];
        largest[0] = 7;
        Assert.Equal(7, client.Call(largest, Soon).Data[^1]);
        Assert.Throws<FrameTooLargeException>(() => client.SendRequest(new byte[client.MaxRequestSize + 1]));
        client.Dispose();
        Assert.Equal(largest.Length, client.MaxRequestSize);
    }

    [Fact]
    public void A_started_server_that_nothing_refers_to_goes_on_and_one_that_was_not_started_goes()
    {
        string started = Names.New();
        string forgotten = Names.New();
        WeakReference server = Start(started);
        Forget(forgotten);
        Collect();
        Assert.True(server.IsAlive);
        Assert.False(Names.Exists(forgotten + "_request"));
        using (var client = new DuplexClient(started))
        {
            Assert.Equal(1, client.Call(new byte[] { 1 }, Soon).Data[0]);
        }
        Stop(server);
        Eventually.Holds(() =>
        {
            Collect();
            return !server.IsAlive;
        });
        Assert.False(Names.Exists(started + "_request"));

        [MethodImpl(MethodImplOptions.NoInlining)]
        static WeakReference Start(string channel)
        {
            var server = new ImmutableDuplexServer(channel, Small);
            server.Start(Reversed);
            return new WeakReference(server);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Forget(string channel) => _ = new ImmutableDuplexServer(channel, Small);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Stop(WeakReference server) => ((ImmutableDuplexServer)server.Target!).Stop();

        static void Collect()
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    private static ReadOnlySpan<byte> Reversed(Frame request)
    {
        byte[] answer = request.ToArray();
        Array.Reverse(answer);
        return answer;
    }
}
