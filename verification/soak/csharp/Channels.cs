using System.Buffers.Binary;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Soak;

/// <summary>The sides of a duplex channel.</summary>
internal static unsafe class Channels
{
    /// <summary>The head of a request: its client's salt, its number, and the order for the handler.</summary>
    private const int Head = 24;
    private const byte WaitOrder = 1;

    /// <summary>Answers each request with its bytes in reverse order, until the order to close.</summary>
    internal static void Serve(Board board)
    {
        var numbers = new Numbers(board.Seed);
        using var server = new ImmutableDuplexServer(board.Name, Config(board, ref numbers));
        server.SetPoolSize(2);
        server.Start(
            request =>
            {
                if (request.Data[16] == WaitOrder)
                {
                    Thread.Sleep(1);
                }
                byte[] answer = request.ToArray();
                Array.Reverse(answer);
                return answer;
            },
            numbers.OneIn(2) ? ProcessingMode.SingleThread : ProcessingMode.ThreadPool);
        board.Set(Board.Ready);
        board.AwaitOrder();
        server.Stop();
    }

    /// <summary>Sends requests, and checks their answers, until the order to close, or the end of the server.</summary>
    internal static void Call(Board board)
    {
        var numbers = new Numbers(board.Seed);
        var options = new ClientOptions
        {
            ConnectTimeout = Timeout.InfiniteTimeSpan,
            RequestTimeout = Timeout.InfiniteTimeSpan,
            ResponseConfig = Config(board, ref numbers),
        };
        using var client = new DuplexClient(board.Name, options);
        board.Set(Board.Ready);
        bool several = numbers.OneIn(2);
        bool idle = numbers.OneIn(2);
        ulong number = 0;
        while (!board.IsOrdered)
        {
            int count = several ? numbers.Between(1, 6) : 1;
            try
            {
                Exchange(board, client, number, count, ref numbers);
            }
            catch (ZeroBufferException error) when (error.Kind is ErrorKind.WriterDead or ErrorKind.ReaderDead)
            {
                board.TellAndAwaitOrder();
                break;
            }
            number += (ulong)count;
            Interlocked.Exchange(ref *board.Received, (long)number);
            board.Ring();
            board.Add("answers", count);
            if (idle)
            {
                Thread.Sleep(numbers.Between(0, 3));
            }
        }
    }

    private static BufferConfig Config(Board board, ref Numbers numbers) =>
        new() { Classic = board.IsClassic, PayloadSize = 64 * numbers.Between(64, 1024) };

    /// <summary>Sends requests behind <paramref name="number"/>, and receives their answers.</summary>
    private static void Exchange(Board board, DuplexClient client, ulong number, int count, ref Numbers numbers)
    {
        var answered = new SortedSet<ulong>();
        if (count == 1)
        {
            using DuplexResponse response = client.Call(Request(board.Salt, number + 1, ref numbers), Timeout.InfiniteTimeSpan);
            Judge(board, number + 1, response, answered);
        }
        else
        {
            ulong first = client.SendRequest(Request(board.Salt, number + 1, ref numbers));
            for (ulong index = 2; index <= (ulong)count; index++)
            {
                client.SendRequest(Request(board.Salt, number + index, ref numbers));
            }
            for (int index = 0; index < count; index++)
            {
                DuplexResponse response = client.ReceiveResponse(Timeout.InfiniteTimeSpan);
                Judge(board, number + 1 + response.Sequence - first, response, answered);
            }
        }
        Streams.Check(board.IsClassic || answered.Count == count, $"{count} requests, answered were {string.Join(", ", answered)}");
    }

    /// <summary>A request, whose answer has its bytes in reverse order.</summary>
    private static byte[] Request(ulong salt, ulong number, ref Numbers numbers)
    {
        byte[] bytes = new byte[Head + numbers.Between(0, 400)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, salt);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(8), number);
        bytes[16] = numbers.OneIn(8) ? WaitOrder : (byte)0;
        Content.Fill(salt, number + 1, bytes.AsSpan(Head));
        return bytes;
    }

    private static void Judge(Board board, ulong number, DuplexResponse response, SortedSet<ulong> answered)
    {
        byte[] request = response.ToArray();
        Array.Reverse(request);
        bool whole = request.Length >= Head;
        ulong owner = whole ? BinaryPrimitives.ReadUInt64LittleEndian(request) : 0;
        ulong told = whole ? BinaryPrimitives.ReadUInt64LittleEndian(request.AsSpan(8)) : 0;
        if (!whole || !Content.IsFilled(owner, told + 1, request.AsSpan(Head)))
        {
            board.Add("torn", 1);
            throw new InvalidOperationException($"request {number} of client {board.Salt} got a torn answer of {request.Length} bytes");
        }
        if (owner == board.Salt)
        {
            Streams.Check(told == number, $"request {number} of client {board.Salt} got the answer to {told}");
            answered.Add(told);
            return;
        }
        // Only in classic rings, where a response to the client before may come.
        Streams.Check(board.IsClassic, $"request {number} of client {board.Salt} got an answer to another client's");
        board.Add("strays", 1);
    }
}
