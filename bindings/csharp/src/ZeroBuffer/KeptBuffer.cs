using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>
/// A buffer that is kept for a reader that comes later, which takes it over with the frames in it. Disposing it removes the buffer,
/// unless a reader has taken it over.
/// </summary>
/// <example>
/// <code>
/// using var kept = new KeptBuffer("results");
/// using var writer = new Writer("results");
/// </code>
/// </example>
public sealed unsafe class KeptBuffer : IDisposable
{
    private readonly KeptHandle _handle;

    /// <summary>Creates the buffer, with all defaults.</summary>
    /// <inheritdoc cref="KeptBuffer(string, BufferConfig?)"/>
    public KeptBuffer(string name)
        : this(name, config: null)
    {
    }

    /// <summary>Creates the buffer.</summary>
    /// <exception cref="ZeroBufferException">Those of <see cref="Reader(string, BufferConfig?)"/>.</exception>
    public KeptBuffer(string name, BufferConfig? config) => _handle = KeptHandle.Create(name, config);

    /// <summary>The buffer's name.</summary>
    public string Name => _handle.Name;

    /// <summary>Whether a reader has taken the buffer over.</summary>
    /// <exception cref="ClosedException">The kept buffer has been disposed.</exception>
    public bool IsAdopted
    {
        get
        {
            byte adopted = 0;
            void* error = null;
            bool owner = _handle.Enter();
            int status = Api.zb_kept_buffer_is_adopted(_handle.Pointer, &adopted, &error);
            _handle.Leave(owner);
            Errors.ThrowIfFailed(status, error);
            return adopted != 0;
        }
    }

    /// <summary>Ends the keeping.</summary>
    /// <returns>Whether a reader had taken the buffer over. If none had, the frames in it are lost.</returns>
    public bool Close()
    {
        _handle.Close();
        return _handle.WasAdopted;
    }

    /// <summary>Ends the keeping.</summary>
    public void Dispose() => Close();

    private sealed class KeptHandle : NativeHandle
    {
        private KeptHandle(void* pointer, string name)
            : base(pointer, name)
        {
        }

        internal bool WasAdopted { get; private set; }

        private protected override string What => "the kept buffer";

        internal static KeptHandle Create(string name, BufferConfig? config)
        {
            LibraryLoader.Ensure();
            byte[] utf8 = Text.NameToUtf8(name, out nuint length);
            void* settings = config is null ? null : config.ToNative();
            void* kept = null;
            void* error = null;
            int status;
            fixed (byte* text = utf8)
            {
                status = Api.zb_kept_buffer_create_n(text, length, settings, &kept, &error);
            }
            Api.zb_config_free(settings);
            Errors.ThrowIfFailed(status, error);
            return new KeptHandle(kept, name);
        }

        private protected override void CloseNative()
        {
            byte adopted = 0;
            _ = Api.zb_kept_buffer_close(Pointer, &adopted, null);
            WasAdopted = adopted != 0;
        }

        private protected override void FreeNative() => Api.zb_kept_buffer_free(Pointer);
    }
}
