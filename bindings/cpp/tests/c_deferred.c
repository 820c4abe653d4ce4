/* Answers that are given after their handler has returned. */

#include "c_support.h"

#include <pthread.h>

#define MOST 16

static zb_error *error;
static zb_server *server;
static zb_client *client;

/* The answers that the handler has deferred, in the order of the requests. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct {
    zb_deferred *answer;
    const uint8_t *data;
    size_t size;
    uint64_t sequence;
} put_off[MOST];
static int count;

static void handle(void *data, const zb_frame *request, zb_responder *responder)
{
    zb_deferred *second = NULL;
    (void)data;
    pthread_mutex_lock(&lock);
    CHECK(count < MOST && zb_responder_defer(responder, &put_off[count].answer, NULL) == ZB_OK);
    put_off[count].data = request->data;
    put_off[count].size = request->size;
    put_off[count].sequence = request->sequence;
    count++;
    pthread_mutex_unlock(&lock);
    CHECK(zb_responder_defer(responder, &second, NULL) == ZB_ERROR_INVALID_STATE && second == NULL);
    CHECK(zb_responder_reply(responder, NULL, 0, NULL) == ZB_ERROR_INVALID_STATE);
    pthread_cond_signal(&changed);
}

static void start(const char *what)
{
    name_of(what);
    count = 0;
    expect(zb_server_create_immutable(name, NULL, &server, &error), ZB_OK, &error);
    expect(zb_server_start(server, handle, ZB_SINGLE_THREAD, NULL, NULL, &error), ZB_OK, &error);
    expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);
}

static void send_requests(int wanted)
{
    for (int number = 1; number <= wanted; number++) {
        char text[32];
        snprintf(text, sizeof text, "request %d", number);
        expect(zb_client_send_request(client, (const uint8_t *)text, strlen(text), NULL, &error), ZB_OK, &error);
    }
    pthread_mutex_lock(&lock);
    while (count < wanted)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void is_answered(uint64_t sequence, const char *text)
{
    zb_frame response;
    expect(zb_client_receive_response_to(client, sequence, WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(response.size == strlen(text) && memcmp(response.data, text, response.size) == 0);
    zb_frame_release(&response);
}

static void is_failed(uint64_t sequence, const char *words)
{
    zb_frame response;
    CHECK(zb_client_receive_response_to(client, sequence, WAIT_MS, &response, &error) == ZB_ERROR_REQUEST_FAILED);
    CHECK(strstr(zb_error_message(error), words) != NULL);
    zb_error_free(error);
    error = NULL;
}

/* In any order, by the request's own bytes, as failures, and given up. */
static void answered(void)
{
    start("deferred");
    send_requests(4);
    CHECK(memcmp(put_off[2].data, "request 3", 9) == 0);
    expect(zb_deferred_reply(put_off[2].answer, put_off[2].data, put_off[2].size, &error), ZB_OK, &error);
    is_answered(3, "request 3");
    expect(zb_deferred_reply(put_off[2].answer, NULL, 0, &error), ZB_ERROR_INVALID_STATE, &error);
    expect(zb_deferred_fail(put_off[2].answer, "late", &error), ZB_ERROR_INVALID_STATE, &error);
    CHECK(!zb_deferred_is_cancelled(put_off[2].answer) && !zb_deferred_is_cancelled(NULL));
    expect(zb_deferred_fail(put_off[0].answer, "no caf\xe9 here", &error), ZB_OK, &error);
    is_failed(1, " here");
    zb_deferred_free(put_off[1].answer);
    is_failed(2, "given it up");
    expect(zb_deferred_reply(put_off[3].answer, (const uint8_t *)"last", 4, &error), ZB_OK, &error);
    is_answered(4, "last");
    zb_deferred_free(put_off[0].answer);
    zb_deferred_free(put_off[2].answer);
    zb_deferred_free(put_off[3].answer);
    zb_deferred_free(NULL);
    expect(zb_deferred_reply(NULL, NULL, 0, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_responder_defer(NULL, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
}

struct told {
    int cancelled, destroyed;
};

static void on_cancel(void *data)
{
    pthread_mutex_lock(&lock);
    ((struct told *)data)->cancelled++;
    pthread_mutex_unlock(&lock);
    pthread_cond_signal(&changed);
}

static void destroy(void *data)
{
    pthread_mutex_lock(&lock);
    ((struct told *)data)->destroyed++;
    pthread_mutex_unlock(&lock);
    pthread_cond_signal(&changed);
}

static void await_destroyed(struct told *told, int cancelled)
{
    pthread_mutex_lock(&lock);
    while (told->destroyed == 0)
        pthread_cond_wait(&changed, &lock);
    CHECK(told->destroyed == 1 && told->cancelled == cancelled);
    pthread_mutex_unlock(&lock);
}

/* A cancellation is told once, an answer ends the wait for it, and so does a stop. */
static void cancelled(void)
{
    struct told first = {0, 0}, second = {0, 0}, third = {0, 0}, refused = {0, 0};
    bool under_way = false;
    start("cancelled");
    send_requests(3);
    expect(zb_deferred_on_cancel(put_off[0].answer, on_cancel, &first, destroy, &error), ZB_OK, &error);
    expect(zb_deferred_on_cancel(put_off[1].answer, on_cancel, &second, destroy, &error), ZB_OK, &error);
    expect(zb_deferred_on_cancel(put_off[2].answer, on_cancel, &third, destroy, &error), ZB_OK, &error);
    expect(zb_client_cancel_request(client, 1, &under_way, &error), ZB_OK, &error);
    CHECK(under_way);
    await_destroyed(&first, 1);
    CHECK(zb_deferred_is_cancelled(put_off[0].answer));
    expect(zb_deferred_reply(put_off[1].answer, (const uint8_t *)"two", 3, &error), ZB_OK, &error);
    await_destroyed(&second, 0);
    is_answered(2, "two");
    expect(zb_server_stop(server, &error), ZB_OK, &error);
    await_destroyed(&third, 1);
    expect(zb_deferred_reply(put_off[2].answer, (const uint8_t *)"late", 4, &error), ZB_OK, &error);
    expect(zb_deferred_on_cancel(put_off[2].answer, on_cancel, &refused, destroy, &error), ZB_ERROR_INVALID_STATE, &error);
    expect(zb_deferred_on_cancel(put_off[0].answer, NULL, &refused, destroy, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(refused.destroyed == 2 && refused.cancelled == 0);
    for (int index = 0; index < 3; index++)
        zb_deferred_free(put_off[index].answer);
}

int main(void)
{
    answered();
    zb_client_free(client);
    zb_server_free(server);
    cancelled();
    zb_client_free(client);
    zb_server_free(server);
    return 0;
}
