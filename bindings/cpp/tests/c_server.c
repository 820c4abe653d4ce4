/* Servers: waiting for their end, sizes of pools, user functions that call the library back, threads that end in the middle of a
   request. */

#include "c_support.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

static zb_error *error;
static zb_server *server;
static zb_client *client;

/* While this is set no thread can be made. */
static volatile bool no_threads;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
    static int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (no_threads)
        return EAGAIN;
    if (create == NULL)
        *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    return create(thread, attributes, function, argument);
}

static void create(const char *what)
{
    name_of(what);
    expect(zb_server_create_immutable(name, NULL, &server, &error), ZB_OK, &error);
}

static void connect_client(void)
{
    expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);
}

static void call(void)
{
    zb_frame response;
    expect(zb_client_call(client, (const uint8_t *)"ping", 4, WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(response.size == 4 && memcmp(response.data, "ping", 4) == 0);
    zb_frame_release(&response);
}

static void echo(void *user_data, const zb_frame *request, zb_responder *responder)
{
    (void)user_data;
    CHECK(zb_responder_reply(responder, request->data, request->size, NULL) == ZB_OK);
}

/* Answers with whether the server has ended, as its own handler sees it. */
static void wait_within(void *user_data, const zb_frame *request, zb_responder *responder)
{
    uint8_t answer = zb_server_wait(server, -1, NULL) == ZB_TIMEOUT ? 't' : 'o';
    (void)user_data, (void)request;
    CHECK(zb_responder_reply(responder, &answer, 1, NULL) == ZB_OK);
}

static zb_status waited;

static void *wait_for_the_end(void *unused)
{
    (void)unused;
    waited = zb_server_wait(server, -1, NULL);
    return NULL;
}

static void waits(void)
{
    pthread_t thread;
    zb_frame response;
    create("wait");
    expect(zb_server_wait(NULL, 0, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_server_wait(server, -1, &error), ZB_OK, &error);
    expect(zb_server_start(server, wait_within, ZB_SINGLE_THREAD, NULL, NULL, &error), ZB_OK, &error);
    expect(zb_server_wait(server, 0, &error), ZB_TIMEOUT, &error);
    expect(zb_server_wait(server, 20, &error), ZB_TIMEOUT, &error);
    connect_client();
    expect(zb_client_call(client, (const uint8_t *)"x", 1, WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(response.size == 1 && response.data[0] == 't');
    zb_frame_release(&response);
    zb_client_free(client);
    CHECK(pthread_create(&thread, NULL, wait_for_the_end, NULL) == 0);
    expect(zb_server_stop(server, &error), ZB_OK, &error);
    CHECK(pthread_join(thread, NULL) == 0 && waited == ZB_OK);
    expect(zb_server_wait(server, -1, &error), ZB_OK, &error);
    zb_server_free(server);
}

static void sizes(void)
{
    create("sizes");
    expect(zb_server_set_pool_size(server, 1025, &error), ZB_ERROR_INVALID_CONFIG, &error);
    expect(zb_server_set_pool_size(server, SIZE_MAX, &error), ZB_ERROR_INVALID_CONFIG, &error);
    expect(zb_server_set_pool_size(server, 1024, &error), ZB_OK, &error);
    expect(zb_server_set_pool_size(server, 0, &error), ZB_OK, &error);
    expect(zb_server_start(server, echo, ZB_THREAD_POOL, NULL, NULL, &error), ZB_OK, &error);
    connect_client();
    CHECK(zb_client_max_request_size(client) == (256u << 20) - 16 && zb_client_max_request_size(NULL) == 0);
    call();
    zb_client_free(client);
    zb_server_free(server);
}

static int destroyed;

static void count(void *user_data)
{
    (void)user_data;
    destroyed++;
}

static void ignore_error(void *user_data, const zb_error *told)
{
    (void)user_data, (void)told;
}

static void ignore_metadata(void *user_data, const uint8_t *metadata, size_t size)
{
    (void)user_data, (void)metadata, (void)size;
}

static void ignore_message(void *user_data, zb_log_level level, const char *target, const char *message)
{
    (void)user_data, (void)level, (void)target, (void)message;
}

/* Calls everything of the server whose user data goes. If a lock of it were held, none of this would return. */
static void call_back(void *user_data)
{
    zb_error *failure = NULL;
    (void)user_data;
    destroyed++;
    (void)zb_server_is_running(server);
    expect(zb_server_set_pool_size(server, 2, &failure), ZB_OK, &failure);
    /* It may be the last thread of a run that was stopped, which cannot wait for itself. */
    zb_status ended = zb_server_wait(server, 0, &failure);
    CHECK(ended == ZB_TIMEOUT || (ended == ZB_OK && !zb_server_is_running(server)));
    expect(zb_server_on_error(server, ignore_error, NULL, count, &failure), ZB_OK, &failure);
    expect(zb_server_on_init(server, ignore_metadata, NULL, count, &failure), ZB_OK, &failure);
}

static void call_the_log_back(void *user_data)
{
    zb_logger *logger = NULL;
    zb_error *failure = NULL;
    (void)user_data;
    destroyed++;
    expect(zb_logger_add(ignore_message, ZB_LOG_WARN, NULL, count, &logger, &failure), ZB_OK, &failure);
    zb_logger_remove(logger);
}

/* No function of the user is called under a lock. */
static void called_back(void)
{
    create("back");
    alarm(20);
    for (int way = 0; way < 2; way++) {
        destroyed = 0;
        expect(zb_server_on_error(server, ignore_error, NULL, call_back, &error), ZB_OK, &error);
        expect(zb_server_on_error(server, ignore_error, NULL, NULL, &error), ZB_OK, &error);
        CHECK(destroyed >= 1);
        destroyed = 0;
        expect(zb_server_on_init(server, ignore_metadata, NULL, call_back, &error), ZB_OK, &error);
        expect(zb_server_on_init(server, ignore_metadata, NULL, NULL, &error), ZB_OK, &error);
        CHECK(destroyed >= 1);

        /* A handler that is refused: the server runs in the second round. */
        destroyed = 0;
        zb_status status = zb_server_start(server, echo, ZB_THREAD_POOL, NULL, call_back, &error);
        expect(status, way == 0 ? ZB_OK : ZB_ERROR_INVALID_STATE, &error);
        CHECK((destroyed >= 1) == (way == 1));
    }
    connect_client();
    call();
    zb_client_free(client);
    destroyed = 0;
    expect(zb_server_stop(server, &error), ZB_OK, &error);
    CHECK(destroyed >= 1);

    /* No thread can be made: the handler goes at once. */
    destroyed = 0;
    no_threads = true;
    expect(zb_server_start(server, echo, ZB_SINGLE_THREAD, NULL, call_back, &error), ZB_ERROR_SYSTEM, &error);
    CHECK(destroyed >= 1);
    destroyed = 0;
    expect(zb_server_start(server, echo, ZB_THREAD_POOL, NULL, call_back, &error), ZB_ERROR_SYSTEM, &error);
    CHECK(destroyed >= 1);
    no_threads = false;
    expect(zb_server_start(server, echo, ZB_SINGLE_THREAD, NULL, NULL, &error), ZB_OK, &error);
    connect_client();
    call();
    zb_client_free(client);
    zb_server_free(server);

    destroyed = 0;
    expect(zb_set_logger(ignore_message, ZB_LOG_WARN, NULL, call_the_log_back, &error), ZB_OK, &error);
    expect(zb_set_logger(ignore_message, ZB_LOG_WARN, NULL, call_the_log_back, &error), ZB_OK, &error);
    expect(zb_set_logger(NULL, ZB_LOG_OFF, NULL, NULL, &error), ZB_OK, &error);
    CHECK(destroyed == 4);
    alarm(0);
}

static void *acquire_and_end(void *unused)
{
    uint8_t *place = NULL;
    zb_error *failure = NULL;
    (void)unused;
    expect(zb_client_acquire_request_buffer(client, 100, NULL, &place, &failure), ZB_OK, &failure);
    memset(place, 'o', 100);
    return NULL;
}

/* What a thread acquired and did not commit before it ended is discarded. */
static void orphans(void)
{
    pthread_t thread;
    create("orphan");
    expect(zb_server_start(server, echo, ZB_SINGLE_THREAD, NULL, NULL, &error), ZB_OK, &error);
    connect_client();
    for (int round = 0; round < 3; round++) {
        CHECK(pthread_create(&thread, NULL, acquire_and_end, NULL) == 0 && pthread_join(thread, NULL) == 0);
        call();
    }
    /* One is left behind when the client goes. */
    CHECK(pthread_create(&thread, NULL, acquire_and_end, NULL) == 0 && pthread_join(thread, NULL) == 0);
    zb_client_free(client);
    connect_client();
    call();
    zb_client_free(client);
    zb_server_free(server);
}

int main(void)
{
    waits();
    sizes();
    called_back();
    orphans();
    return 0;
}
