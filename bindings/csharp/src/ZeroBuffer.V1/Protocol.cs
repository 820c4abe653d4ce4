using System.Runtime.InteropServices;

namespace ZeroBuffer;

/// <summary>Numbers of protocol 1.</summary>
public static class Constants
{
    /// <summary>What blocks are aligned to, and their sizes rounded up to, in bytes.</summary>
    public const int BlockAlignment = 64;

    /// <summary>Bytes of an <see cref="OIEB"/>.</summary>
    public const int OIEBSize = 128;

    /// <summary>Bytes of a <see cref="FrameHeader"/>.</summary>
    public const int FrameHeaderSize = 16;
}

/// <summary>A version of the protocol.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct ProtocolVersion
{
    /// <summary>Peers of another major version do not understand each other.</summary>
    public byte Major;

    /// <summary>The minor version.</summary>
    public byte Minor;

    /// <summary>The patch level.</summary>
    public byte Patch;

    /// <summary>Zero.</summary>
    public byte Reserved;
}

/// <summary>The first block of a buffer's memory.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct OIEB
{
    /// <summary>128.</summary>
    public uint OiebSize;

    /// <summary>The version of the protocol.</summary>
    public ProtocolVersion Version;

    /// <summary>Bytes of the metadata block.</summary>
    public ulong MetadataSize;

    /// <summary>Bytes free in the metadata block.</summary>
    public ulong MetadataFreeBytes;

    /// <summary>Bytes of metadata written, with the 8-byte prefix.</summary>
    public ulong MetadataWrittenBytes;

    /// <summary>Bytes of the ring.</summary>
    public ulong PayloadSize;

    /// <summary>Bytes of the ring that are free.</summary>
    public ulong PayloadFreeBytes;

    /// <summary>Where the next frame is written.</summary>
    public ulong PayloadWritePos;

    /// <summary>Where the next frame is read.</summary>
    public ulong PayloadReadPos;

    /// <summary>Frames and wrap markers written.</summary>
    public ulong PayloadWrittenCount;

    /// <summary>Frames and wrap markers read.</summary>
    public ulong PayloadReadCount;

    /// <summary>The writer's process, 0 if there is none.</summary>
    public ulong WriterPid;

    /// <summary>The reader's process, 0 if there is none.</summary>
    public ulong ReaderPid;

    /// <summary>Hints between two peers of version 2.</summary>
    public ulong Reserved1;

    /// <inheritdoc cref="Reserved1"/>
    public ulong Reserved2;

    /// <inheritdoc cref="Reserved1"/>
    public ulong Reserved3;

    /// <inheritdoc cref="Reserved1"/>
    public ulong Reserved4;
}

/// <summary>What stands before the bytes of a frame.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct FrameHeader
{
    /// <summary>Bytes of the frame.</summary>
    public ulong PayloadSize;

    /// <summary>The frame's number.</summary>
    public ulong SequenceNumber;
}
