namespace ZeroBuffer.Native;

/// <summary><c>zb_writer</c>.</summary>
internal sealed unsafe class WriterHandle : NativeHandle
{
    /// <summary>Keeps the memory mapped into which an acquired span points, for as long as the writer object lives.</summary>
    private MemoryGuard? _guard;
    private bool _acquired;

    private WriterHandle(void* pointer, string name)
        : base(pointer, name)
    {
    }

    private protected override string What => "the writer of buffer";

    internal override string? Counters(out ulong frames, out ulong bytes)
    {
        frames = bytes = 0;
        if (!EnterAsGuest())
        {
            return null;
        }
        frames = Api.zb_writer_frames_written(Pointer);
        bytes = Api.zb_writer_bytes_written(Pointer);
        LeaveAsGuest();
        return "writer";
    }

    internal static WriterHandle Connect(string name, WriterOptions options)
    {
        LibraryLoader.Ensure();
        byte[] utf8 = Text.NameToUtf8(name, out nuint length);
        void* settings = options.ToNative();
        void* writer = null;
        void* error = null;
        int status;
        fixed (byte* text = utf8)
        {
            status = Api.zb_writer_connect_n(text, length, settings, &writer, &error);
        }
        Api.zb_writer_options_free(settings);
        Errors.ThrowIfFailed(status, error);
        return new WriterHandle(writer, name);
    }

    /// <summary><c>zb_shared_writer_create_n</c>.</summary>
    internal static WriterHandle CreateShared(string name, ReaderHandle source, BufferConfig? config, WriterOptions options)
    {
        byte[] utf8 = Text.NameToUtf8(name, out nuint length);
        void* sizes = config is null ? null : config.ToNative();
        void* settings = options.ToNative();
        void* writer = null;
        void* error = null;
        int status;
        bool owner = source.Enter();
        fixed (byte* text = utf8)
        {
            status = Api.zb_shared_writer_create_n(text, length, source.Pointer, sizes, settings, &writer, &error);
        }
        source.Leave(owner);
        Api.zb_writer_options_free(settings);
        Api.zb_config_free(sizes);
        Errors.ThrowIfFailed(status, error);
        return new WriterHandle(writer, name);
    }

    /// <summary>To be called inside, after an acquire.</summary>
    internal void NoteAcquired(int status)
    {
        if (status == Errors.Ok)
        {
            _acquired = true;
        }
    }

    /// <summary>To be called inside, after a commit or a discard.</summary>
    internal void NoteReturned(int status)
    {
        if (status == Errors.Ok)
        {
            _acquired = false;
        }
    }

    private protected override void CloseNative()
    {
        if (Volatile.Read(ref _acquired))
        {
            _guard = new MemoryGuard(Pointer);
        }
        _ = Api.zb_writer_close(Pointer, null);
    }

    private protected override void FreeNative() => Api.zb_writer_free(Pointer);
}

/// <summary><c>zb_memory_guard</c>, of a writer that was disposed while a frame was acquired.</summary>
internal sealed unsafe class MemoryGuard
{
    private readonly void* _guard;

    internal MemoryGuard(void* writer)
    {
        void* guard = null;
        // Refused if another thread is inside, which then is about to give the frame up.
        _ = Api.zb_writer_memory_guard(writer, &guard, null);
        _guard = guard;
    }

    ~MemoryGuard() => Api.zb_memory_guard_free(_guard);
}
