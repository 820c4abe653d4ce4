/* Answers that a handler fills in place. */

#include "c_support.h"

static zb_error *error;
static zb_server *server;
static zb_client *client;

static void refused(zb_status status, zb_status wanted, zb_error *failure)
{
    expect(status, wanted, &failure);
}

/* Does as the request says. */
static void obey(void *user_data, const zb_frame *request, zb_responder *responder)
{
    uint8_t *data = NULL, *none = (uint8_t *)1;
    zb_error *failure = NULL;
    zb_status status;
    (void)user_data;
    status = zb_responder_commit(responder, ZB_WHOLE_FRAME, &failure);
    refused(status, ZB_ERROR_INVALID_STATE, failure), failure = NULL;
    status = zb_responder_acquire(responder, SIZE_MAX, &none, &failure);
    CHECK(none == NULL);
    refused(status, ZB_ERROR_FRAME_TOO_LARGE, failure), failure = NULL;
    zb_responder_discard(responder);
    expect(zb_responder_acquire(responder, request->size + 1, &data, &failure), ZB_OK, &failure);
    status = zb_responder_acquire(responder, 1, &none, &failure);
    refused(status, ZB_ERROR_INVALID_STATE, failure), failure = NULL;
    status = zb_responder_reply(responder, request->data, request->size, &failure);
    refused(status, ZB_ERROR_INVALID_STATE, failure), failure = NULL;
    status = zb_responder_commit(responder, request->size + 2, &failure);
    refused(status, ZB_ERROR_INVALID_FRAME_SIZE, failure), failure = NULL;
    for (size_t index = 0; index < request->size; index++)
        data[index] = request->data[request->size - 1 - index];
    switch (request->data[0]) {
    case 'f': /* Forgets it. */
        return;
    case 'e':
        zb_responder_fail(responder, "on purpose");
        status = zb_responder_commit(responder, 1, &failure);
        refused(status, ZB_ERROR_INVALID_STATE, failure);
        zb_responder_discard(responder);
        return;
    case 'n':
        expect(zb_responder_commit(responder, 0, &failure), ZB_OK, &failure);
        break;
    case 'c':
        zb_responder_discard(responder);
        expect(zb_responder_reply(responder, (const uint8_t *)"copy", 4, &failure), ZB_OK, &failure);
        break;
    case 'w':
        data[request->size] = '.';
        expect(zb_responder_commit(responder, ZB_WHOLE_FRAME, &failure), ZB_OK, &failure);
        break;
    default:
        expect(zb_responder_commit(responder, request->size, &failure), ZB_OK, &failure);
    }
    status = zb_responder_acquire(responder, 1, &none, &failure);
    refused(status, ZB_ERROR_INVALID_STATE, failure);
    zb_responder_discard(responder);
}

static void gives(const char *request, const char *expected)
{
    zb_frame response;
    expect(zb_client_call(client, (const uint8_t *)request, strlen(request), WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(response.size == strlen(expected) && memcmp(response.data, expected, response.size) == 0);
    zb_frame_release(&response);
}

static void fails(const char *request, const char *words)
{
    zb_frame response;
    zb_status status = zb_client_call(client, (const uint8_t *)request, strlen(request), WAIT_MS, &response, &error);
    CHECK(status == ZB_ERROR_REQUEST_FAILED && strstr(zb_error_message(error), words) != NULL);
    zb_error_free(error);
    error = NULL;
}

static void change(void *user_data, zb_frame *request, zb_responder *responder)
{
    uint8_t *data = NULL;
    (void)user_data, (void)request;
    CHECK(zb_responder_acquire(responder, 1, &data, NULL) == ZB_ERROR_INVALID_STATE && data == NULL);
    CHECK(zb_responder_commit(responder, 1, NULL) == ZB_ERROR_INVALID_STATE);
    zb_responder_discard(responder);
}

int main(void)
{
    const zb_processing_mode modes[] = {ZB_SINGLE_THREAD, ZB_THREAD_POOL};
    for (int mode = 0; mode < 2; mode++) {
        name_of("in-place");
        expect(zb_server_create_immutable(name, NULL, &server, &error), ZB_OK, &error);
        expect(zb_server_start(server, obey, modes[mode], NULL, NULL, &error), ZB_OK, &error);
        expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);
        for (int round = 0; round < 10; round++) {
            gives("abc", "cba");
            gives("w", "w.");
            gives("n", "");
            gives("c", "copy");
        }
        fails("f", "committed none");
        fails("e", "on purpose");
        gives("abc", "cba");
        zb_client_free(client);
        zb_server_free(server);
    }
    expect(zb_server_create_mutable(name, NULL, &server, &error), ZB_OK, &error);
    expect(zb_server_start_mutable(server, change, ZB_SINGLE_THREAD, NULL, NULL, &error), ZB_OK, &error);
    expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);
    gives("abc", "abc");
    zb_client_free(client);
    zb_server_free(server);
    expect(zb_responder_acquire(NULL, 1, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_responder_commit(NULL, 1, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    zb_responder_discard(NULL);
    return 0;
}
