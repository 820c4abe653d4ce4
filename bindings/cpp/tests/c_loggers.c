/* Loggers: several at once, each removed by itself, so that the code behind one may be unloaded. */

#include "c_support.h"

#include <pthread.h>
#include <sys/wait.h>

static zb_error *error;

/* Has the library log that it cleans up after a process that died. */
static void make_a_message(void)
{
    zb_reader *reader;
    pid_t child = fork();
    if (child == 0) {
        zb_reader *left;
        _exit(zb_reader_create(name, NULL, &left, NULL) == ZB_OK ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    expect(zb_reader_create(name, NULL, &reader, &error), ZB_OK, &error);
    zb_reader_free(reader);
}

struct logger {
    int messages;
    int destroyed;
    zb_logger *handle;
    bool removes_itself;
};

static void count(void *data, zb_log_level level, const char *target, const char *message)
{
    struct logger *logger = data;
    CHECK(level >= ZB_LOG_ERROR && level <= ZB_LOG_INFO && target[0] != '\0' && strstr(message, name) != NULL);
    logger->messages++;
    if (logger->removes_itself) {
        logger->removes_itself = false;
        zb_logger_remove(logger->handle);
        CHECK(logger->destroyed == 0);
    }
}

static void destroyed(void *data)
{
    struct logger *logger = data;
    logger->destroyed++;
    /* No lock is held: this may call the library. */
    zb_logger *none = NULL;
    expect(zb_logger_add(NULL, ZB_LOG_INFO, NULL, NULL, &none, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
}

static void add(struct logger *logger, zb_log_level level)
{
    memset(logger, 0, sizeof *logger);
    expect(zb_logger_add(count, level, logger, destroyed, &logger->handle, &error), ZB_OK, &error);
}

static void several(void)
{
    struct logger first, second, third, set = {0}, refused = {0};
    name_of("loggers");
    add(&first, ZB_LOG_INFO);
    add(&second, ZB_LOG_INFO);
    add(&third, ZB_LOG_ERROR);
    expect(zb_set_logger(count, ZB_LOG_INFO, &set, destroyed, &error), ZB_OK, &error);
    make_a_message();
    CHECK(first.messages > 0 && second.messages == first.messages && set.messages == first.messages);
    CHECK(third.messages == 0);
    /* What one part of a program sets or removes does not affect the others. */
    expect(zb_set_logger(NULL, ZB_LOG_OFF, NULL, NULL, &error), ZB_OK, &error);
    CHECK(set.destroyed == 1);
    int before = first.messages;
    zb_logger_remove(first.handle);
    CHECK(first.destroyed == 1);
    make_a_message();
    CHECK(first.messages == before && set.messages == before && second.messages > before);
    /* From its own callback. */
    second.removes_itself = true;
    before = second.messages;
    make_a_message();
    CHECK(second.messages == before + 1 && second.destroyed == 1);
    zb_logger_remove(third.handle);
    CHECK(third.destroyed == 1);
    make_a_message();
    CHECK(second.messages == before + 1);

    expect(zb_logger_add(count, 77, &refused, destroyed, &refused.handle, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(refused.destroyed == 1 && refused.handle == NULL);
    expect(zb_logger_add(count, ZB_LOG_INFO, &refused, destroyed, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(refused.destroyed == 2);
    zb_logger_remove(NULL);
}

static int entered[2], leave[2];

static void take_long(void *data, zb_log_level level, const char *target, const char *message)
{
    char byte = 0;
    (void)data, (void)level, (void)target, (void)message;
    CHECK(write(entered[1], &byte, 1) == 1);
    CHECK(read(leave[0], &byte, 1) == 1);
}

static void *log_one(void *unused)
{
    (void)unused;
    make_a_message();
    return NULL;
}

static bool removed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_removed(void)
{
    pthread_mutex_lock(&lock);
    bool answer = removed;
    pthread_mutex_unlock(&lock);
    return answer;
}

static void *remove_it(void *handle)
{
    zb_logger_remove(handle);
    pthread_mutex_lock(&lock);
    removed = true;
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* A removal waits for a call that another thread is in: behind it the callback's code may go. */
static void awaited(void)
{
    pthread_t logging, removing;
    zb_logger *handle;
    char byte = 0;
    name_of("awaited");
    CHECK(pipe(entered) == 0 && pipe(leave) == 0);
    expect(zb_logger_add(take_long, ZB_LOG_INFO, NULL, NULL, &handle, &error), ZB_OK, &error);
    CHECK(pthread_create(&logging, NULL, log_one, NULL) == 0);
    CHECK(read(entered[0], &byte, 1) == 1);
    CHECK(pthread_create(&removing, NULL, remove_it, handle) == 0);
    /* Long enough for a removal that does not wait. */
    usleep(20000);
    CHECK(!is_removed());
    CHECK(write(leave[1], &byte, 1) == 1);
    CHECK(pthread_join(removing, NULL) == 0 && is_removed());
    CHECK(pthread_join(logging, NULL) == 0);
}

int main(void)
{
    several();
    awaited();
    return 0;
}
