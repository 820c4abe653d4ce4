/* Twenty buffers and a socket on one thread, by GLib's main loop (and so in a program with GTK): `glib_loop NAME` reads the buffers
 * NAME-1 to NAME-20 until each writer has closed, and one line from each client of a socket, whose port it prints. */
#include <glib-unix.h>

#include "twenty_buffers.h"

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
