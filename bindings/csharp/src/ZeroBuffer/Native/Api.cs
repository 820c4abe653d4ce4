using System.Runtime.InteropServices;

[assembly: DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories | DllImportSearchPath.AssemblyDirectory)]

namespace ZeroBuffer.Native;

/// <summary>The C ABI, <c>zerobuffer_c.h</c>, name by name. Handles are <c>void*</c>, booleans are bytes: every signature is blittable.</summary>
internal static unsafe partial class Api
{
    internal const string Library = "zerobuffer_c";

    [DllImport(Library)]
    internal static extern uint zb_abi_version();

    [DllImport(Library)]
    internal static extern byte* zb_version();

    [DllImport(Library)]
    internal static extern int zb_error_code(void* error);

    [DllImport(Library)]
    internal static extern byte* zb_error_message(void* error);

    [DllImport(Library)]
    internal static extern byte* zb_error_buffer(void* error);

    [DllImport(Library)]
    internal static extern int zb_error_os_error(void* error);

    [DllImport(Library)]
    internal static extern ulong zb_error_sequence(void* error);

    [DllImport(Library)]
    internal static extern byte zb_error_sequence_gap(void* error, ulong* expected, ulong* got);

    [DllImport(Library)]
    internal static extern void zb_error_free(void* error);

    [DllImport(Library)]
    internal static extern void* zb_config_new();

    [DllImport(Library)]
    internal static extern int zb_config_set_metadata_size(void* config, nuint bytes);

    [DllImport(Library)]
    internal static extern int zb_config_set_payload_size(void* config, nuint bytes);

    [DllImport(Library)]
    internal static extern int zb_config_set_mode(void* config, uint mode);

    [DllImport(Library)]
    internal static extern int zb_config_set_preallocate(void* config, byte preallocate);

    [DllImport(Library)]
    internal static extern int zb_config_set_huge_pages(void* config, byte hugePages);

    [DllImport(Library)]
    internal static extern int zb_config_set_numa_node(void* config, int node);

    [DllImport(Library)]
    internal static extern int zb_config_set_classic(void* config, byte classic);

    [DllImport(Library)]
    internal static extern int zb_config_set_allow_payload_sharing(void* config, byte allow);

    [DllImport(Library)]
    internal static extern int zb_config_set_wait_strategy(void* config, int wait);

    [DllImport(Library)]
    internal static extern void zb_config_free(void* config);

    [DllImport(Library)]
    internal static extern void* zb_writer_options_new();

    [DllImport(Library)]
    internal static extern int zb_writer_options_set_write_timeout(void* options, long timeoutMs);

    [DllImport(Library)]
    internal static extern int zb_writer_options_set_connect_timeout(void* options, long timeoutMs);

    [DllImport(Library)]
    internal static extern int zb_writer_options_set_request_payload_sharing(void* options, byte request);

    [DllImport(Library)]
    internal static extern int zb_writer_options_set_wait_strategy(void* options, int wait);

    [DllImport(Library)]
    internal static extern void zb_writer_options_free(void* options);

    [DllImport(Library)]
    internal static extern void* zb_client_options_new();

    [DllImport(Library)]
    internal static extern int zb_client_options_set_connect_timeout(void* options, long timeoutMs);

    [DllImport(Library)]
    internal static extern int zb_client_options_set_request_timeout(void* options, long timeoutMs);

    [DllImport(Library)]
    internal static extern int zb_client_options_set_response_config(void* options, void* config);

    [DllImport(Library)]
    internal static extern void zb_client_options_free(void* options);

