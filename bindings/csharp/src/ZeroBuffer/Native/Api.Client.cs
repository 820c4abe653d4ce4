using System.Runtime.InteropServices;

namespace ZeroBuffer.Native;

/// <content>The client of a duplex channel.</content>
internal static unsafe partial class Api
{
    [DllImport(Library)]
    internal static extern int zb_client_connect_n(byte* channel, nuint length, void* options, void** client, void** error);

    [DllImport(Library)]
    internal static extern nuint zb_client_max_request_size(void* client);

    [DllImport(Library)]
    internal static extern int zb_client_set_metadata(void* client, byte* data, nuint size, void** error);

    [DllImport(Library)]
    internal static extern int zb_client_send_request(void* client, byte* data, nuint size, ulong* sequence, void** error);

    [DllImport(Library)]
    internal static extern int zb_client_send_request_within(
        void* client,
        byte* data,
        nuint size,
        long timeoutMs,
        ulong* sequence,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_client_acquire_request_buffer(
        void* client,
        nuint size,
        ulong* sequence,
        byte** data,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_client_commit_request(void* client, ulong* sequence, void** error);

    [DllImport(Library)]
    internal static extern int zb_client_call_acquired(void* client, long timeoutMs, NativeFrame* response, void** error);

    [DllImport(Library)]
    internal static extern int zb_client_discard_request(void* client, void** error);

    [DllImport(Library)]
    internal static extern int zb_client_receive_response(void* client, long timeoutMs, NativeFrame* response, void** error);

    [DllImport(Library)]
    internal static extern int zb_client_receive_response_to(
        void* client,
        ulong sequence,
        long timeoutMs,
        NativeFrame* response,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_client_call(
        void* client,
        byte* data,
        nuint size,
        long timeoutMs,
        NativeFrame* response,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_client_call_async(
        void* client,
        byte* data,
        nuint size,
        long timeoutMs,
        delegate* unmanaged<void*, int, NativeFrame*, void*, void> callback,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        ulong* call,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_client_cancel_call(void* client, ulong call, byte* waited, void** error);

    [DllImport(Library)]
    internal static extern int zb_client_cancel_request(void* client, ulong sequence, byte* underWay, void** error);

    [DllImport(Library)]
    internal static extern byte zb_client_is_server_connected(void* client);

    [DllImport(Library)]
    internal static extern int zb_client_close(void* client, void** error);

    [DllImport(Library)]
    internal static extern void zb_client_free(void* client);
}
