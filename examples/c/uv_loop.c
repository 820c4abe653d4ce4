/* Twenty buffers and a socket on one thread, by libuv, the loop of Node.js: `uv_loop NAME` reads the buffers NAME-1 to NAME-20 until each
 * writer has closed, and one line from each client of a socket, whose port it prints. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>
#include <zerobuffer/zerobuffer_c.h>

enum { BUFFERS = 20 };

/* Prints what went wrong (buffer, cause, way out) and returns the exit code. */
static int failed(zb_error *error) {
    fprintf(stderr, "%s\n", zb_error_message(error));
    zb_error_free(error);
    return 1;
}

/* Prints what is there. Returns ZB_TIMEOUT when that is all for now, or what ended the stream. */
static zb_status read_all(zb_reader *reader, unsigned number, zb_error **error) {
    zb_status status;
    zb_frame frame;
    while ((status = zb_reader_read_frame(reader, 0, &frame, error)) == ZB_OK) {
        printf("%u: %.*s\n", number, (int)frame.size, (const char *)frame.data);
        zb_frame_release(&frame);
    }
    return status;
}

/* Prints the first line that a client of the socket sends. A program with many clients would have epoll wait for them, too. */
static void serve(int listener) {
    char line[200];
    FILE *client = fdopen(accept(listener, NULL, NULL), "r");
    if (client == NULL) return;
    if (fgets(line, sizeof line, client) != NULL) printf("socket: %s", line);
    fclose(client);
}

static int listen_here(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 5) != 0) return -1;
    if (getsockname(listener, (struct sockaddr *)&address, &size) != 0) return -1;
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

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
