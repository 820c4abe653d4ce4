/* Twenty buffers and a socket on one thread, by GLib's main loop (and so in a program with GTK): `glib_loop NAME` reads the buffers
 * NAME-1 to NAME-20 until each writer has closed, and one line from each client of a socket, whose port it prints. */
#include <arpa/inet.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
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

static GMainLoop *loop;
static zb_reader *readers[BUFFERS + 1];
static int open_readers = BUFFERS;
static int outcome;

static gboolean may_read(gint fd, GIOCondition condition, gpointer data) {
    unsigned number = GPOINTER_TO_UINT(data);
    zb_error *error = NULL;
    zb_status status = read_all(readers[number], number, &error);
    (void)fd, (void)condition;
    if (status == ZB_TIMEOUT) return G_SOURCE_CONTINUE;
    if (status < 0) {
        outcome = failed(error);
        g_main_loop_quit(loop);
        return G_SOURCE_REMOVE;
    }
    printf("%u: end of stream\n", number);
    if (--open_readers == 0) g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static gboolean may_accept(gint fd, GIOCondition condition, gpointer data) {
    (void)condition, (void)data;
    serve(fd);
    return G_SOURCE_CONTINUE;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fputs("usage: glib_loop NAME\n", stderr);
        return 2;
    }
    zb_error *error = NULL;
    loop = g_main_loop_new(NULL, FALSE);
    for (unsigned number = 1; number <= BUFFERS; number++) {
        char name[200];
        int fd;
        snprintf(name, sizeof name, "%s-%u", arguments[1], number);
        if (zb_reader_create(name, NULL, &readers[number], &error) < 0) return failed(error);
        if (zb_reader_fd(readers[number], &fd, &error) < 0) return failed(error);
        g_unix_fd_add(fd, G_IO_IN, may_read, GUINT_TO_POINTER(number));
    }
    int listener = listen_here();
    if (listener < 0) return perror("socket"), 1;
    g_unix_fd_add(listener, G_IO_IN, may_accept, NULL);
    g_main_loop_run(loop);
    /* A reader is freed when the loop watches its descriptor no longer. */
    for (unsigned number = 1; number <= BUFFERS; number++) zb_reader_free(readers[number]);
    g_main_loop_unref(loop);
    close(listener);
    return outcome;
}
