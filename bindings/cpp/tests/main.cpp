#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "support.h"

int main(int count, char** arguments) {
    // The tests start this very program as their peers.
    const int played = support::play_role(count, arguments);
    return played >= 0 ? played : doctest::Context(count, arguments).run();
}
