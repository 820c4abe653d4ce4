// A peer of the soak in C#. ../lane.rs starts it as one of the sides; ../peers.rs and ../duplex.rs have the same sides in Rust.

using ZeroBuffer.Soak;

var board = new Board(args);
try
{
    switch (args[0])
    {
        case "reader":
            Streams.Read(board);
            break;
        case "writer":
            Streams.Write(board);
            break;
        case "server":
            Channels.Serve(board);
            break;
        case "client":
            Channels.Call(board);
            break;
        default:
            throw new InvalidOperationException($"there is no side `{args[0]}`");
    }
    board.Set(Board.Closed);
    return 0;
}
catch (Exception error)
{
    board.Fail(error);
    return 101;
}