    [DllImport(Library)]
    internal static extern int zb_reader_create_n(byte* name, nuint length, void* config, void** reader, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_read_frame_ref(void* reader, long timeoutMs, NativeFrameRef* frame, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_read_latest_frame_ref(void* reader, long timeoutMs, NativeFrameRef* frame, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_release_frame_ref(void* reader, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_release_frame_ref_of(void* reader, ulong sequence, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_is_frame_ref_shared(void* reader, byte* shared, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_keep_frame_ref(void* reader, NativeFrame* frame, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_is_writer_connected(void* reader, byte* connected, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_wait_for_writer(void* reader, long timeoutMs, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_get_metadata(void* reader, byte* target, nuint capacity, nuint* size, void** error);

    [DllImport(Library)]
    internal static extern ulong zb_reader_frames_read(void* reader);

    [DllImport(Library)]
    internal static extern ulong zb_reader_frames_skipped(void* reader);

    [DllImport(Library)]
    internal static extern ulong zb_reader_bytes_read(void* reader);

    [DllImport(Library)]
    internal static extern int zb_reader_get_huge_page_bytes(void* reader, ulong* bytes, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_get_stats(void* reader, NativeReaderStats* stats, void** error);

    /// <summary>Never waits, and makes no system call.</summary>
    [DllImport(Library)]
    [SuppressGCTransition]
    internal static extern byte zb_reader_take_frame_ref(void* reader, NativeFrameRef* frame, byte* due);

    [DllImport(Library)]
    internal static extern void zb_reader_interrupt(void* reader);

    [DllImport(Library)]
    internal static extern int zb_reader_close(void* reader, void** error);

    [DllImport(Library)]
    internal static extern void zb_reader_free(void* reader);

    [DllImport(Library)]
    internal static extern void zb_frame_release(NativeFrame* frame);

    [DllImport(Library)]
    internal static extern byte* zb_frame_mutable_data(NativeFrame* frame);

    [DllImport(Library)]
    internal static extern int zb_frame_to_mut(NativeFrame* frame, byte** data, void** error);

    [DllImport(Library)]
    internal static extern byte zb_frame_is_shared(NativeFrame* frame);

    [DllImport(Library)]
    internal static extern byte zb_frame_is_cancelled(NativeFrame* frame);

    [DllImport(Library)]
    internal static extern long zb_frame_time_left_ns(NativeFrame* frame);

    [DllImport(Library)]
    internal static extern int zb_writer_connect_n(byte* name, nuint length, void* options, void** writer, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_write_frame(void* writer, byte* data, nuint size, ulong* sequence, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_write_frame_within(
        void* writer,
        byte* data,
        nuint size,
        long timeoutMs,
        ulong* sequence,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_try_write_frame(void* writer, byte* data, nuint size, ulong* sequence, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_acquire_frame_buffer(void* writer, nuint size, byte** data, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_acquire_frame_buffer_within(void* writer, nuint size, long timeoutMs, byte** data, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_try_acquire_frame_buffer(void* writer, nuint size, byte** data, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_commit_frame(void* writer, nuint size, ulong* sequence, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_discard_frame(void* writer, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_memory_guard(void* writer, void** guard, void** error);

    [DllImport(Library)]
    internal static extern void zb_memory_guard_free(void* guard);

    [DllImport(Library)]
    internal static extern int zb_writer_set_metadata(void* writer, byte* data, nuint size, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_is_reader_connected(void* writer, byte* connected, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_forward(void* writer, NativeFrame* frame, byte* shared, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_forward_to(void* writer, NativeFrame* frame, byte* shared, void** error);

    [DllImport(Library)]
    internal static extern int zb_shared_writer_create_n(
        byte* name,
        nuint length,
        void* source,
        void* config,
        void* options,
        void** writer,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_is_adopted(void* writer, byte* adopted, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_payload_sharing(void* writer, NativePayloadSharing* sharing, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_payload_sharing(void* reader, NativePayloadSharing* sharing, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_max_frame_size(void* writer, nuint* size, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_set_write_timeout(void* writer, long timeoutMs, void** error);

    [DllImport(Library)]
    internal static extern long zb_writer_write_timeout(void* writer);

    [DllImport(Library)]
    internal static extern ulong zb_writer_frames_written(void* writer);

    [DllImport(Library)]
    internal static extern ulong zb_writer_bytes_written(void* writer);

    [DllImport(Library)]
    internal static extern int zb_writer_get_stats(void* writer, NativeWriterStats* stats, void** error);

    [DllImport(Library)]
    internal static extern void zb_writer_interrupt(void* writer);

    [DllImport(Library)]
    internal static extern int zb_writer_close(void* writer, void** error);

    [DllImport(Library)]
    internal static extern void zb_writer_free(void* writer);

    [DllImport(Library)]
    internal static extern int zb_reader_fd(void* reader, int* fd, void** error);

    [DllImport(Library)]
    internal static extern int zb_reader_notify(
        void* reader,
        delegate* unmanaged<void*, void> callback,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_fd(void* writer, int* fd, void** error);

    [DllImport(Library)]
    internal static extern int zb_writer_notify(
        void* writer,
        delegate* unmanaged<void*, void> callback,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** error);

    [DllImport(Library)]
    internal static extern void zb_writer_clear_interrupt(void* writer);

    [DllImport(Library)]
    internal static extern byte zb_set_callback_threads(nuint count);

    [DllImport(Library)]
    internal static extern int zb_kept_buffer_create_n(byte* name, nuint length, void* config, void** kept, void** error);

    [DllImport(Library)]
    internal static extern int zb_kept_buffer_is_adopted(void* kept, byte* adopted, void** error);

    [DllImport(Library)]
    internal static extern int zb_kept_buffer_close(void* kept, byte* adopted, void** error);

    [DllImport(Library)]
    internal static extern void zb_kept_buffer_free(void* kept);

    [DllImport(Library)]
    internal static extern int zb_tee_create(void* reader, void** tee, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_add_block_output(void* tee, void* writer, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_add_drop_output(void* tee, void* writer, nuint frames, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_remove_output_n(void* tee, byte* name, nuint length, byte* removed, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_step(void* tee, long timeoutMs, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_read_frame(void* tee, long timeoutMs, NativeFrame* frame, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_forward(void* tee, NativeFrame* frame, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_flush(void* tee, void** error);

    [DllImport(Library)]
    internal static extern int zb_tee_outputs(void* tee, NativeTeeOutput* outputs, nuint capacity, nuint* count, void** error);

    [DllImport(Library)]
    internal static extern void zb_tee_interrupt(void* tee);

    [DllImport(Library)]
    internal static extern int zb_tee_close(void* tee, void** error);

    [DllImport(Library)]
    internal static extern void zb_tee_free(void* tee);

    [DllImport(Library)]
    internal static extern int zb_inspect_snapshot_n(byte* name, nuint length, NativeSnapshot** snapshot, void** error);

    [DllImport(Library)]
    internal static extern void zb_snapshot_free(NativeSnapshot* snapshot);

    [DllImport(Library)]
    internal static extern int zb_inspect_list(NativeNames** names, void** error);

    [DllImport(Library)]
    internal static extern void zb_names_free(NativeNames* names);

    [DllImport(Library)]
    internal static extern int zb_server_create_immutable_n(byte* channel, nuint length, void* config, void** server, void** error);

    [DllImport(Library)]
    internal static extern int zb_server_create_mutable_n(byte* channel, nuint length, void* config, void** server, void** error);

    [DllImport(Library)]
    internal static extern int zb_server_start(
        void* server,
        delegate* unmanaged<void*, NativeFrame*, void*, void> handler,
        int mode,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_server_start_mutable(
        void* server,
        delegate* unmanaged<void*, NativeFrame*, void*, void> handler,
        int mode,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_responder_reply(void* responder, byte* data, nuint size, void** error);

    [DllImport(Library)]
    internal static extern int zb_responder_acquire(void* responder, nuint size, byte** data, void** error);

    [DllImport(Library)]
    internal static extern int zb_responder_commit(void* responder, nuint size, void** error);

    [DllImport(Library)]
    internal static extern void zb_responder_discard(void* responder);

    [DllImport(Library)]
    internal static extern void zb_responder_fail(void* responder, byte* message);

    [DllImport(Library)]
    internal static extern int zb_responder_defer(void* responder, void** deferred, void** error);

    [DllImport(Library)]
    internal static extern int zb_deferred_reply(void* deferred, byte* data, nuint size, void** error);

    [DllImport(Library)]
    internal static extern int zb_deferred_fail(void* deferred, byte* message, void** error);

    [DllImport(Library)]
    internal static extern byte zb_deferred_is_cancelled(void* deferred);

    [DllImport(Library)]
    internal static extern int zb_deferred_on_cancel(
        void* deferred,
        delegate* unmanaged<void*, void> callback,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** error);

    [DllImport(Library)]
    internal static extern void zb_deferred_free(void* deferred);

    [DllImport(Library)]
    internal static extern int zb_server_on_error(
        void* server,
        delegate* unmanaged<void*, void*, void> callback,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_server_on_init(
        void* server,
        delegate* unmanaged<void*, byte*, nuint, void> callback,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** error);

    [DllImport(Library)]
    internal static extern int zb_server_set_pool_size(void* server, nuint threads, void** error);

    [DllImport(Library)]
    internal static extern int zb_server_stop(void* server, void** error);

    [DllImport(Library)]
    internal static extern int zb_server_wait(void* server, long timeoutMs, void** error);

    [DllImport(Library)]
    internal static extern byte zb_server_is_running(void* server);

    [DllImport(Library)]
    internal static extern void zb_server_free(void* server);

    [DllImport(Library)]
    internal static extern int zb_logger_add(
        delegate* unmanaged<void*, int, byte*, byte*, void> callback,
        int level,
        void* userData,
        delegate* unmanaged<void*, void> destroy,
        void** logger,
        void** error);

    [DllImport(Library)]
    internal static extern void zb_logger_remove(void* logger);
}
