using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>How full a buffer is.</summary>
public enum BufferHealth
{
    /// <summary>Less than 80 % of the payload is in use.</summary>
    Healthy = 0,

    /// <summary>80 % or more, less than 95 %.</summary>
    Degraded = 1,

    /// <summary>95 % or more.</summary>
    Critical = 2,
}

/// <summary>Which kind of ring a buffer has.</summary>
public enum RingKind
{
    /// <summary>The layout that 1.x peers know.</summary>
    Classic = 0,

    /// <summary>Between two native peers.</summary>
    Extended = 1,

    /// <summary>The first writer to commit a frame will decide.</summary>
    Undecided = 2,
}

/// <summary>What can be known of a peer.</summary>
public enum Presence
{
    /// <summary>There is none.</summary>
    Absent = 0,

    /// <summary>There is one, and it lives.</summary>
    Alive = 1,

    /// <summary>There was one, and it died.</summary>
    Dead = 2,

    /// <summary>There was one, and it closed.</summary>
    Closed = 3,
}

/// <summary>One side of a buffer.</summary>
/// <param name="Presence">Whether there is a peer.</param>
/// <param name="IsNative">Whether it is a native peer, whose state is certain. The state of a 1.x peer is judged by its pid.</param>
/// <param name="ProcessId">The process, in its own pid namespace; 0 if there is none.</param>
public readonly record struct PeerInfo(Presence Presence, bool IsNative, ulong ProcessId);

/// <summary>A buffer at one moment. The numbers come from shared memory and are not checked against each other.</summary>
public sealed record BufferSnapshot
{
    /// <summary>The buffer's name.</summary>
    public required string Name { get; init; }

    /// <summary>The version of the protocol.</summary>
    public required Version ProtocolVersion { get; init; }

    /// <summary>Which kind of ring it has.</summary>
    public required RingKind Ring { get; init; }

    /// <summary>How full it is.</summary>
    public required BufferHealth Health { get; init; }

    /// <summary>The share of the payload that is in use, 0 to 1.</summary>
    public required double Utilisation { get; init; }

    /// <summary>Bytes of the metadata block.</summary>
    public required ulong MetadataSize { get; init; }

    /// <summary>Bytes of metadata written, with the 8-byte prefix; 0 if there are none yet.</summary>
    public required ulong MetadataWritten { get; init; }

    /// <summary>Bytes free in the metadata block.</summary>
    public required ulong MetadataFree { get; init; }

    /// <summary>Bytes of payload.</summary>
    public required ulong PayloadSize { get; init; }

    /// <summary>Bytes of the payload that are free.</summary>
    public required ulong PayloadFree { get; init; }

    /// <summary>The position in the ring of the next write.</summary>
    public required ulong WritePosition { get; init; }

    /// <summary>The position in the ring of the next read.</summary>
    public required ulong ReadPosition { get; init; }

    /// <summary>Frames written, and in a classic ring wrap markers.</summary>
    public required ulong WrittenCount { get; init; }

    /// <summary>Frames read, and in a classic ring wrap markers.</summary>
    public required ulong ReadCount { get; init; }

    /// <summary>The reading side.</summary>
    public required PeerInfo Reader { get; init; }

    /// <summary>The writing side.</summary>
    public required PeerInfo Writer { get; init; }

    /// <summary>Whether the reading side only keeps the buffer for a reader that comes later.</summary>
    public required bool IsKept { get; init; }

    /// <summary>Bytes of the whole file.</summary>
    public required ulong FileSize { get; init; }

    /// <summary>Bytes of memory that it occupies now.</summary>
    public required ulong Memory { get; init; }

    /// <summary>The owner's user id.</summary>
    public required uint Owner { get; init; }

    /// <summary>Permission bits.</summary>
    public required int Mode { get; init; }

    /// <summary>The time since the file last changed (created, resized, given memory); null if that is not known.</summary>
    public required TimeSpan? Age { get; init; }

    /// <summary>What is wrong with the numbers, if they cannot be true.</summary>
    public required IReadOnlyList<string> Defects { get; init; }
}

/// <summary>Looks at buffers from outside, without changing them.</summary>
/// <example>
/// <code>
/// foreach (string name in Inspect.List())
/// {
///     BufferSnapshot buffer = Inspect.Snapshot(name);
///     Console.WriteLine($"{name}: {buffer.Utilisation:P0} in use, {buffer.Health}");
/// }
/// </code>
/// </example>
public static unsafe class Inspect
{
    /// <summary>A snapshot of the buffer.</summary>
    /// <exception cref="BufferNotFoundException">There is none of this name.</exception>
    /// <exception cref="PermissionDeniedException">The operating system refused access.</exception>
    /// <exception cref="InvalidNameException">The name cannot be that of a buffer.</exception>
    /// <exception cref="IncompatibleProtocolException">It speaks another version of the protocol.</exception>
    public static BufferSnapshot Snapshot(string name)
    {
        LibraryLoader.Ensure();
        NativeSnapshot* taken = null;
        void* error = null;
        fixed (byte* text = Text.NameToUtf8(name, out nuint length))
        {
            Errors.ThrowIfFailed(Api.zb_inspect_snapshot_n(text, length, &taken, &error), error);
        }
        try
        {
            return Describe(taken);
        }
        finally
        {
            Api.zb_snapshot_free(taken);
        }
    }

    /// <summary>The names of all buffers on this machine, live or not, in alphabetical order.</summary>
    /// <exception cref="PermissionDeniedException">The operating system refused access.</exception>
    /// <exception cref="SystemErrorException">It refused something else.</exception>
    public static IReadOnlyList<string> List()
    {
        LibraryLoader.Ensure();
        NativeNames* names = null;
        void* error = null;
        Errors.ThrowIfFailed(Api.zb_inspect_list(&names, &error), error);
        try
        {
            return Strings(names->Names, names->Count);
        }
        finally
        {
            Api.zb_names_free(names);
        }
    }

    private static BufferSnapshot Describe(NativeSnapshot* taken) => new()
    {
        Name = Text.FromUtf8(taken->Name),
        ProtocolVersion = new Version(taken->Version[0], taken->Version[1], taken->Version[2]),
        Ring = (RingKind)taken->Ring,
        Health = (BufferHealth)taken->Health,
        Utilisation = taken->Utilisation,
        MetadataSize = taken->MetadataSize,
        MetadataWritten = taken->MetadataWritten,
        MetadataFree = taken->MetadataFree,
        PayloadSize = taken->PayloadSize,
        PayloadFree = taken->PayloadFree,
        WritePosition = taken->WritePosition,
        ReadPosition = taken->ReadPosition,
        WrittenCount = taken->WrittenCount,
        ReadCount = taken->ReadCount,
        Reader = Peer(taken->Reader),
        Writer = Peer(taken->Writer),
        IsKept = taken->Kept != 0,
        FileSize = taken->FileSize,
        Memory = taken->Memory,
        Owner = taken->Owner,
        Mode = (int)taken->Mode,
        Age = taken->AgeNs < 0 ? null : TimeSpan.FromTicks(taken->AgeNs / 100),
        Defects = Strings(taken->Defects, taken->DefectCount),
    };

    private static PeerInfo Peer(NativePeer peer) => new((Presence)peer.Presence, peer.Ours != 0, peer.Pid);

    private static string[] Strings(byte** texts, nuint count)
    {
        string[] strings = new string[count];
        for (int index = 0; index < strings.Length; index++)
        {
            strings[index] = Text.FromUtf8(texts[index]);
        }
        return strings;
    }
}
