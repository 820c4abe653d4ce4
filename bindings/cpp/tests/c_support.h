/* Shared by the tests of the C ABI. */
#pragma once

#include <zerobuffer/zerobuffer_c.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

#define WAIT_MS 30000

/* The name that the test uses. */
static char name[64];

static void name_of(const char *what)
{
    snprintf(name, sizeof name, "zbtest-c-%s-%d", what, (int)getpid());
}

/* Fails unless a call gave this status, and an error with the buffer's name. */
static inline void expect(zb_status status, zb_status wanted, zb_error **error)
{
    if (status != wanted) {
        fprintf(stderr, "status %s, not %s: %s\n", zb_status_name(status), zb_status_name(wanted), zb_error_message(*error));
        exit(1);
    }
    if (wanted >= 0) {
        CHECK(*error == NULL);
        return;
    }
    CHECK(*error != NULL && zb_error_code(*error) == wanted);
    if (zb_error_buffer(*error)[0] != '\0')
        CHECK(strstr(zb_error_message(*error), zb_error_buffer(*error)) != NULL);
    zb_error_free(*error);
    *error = NULL;
}
