/* Twenty buffers and a socket on one thread, by libuv, the loop of Node.js: `uv_loop NAME` reads the buffers NAME-1 to NAME-20 until each
 * writer has closed, and one line from each client of a socket, whose port it prints. */
#include <uv.h>

#include "twenty_buffers.h"

/* A buffer, and libuv's view of its descriptor. */
typedef struct {
    uv_poll_t poll;
    zb_reader *reader;
    unsigned number;
} buffer;

static uv_poll_t accepting;
static int open_readers = BUFFERS;
static int outcome;

static void closed(uv_handle_t *handle) {
    /* libuv has let go of the descriptor, so the reader may close it. */
    zb_reader_free(((buffer *)handle->data)->reader);
}

static void may_read(uv_poll_t *poll, int status, int events) {
    buffer *one = poll->data;
    zb_error *error = NULL;
    zb_status read = read_all(one->reader, one->number, &error);
    (void)status, (void)events;
    if (read == ZB_TIMEOUT) return;
    if (read < 0) {
        outcome = failed(error);
        open_readers = 0;
    } else {
        printf("%u: end of stream\n", one->number);
        open_readers--;
    }
    uv_poll_stop(poll);
    uv_close((uv_handle_t *)poll, closed);
    if (open_readers == 0) uv_stop(poll->loop);
}

static void may_accept(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    serve(*(int *)poll->data);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fputs("usage: uv_loop NAME\n", stderr);
        return 2;
    }
    static buffer buffers[BUFFERS + 1];
    zb_error *error = NULL;
    uv_loop_t *loop = uv_default_loop();
    for (unsigned number = 1; number <= BUFFERS; number++) {
        buffer *one = &buffers[number];
        char name[200];
        int fd;
        snprintf(name, sizeof name, "%s-%u", arguments[1], number);
        one->number = number;
        one->poll.data = one;
        if (zb_reader_create(name, NULL, &one->reader, &error) < 0) return failed(error);
        if (zb_reader_fd(one->reader, &fd, &error) < 0) return failed(error);
        if (uv_poll_init(loop, &one->poll, fd) != 0 || uv_poll_start(&one->poll, UV_READABLE, may_read) != 0) return 1;
    }
    int listener = listen_here();
    accepting.data = &listener;
    if (listener < 0 || uv_poll_init(loop, &accepting, listener) != 0) return perror("socket"), 1;
    uv_poll_start(&accepting, UV_READABLE, may_accept);
    uv_run(loop, UV_RUN_DEFAULT);
    /* Lets the last readers go. */
    uv_close((uv_handle_t *)&accepting, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    close(listener);
    return outcome;
}
