namespace ZeroBuffer.Native;

/// <summary><c>zb_reader</c>.</summary>
internal sealed unsafe class ReaderHandle : NativeHandle
{
    /// <summary>The version of the frame that is lent, 0 if none is.</summary>
    internal long Lent;

    /// <summary>The version of the last frame; those of all states of a reader are different.</summary>
    internal long LastVersion;

    private ReaderHandle(void* pointer, string name, bool shares)
        : base(pointer, name) => Shares = shares;

    /// <summary>Whether frames may lie in other readers' buffers.</summary>
    internal bool Shares { get; }

    private protected override bool IsLending => Volatile.Read(ref Lent) != 0;

    private protected override string What => "the reader of buffer";

    internal override string? Counters(out ulong frames, out ulong bytes)
    {
        frames = bytes = 0;
        if (!EnterAsGuest())
        {
            return null;
        }
        frames = Api.zb_reader_frames_read(Pointer);
        bytes = Api.zb_reader_bytes_read(Pointer);
        LeaveAsGuest();
        return "reader";
    }

    internal static ReaderHandle Create(string name, BufferConfig? config)
    {
        LibraryLoader.Ensure();
        byte[] utf8 = Text.NameToUtf8(name, out nuint length);
        void* settings = config is null ? null : config.ToNative();
        void* reader = null;
        void* error = null;
        int status;
        fixed (byte* text = utf8)
        {
            status = Api.zb_reader_create_n(text, length, settings, &reader, &error);
        }
        Api.zb_config_free(settings);
        Errors.ThrowIfFailed(status, error);
        return new ReaderHandle(reader, name, config is { AllowPayloadSharing: true });
    }

    private protected override void CloseNative() => _ = Api.zb_reader_close(Pointer, null);

    private protected override void FreeNative() => Api.zb_reader_free(Pointer);
}
