/* Request and response: `duplex server NAME` in one terminal, `duplex client NAME` in another. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zerobuffer/zerobuffer_c.h>

static int failed(zb_error *error) {
    fprintf(stderr, "%s\n", zb_error_message(error));
    zb_error_free(error);
    return 1;
}

/* Answers a request with its text in capitals; on a thread of the library. */
static void upper(void *user_data, const zb_frame *request, zb_responder *responder) {
    (void)user_data;
    uint8_t *answer = malloc(request->size);
    if (answer == NULL) {
        zb_responder_fail(responder, "out of memory"); /* the client's error; the server goes on */
        return;
    }
    for (size_t i = 0; i < request->size; i++) answer[i] = (uint8_t)toupper(request->data[i]);
    zb_responder_reply(responder, answer, request->size, NULL); /* copies: the bytes may go at once */
    free(answer);
}

/* Serves until Enter is pressed. */
static int serve(const char *name) {
    zb_error *error = NULL;
    zb_server *server = NULL;
    if (zb_server_create_immutable(name, NULL, &server, &error) < 0) return failed(error);
    zb_status status = zb_server_start(server, upper, ZB_SINGLE_THREAD, NULL, NULL, &error);
    if (status == ZB_OK) {
        fprintf(stderr, "serving %s; press Enter to stop\n", name);
        getchar();
        status = zb_server_stop(server, &error);
    }
    zb_server_free(server);
    return status < 0 ? failed(error) : 0;
}

/* Asks three times and prints the answers. */
static int ask(const char *name) {
    static const char *const texts[] = {"hello", "shared", "memory"};
    zb_error *error = NULL;
    zb_client *client = NULL;
    zb_client_options *options = zb_client_options_new();
    zb_client_options_set_connect_timeout(options, 10000);
    zb_status status = zb_client_connect(name, options, &client, &error);
    zb_client_options_free(options);
    for (int i = 0; i < 3 && status == ZB_OK; i++) {
        zb_frame response;
        status = zb_client_call(client, (const uint8_t *)texts[i], strlen(texts[i]), 5000, &response, &error);
        if (status == ZB_OK) {
            printf("%s -> %.*s\n", texts[i], (int)response.size, (const char *)response.data);
            zb_frame_release(&response);
        }
    }
    zb_client_free(client);
    return status < 0 ? failed(error) : 0;
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "server") == 0) return serve(arguments[2]);
    if (count == 3 && strcmp(arguments[1], "client") == 0) return ask(arguments[2]);
    fputs("usage: duplex server|client NAME\n", stderr);
    return 2;
}
