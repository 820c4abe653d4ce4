/* Twenty buffers and a socket on one thread, by epoll: `event_loop NAME` reads the buffers NAME-1 to NAME-20 until each writer has
 * closed, and one line from each client of a socket, whose port it prints. `stream writer NAME-1` writes to one of them. */
#include <sys/epoll.h>

#include "twenty_buffers.h"

/* The number of the socket among the buffers, which begin with 1. */
enum { SOCKET = 0 };

static int watch(int loop, int fd, unsigned what) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = what};
    return epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fputs("usage: event_loop NAME\n", stderr);
        return 2;
    }
    zb_error *error = NULL;
    zb_reader *readers[BUFFERS + 1] = {NULL};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned number = 1; number <= BUFFERS; number++) {
        char name[200];
        int fd;
        snprintf(name, sizeof name, "%s-%u", arguments[1], number);
        if (zb_reader_create(name, NULL, &readers[number], &error) < 0) return failed(error);
        if (zb_reader_fd(readers[number], &fd, &error) < 0) return failed(error);
        if (watch(loop, fd, number) != 0) return perror("epoll_ctl"), 1;
    }
    int listener = listen_here();
    if (listener < 0 || watch(loop, listener, SOCKET) != 0) return perror("socket"), 1;
    for (int open = BUFFERS; open > 0;) {
        struct epoll_event events[BUFFERS + 1];
        int ready = epoll_wait(loop, events, BUFFERS + 1, -1);
        for (int event = 0; event < ready; event++) {
            unsigned number = events[event].data.u32;
            if (number == SOCKET) {
                serve(listener);
                continue;
            }
            zb_status status = read_all(readers[number], number, &error);
            if (status == ZB_TIMEOUT) continue;
            if (status < 0) return failed(error);
            printf("%u: end of stream\n", number);
            zb_reader_free(readers[number]);
            open--;
        }
    }
    close(listener);
    close(loop);
    return 0;
}
