using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>How a reader waits for frames, and a writer for space.</summary>
public enum WaitStrategy
{
    /// <summary>Spins for a moment where the gaps seen lately were short, else sleeps. The default.</summary>
    Adaptive = 0,

    /// <summary>Sleeps at once: the least processor time.</summary>
    Block = 1,

    /// <summary>Never sleeps: the least latency, for a whole core.</summary>
    Spin = 2,
}

/// <summary>Sizes and rights of a buffer, decided by the reader that creates it.</summary>
/// <example>
/// <code>
/// using var reader = new Reader("camera", new BufferConfig { PayloadSize = 64 * 1024 * 1024, Preallocate = true });
/// </code>
/// </example>
public sealed class BufferConfig
{
    /// <summary>The metadata block that a buffer has unless told otherwise, in bytes.</summary>
    public const long DefaultMetadataSize = 4096;

    /// <summary>The payload that a buffer has unless told otherwise, in bytes: 256 MiB, of which memory is used as far as frames reach.</summary>
    public const long DefaultPayloadSize = 256L * 1024 * 1024;

    /// <summary>The NUMA node that the thread runs on which creates the reader.</summary>
    public const int NumaNodeOfReader = -1;

    private int? _numaNode;

    /// <summary>A config with all defaults.</summary>
    public BufferConfig()
    {
    }

    /// <summary>A config with other sizes.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A size is negative.</exception>
    public BufferConfig(long metadataSize, long payloadSize)
    {
        MetadataSize = metadataSize;
        PayloadSize = payloadSize;
    }

    /// <summary>Bytes of the metadata block, rounded up to a multiple of 64. 8 of them hold the length.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The size is negative.</exception>
    public long MetadataSize
    {
        get => MetadataSizeGiven ?? DefaultMetadataSize;
        set => MetadataSizeGiven = NotNegative(value);
    }

    /// <summary>Bytes of the ring, rounded up to a multiple of 64. A frame needs its size plus 16.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The size is negative.</exception>
    public long PayloadSize
    {
        get => PayloadSizeGiven ?? DefaultPayloadSize;
        set => PayloadSizeGiven = NotNegative(value);
    }

    /// <summary>Permission bits of the buffer's files, set exactly, whatever the umask is. 0600 (octal) by default.</summary>
    public int Mode { get; set; } = 0b110_000_000;

    /// <summary>Whether to reserve and touch all memory at creation.</summary>
    public bool Preallocate { get; set; }

    /// <summary>
    /// Whether to reserve and touch all memory at creation, in huge pages as far as the kernel has some.
    /// <see cref="Reader.GetHugePageBytes"/> tells what the buffer got.
    /// </summary>
    public bool HugePages { get; set; }

    /// <summary>The NUMA node whose memory the buffer shall use, as far as there is room, or <see cref="NumaNodeOfReader"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The node is below -1.</exception>
    public int? NumaNode
    {
        get => _numaNode;
        set => _numaNode = value is null or >= NumaNodeOfReader ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "A node is 0 or more, or -1.");
    }

    /// <summary>Whether the ring stays classic, the layout that 1.x peers know.</summary>
    public bool Classic { get; set; }

    /// <summary>
    /// Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it (<see cref="Writer.Forward"/>).
    /// Who may read the buffer that they are passed on to may look at all of this one.
    /// </summary>
    public bool AllowPayloadSharing { get; set; }

    /// <summary>How the reader waits for frames.</summary>
    public WaitStrategy WaitStrategy { get; set; }

    /// <summary>What was set: a kept buffer has its sizes already, and refuses others.</summary>
    internal long? MetadataSizeGiven { get; private set; }

    internal long? PayloadSizeGiven { get; private set; }

    /// <summary>The handle of the C ABI, to be freed by <c>zb_config_free</c>.</summary>
    internal unsafe void* ToNative()
    {
        LibraryLoader.Ensure();
        void* config = Api.zb_config_new();
        int status = Errors.Ok;
        if (MetadataSizeGiven is long metadata)
        {
            status = Api.zb_config_set_metadata_size(config, (nuint)metadata);
        }
        if (PayloadSizeGiven is long payload)
        {
            status |= Api.zb_config_set_payload_size(config, (nuint)payload);
        }
        status |= Api.zb_config_set_mode(config, (uint)Mode);
        status |= Api.zb_config_set_preallocate(config, (byte)(Preallocate ? 1 : 0));
        status |= Api.zb_config_set_huge_pages(config, (byte)(HugePages ? 1 : 0));
        if (NumaNode is int node)
        {
            status |= Api.zb_config_set_numa_node(config, node);
        }
        status |= Api.zb_config_set_classic(config, (byte)(Classic ? 1 : 0));
        status |= Api.zb_config_set_allow_payload_sharing(config, (byte)(AllowPayloadSharing ? 1 : 0));
        status |= Api.zb_config_set_wait_strategy(config, (int)WaitStrategy);
        if (status != Errors.Ok)
        {
            Api.zb_config_free(config);
            throw new InvalidConfigException($"the configuration has a value that does not exist: wait strategy {WaitStrategy}, mode {Mode}");
        }
        return config;
    }

    /// <summary>A config like this one that allows payload sharing.</summary>
    internal BufferConfig Sharing()
    {
        var config = (BufferConfig)MemberwiseClone();
        config.AllowPayloadSharing = true;
        return config;
    }

    private static long NotNegative(long size, [System.Runtime.CompilerServices.CallerMemberName] string name = "") =>
        size >= 0 ? size : throw new ArgumentOutOfRangeException(name, size, "A size is 0 or more.");
}
