/* Calls that do not wait: outcomes come once, user data is destroyed once, whatever ends first. */

#include "c_support.h"

#include <pthread.h>

enum { CALLS = 200 };

static zb_error *error;

/* What became of a call. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int called, destroyed;
    zb_status status;
    char text[64];
    size_t size;
} outcome;

static void begin(outcome *call)
{
    memset(call, 0, sizeof *call);
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->changed, NULL);
}

static void done(void *data, zb_status status, zb_frame *response, const zb_error *why)
{
    outcome *call = data;
    pthread_mutex_lock(&call->lock);
    CHECK(call->destroyed == 0);
    CHECK((status == ZB_OK) == (why == NULL) && (why == NULL || zb_error_code(why) == status));
    call->called++;
    call->status = status;
    call->size = response->size;
    if (response->size < sizeof call->text && response->size > 0)
        memcpy(call->text, response->data, response->size);
    zb_frame_release(response);
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
}

static void destroy(void *data)
{
    outcome *call = data;
    pthread_mutex_lock(&call->lock);
    call->destroyed++;
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
}

/* Waits until the call is over, and returns how often it was called back. */
static int end_of(outcome *call)
{
    pthread_mutex_lock(&call->lock);
    while (call->destroyed == 0)
        pthread_cond_wait(&call->changed, &call->lock);
    int called = call->called;
    pthread_mutex_unlock(&call->lock);
    return called;
}

/* Answers with the request twice; fails for "fail", and holds "hold" until it is told to go on. */
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

static void twice(void *data, const zb_frame *request, zb_responder *responder)
{
    uint8_t answer[64];
    size_t size = request->size;
    (void)data;
    if (size == 4 && memcmp(request->data, "fail", 4) == 0) {
        zb_responder_fail(responder, "as asked");
        return;
    }
    if (size == 4 && memcmp(request->data, "hold", 4) == 0) {
        pthread_mutex_lock(&held);
        pthread_mutex_unlock(&held);
    }
    CHECK(size <= 32);
    memcpy(answer, request->data, size);
    memcpy(answer + size, request->data, size);
    zb_error *refused = NULL;
    expect(zb_responder_reply(responder, answer, 2 * size, &refused), ZB_OK, &refused);
}

static void start(const zb_client *client, const char *text, outcome *call, uint64_t *number)
{
    begin(call);
    expect(zb_client_call_async(client, (const uint8_t *)text, strlen(text), WAIT_MS, done, call, destroy, number, &error),
           ZB_OK, &error);
}

/* A call within the callback of another one. */
static const zb_client *shared;
static outcome inner;

static void done_and_again(void *data, zb_status status, zb_frame *response, const zb_error *why)
{
    start(shared, "in", &inner, NULL);
    done(data, status, response, why);
}

int main(void)
{
    static outcome calls[CALLS];
    zb_server *server = NULL;
    zb_client *client = NULL;
    uint64_t number = 0;
    bool waited = true;

    name_of("calls");
    expect(zb_server_create_immutable(name, NULL, &server, &error), ZB_OK, &error);
    expect(zb_server_start(server, twice, ZB_SINGLE_THREAD, NULL, NULL, &error), ZB_OK, &error);
    expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);

    /* Many at once. */
    for (int index = 0; index < CALLS; index++) {
        char text[16];
        snprintf(text, sizeof text, "%d.", index);
        start(client, text, &calls[index], NULL);
    }
    for (int index = 0; index < CALLS; index++) {
        char text[32];
        snprintf(text, sizeof text, "%d.%d.", index, index);
        CHECK(end_of(&calls[index]) == 1 && calls[index].status == ZB_OK);
        CHECK(calls[index].size == strlen(text) && memcmp(calls[index].text, text, calls[index].size) == 0);
    }

    /* A callback may call. */
    shared = client;
    begin(&calls[0]);
    expect(zb_client_call_async(client, (const uint8_t *)"out", 3, WAIT_MS, done_and_again, &calls[0], destroy, NULL, &error),
           ZB_OK, &error);
    CHECK(end_of(&calls[0]) == 1 && calls[0].size == 6);
    CHECK(end_of(&inner) == 1 && inner.size == 4);

    /* A handler that fails. */
    start(client, "fail", &calls[0], NULL);
    CHECK(end_of(&calls[0]) == 1 && calls[0].status == ZB_ERROR_REQUEST_FAILED);

    /* A call that is cancelled is not called back; another one behind it is. */
    pthread_mutex_lock(&held);
    start(client, "hold", &calls[0], &number);
    start(client, "next", &calls[1], NULL);
    expect(zb_client_cancel_call(client, number, &waited, &error), ZB_OK, &error);
    CHECK(waited && end_of(&calls[0]) == 0);
    expect(zb_client_cancel_call(client, number, &waited, &error), ZB_OK, &error);
    CHECK(!waited);
    pthread_mutex_unlock(&held);
    CHECK(end_of(&calls[1]) == 1 && calls[1].status == ZB_OK);

    /* A time-out. */
    pthread_mutex_lock(&held);
    begin(&calls[0]);
    expect(zb_client_call_async(client, (const uint8_t *)"hold", 4, 20, done, &calls[0], destroy, NULL, &error), ZB_OK, &error);
    CHECK(end_of(&calls[0]) == 1 && calls[0].status == ZB_ERROR_DEADLINE_EXCEEDED);
    pthread_mutex_unlock(&held);

    /* What is refused at once is not called back. */
    begin(&calls[0]);
    expect(zb_client_call_async(client, NULL, 0, WAIT_MS, done, &calls[0], destroy, NULL, &error), ZB_ERROR_INVALID_FRAME_SIZE,
           &error);
    CHECK(end_of(&calls[0]) == 0);
    begin(&calls[0]);
    expect(zb_client_call_async(client, (const uint8_t *)"x", 1, WAIT_MS, NULL, &calls[0], destroy, NULL, &error),
           ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(end_of(&calls[0]) == 0);

    /* Closing ends all that are under way. */
    pthread_mutex_lock(&held);
    for (int index = 0; index < 10; index++)
        start(client, "hold", &calls[index], NULL);
    expect(zb_client_close(client, &error), ZB_OK, &error);
    for (int index = 0; index < 10; index++)
        CHECK(end_of(&calls[index]) == 1 && calls[index].status == ZB_ERROR_CLOSED);
    pthread_mutex_unlock(&held);
    begin(&calls[0]);
    expect(zb_client_call_async(client, (const uint8_t *)"x", 1, WAIT_MS, done, &calls[0], destroy, NULL, &error),
           ZB_ERROR_CLOSED, &error);
    CHECK(end_of(&calls[0]) == 0);
    zb_client_free(client);

    /* So does freeing it. */
    expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);
    pthread_mutex_lock(&held);
    start(client, "hold", &calls[0], NULL);
    zb_client_free(client);
    CHECK(end_of(&calls[0]) == 1 && calls[0].status == ZB_ERROR_CLOSED);
    pthread_mutex_unlock(&held);

    /* And the end of the server. */
    expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);
    pthread_mutex_lock(&held);
    start(client, "hold", &calls[0], NULL);
    zb_status stopped = zb_server_stop(server, &error);
    CHECK(stopped == ZB_OK || stopped == ZB_ERROR_HANDLER_BUSY);
    zb_error_free(error);
    error = NULL;
    CHECK(end_of(&calls[0]) == 1);
    CHECK(calls[0].status == ZB_ERROR_READER_DEAD || calls[0].status == ZB_ERROR_WRITER_DEAD);
    pthread_mutex_unlock(&held);
    zb_client_free(client);
    zb_server_free(server);
    return 0;
}
