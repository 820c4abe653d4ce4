using System.Runtime.InteropServices;

namespace ZeroBuffer.Native;

/// <summary><c>zb_frame</c>: a frame that is owned until <c>zb_frame_release</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 128)]
internal unsafe struct NativeFrame
{
    internal byte* Data;
    internal nuint Size;
    internal ulong Sequence;
    internal ulong State;
}

/// <summary><c>zb_frame_ref</c>: a frame that its reader lends until its next call.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeFrameRef
{
    internal byte* Data;
    internal nuint Size;
    internal ulong Sequence;
}

/// <summary><c>zb_peer</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativePeer
{
    internal int Presence;
    internal byte Ours;
    internal ulong Pid;
}

/// <summary><c>zb_reader_stats</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeReaderStats
{
    internal nuint Size;
    internal ulong FramesRead;
    internal ulong BytesRead;
    internal ulong Waits;
    internal ulong FramesHeld;
    internal ulong BytesHeld;
    internal ulong OldestHeld;
    internal ulong FramesLent;
    internal ulong FramesShared;
    internal ulong BytesShared;
}

/// <summary><c>zb_writer_stats</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeWriterStats
{
    internal nuint Size;
    internal ulong FramesWritten;
    internal ulong BytesWritten;
    internal ulong Waits;
    internal ulong Full;
    internal ulong FramesShared;
    internal ulong FramesCopied;
}

/// <summary><c>zb_payload_sharing</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativePayloadSharing
{
    internal byte Enabled;
    internal ulong ShareCount;
    internal ulong OwnerPid;
}

/// <summary><c>zb_tee_output</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeTeeOutput
{
    internal fixed byte Name[256];
    internal nuint Bound;
    internal ulong FramesShared;
    internal ulong FramesCopied;
    internal ulong FramesDropped;
    internal int Ended;
}

/// <summary><c>zb_snapshot</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeSnapshot
{
    internal byte* Name;
    internal fixed byte Version[3];
    internal int Ring;
    internal int Health;
    internal double Utilisation;
    internal ulong MetadataSize;
    internal ulong MetadataWritten;
    internal ulong MetadataFree;
    internal ulong PayloadSize;
    internal ulong PayloadFree;
    internal ulong WritePosition;
    internal ulong ReadPosition;
    internal ulong WrittenCount;
    internal ulong ReadCount;
    internal NativePeer Reader;
    internal NativePeer Writer;
    internal byte Kept;
    internal ulong FileSize;
    internal ulong Memory;
    internal uint Owner;
    internal uint Mode;
    internal long AgeNs;
    internal byte** Defects;
    internal nuint DefectCount;
}

/// <summary><c>zb_names</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeNames
{
    internal byte** Names;
    internal nuint Count;
}
