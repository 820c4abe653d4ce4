using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>What is lent to other readers.</content>
public sealed unsafe partial class Reader
{
    /// <summary>Whether this reader allows payload sharing, and its buffer can.</summary>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the reader.</exception>
    public bool PayloadSharingEnabled => Sharing().Enabled != 0;

    /// <summary>How many frames of this reader are lent to other readers now.</summary>
    /// <inheritdoc cref="PayloadSharingEnabled" path="/exception"/>
    public ulong PayloadShareCount => Sharing().ShareCount;

    /// <summary>The process that lends frames through this buffer; 0: none.</summary>
    /// <inheritdoc cref="PayloadSharingEnabled" path="/exception"/>
    public long PayloadOwnerPid => (long)Sharing().OwnerPid;

    internal ReaderHandle Handle => _handle;

    private NativePayloadSharing Sharing()
    {
        NativePayloadSharing sharing = default;
        void* error = null;
        bool owner = _handle.Enter();
        int status = Api.zb_reader_payload_sharing(_handle.Pointer, &sharing, &error);
        _handle.Leave(owner);
        Errors.ThrowIfFailed(status, error);
        return sharing;
    }
}
