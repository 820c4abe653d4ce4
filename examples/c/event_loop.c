/* Twenty buffers and a socket on one thread, by epoll: `event_loop NAME` reads the buffers NAME-1 to NAME-20 until each writer has
 * closed, and one line from each client of a socket, whose port it prints. `stream writer NAME-1` writes to one of them. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zerobuffer/zerobuffer_c.h>

enum { BUFFERS = 20, SOCKET = 0 };

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
