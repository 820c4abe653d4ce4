/* Several buffers on one thread, by epoll: `event_loop NAME...` reads them all, until each writer has closed;
 * `stream writer NAME` writes to one. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zerobuffer/zerobuffer_c.h>

enum { MOST = 64 };

/* Prints what went wrong (buffer, cause, way out) and returns the exit code. */
static int failed(zb_error *error) {
    fprintf(stderr, "%s\n", zb_error_message(error));
    zb_error_free(error);
    return 1;
}

/* Prints what is there. Returns ZB_TIMEOUT when that is all for now, or what ended the stream. */
static zb_status read_all(zb_reader *reader, const char *name, zb_error **error) {
    zb_status status;
    zb_frame frame;
    while ((status = zb_reader_read_frame(reader, 0, &frame, error)) == ZB_OK) {
        printf("%s: %.*s\n", name, (int)frame.size, (const char *)frame.data);
        zb_frame_release(&frame);
    }
    return status;
}

int main(int count, char **arguments) {
    if (count < 2 || count > MOST) {
        fputs("usage: event_loop NAME...\n", stderr);
        return 2;
    }
    zb_error *error = NULL;
    zb_reader *readers[MOST] = {NULL};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    for (int index = 1; index < count; index++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
        int fd;
        if (zb_reader_create(arguments[index], NULL, &readers[index], &error) < 0) return failed(error);
        if (zb_reader_fd(readers[index], &fd, &error) < 0) return failed(error);
        if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) return perror("epoll_ctl"), 1;
    }
    for (int open = count - 1; open > 0;) {
        /* Sockets, timers and all else that has a descriptor could be in this set, too. */
        struct epoll_event events[MOST];
        int ready = epoll_wait(loop, events, MOST, -1);
        for (int event = 0; event < ready; event++) {
            unsigned index = events[event].data.u32;
            zb_status status = read_all(readers[index], arguments[index], &error);
            if (status == ZB_TIMEOUT) continue;
            if (status < 0) return failed(error);
            printf("%s: end of stream\n", arguments[index]);
            zb_reader_free(readers[index]);
            open--;
        }
    }
    close(loop);
    return 0;
}
