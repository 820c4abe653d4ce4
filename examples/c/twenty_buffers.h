/* What the event loops in C have in common: how a buffer is read that is ready, and a socket is served. */
#ifndef TWENTY_BUFFERS_H
#define TWENTY_BUFFERS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
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

/* Prints the first line that a client of the socket sends. A program with many clients would have its loop wait for them, too. */
static void serve(int listener) {
    char line[200];
    FILE *client = fdopen(accept(listener, NULL, NULL), "r");
    if (client == NULL) return;
    if (fgets(line, sizeof line, client) != NULL) printf("socket: %s", line);
    fclose(client);
}

/* A socket that listens at 127.0.0.1, at a port that it prints; -1 if there is none. */
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

#endif
