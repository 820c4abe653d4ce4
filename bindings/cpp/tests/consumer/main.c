/* The C header alone, in C. */
#include <zerobuffer/zerobuffer_c.h>

#include <stdio.h>

int main(void) {
    if (zb_abi_version() >> 16 != ZB_ABI_VERSION_MAJOR) return 1;
    printf("zerobuffer %s: ok\n", zb_version());
    return 0;
}
