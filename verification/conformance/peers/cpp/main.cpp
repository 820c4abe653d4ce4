// The C++ peer of the conformance suite: one JSON step a line on stdin, one answer a line on stdout. verification/conformance/README.md
// describes the steps.

#include "duplex.h"
#include "streams.h"

#include <cxxabi.h>
#include <signal.h>

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <mutex>
#include <thread>
#include <typeinfo>

namespace {

std::mutex output;

void say(const Json& answer) {
    const std::lock_guard lock(output);
    std::cout << answer.dump() << std::endl;
}

/** The kind that an exception's class stands for: `buffer_full_exception` is BufferFull. */
std::string kind_of(const std::exception& error) {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> demangled(
        abi::__cxa_demangle(typeid(error).name(), nullptr, nullptr, &status), std::free);
    std::string name = demangled ? demangled.get() : typeid(error).name();
    name.erase(0, name.rfind(':') + 1);
    if (const auto end = name.rfind("_exception"); end != std::string::npos) name.erase(end);
    std::string kind;
    bool upper = true;
    for (const char letter : name) {
        if (letter != '_') kind += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(letter))) : letter;
        upper = letter == '_';
    }
    return kind;
}

Json answer_to(const Json& step, Player& first, Player& second) {
    const std::uint64_t id = step.value("id", std::uint64_t{0});
    const auto failed = [id](const std::string& kind, const char* message) {
        return Json{{"id", id}, {"error", kind}, {"message", message}};
    };
    try {
        const std::string verb = step.value("do", "");
        Json fields = Json::object();
        if (verb == "reset") {
            first.reset();
            second.reset();
        } else if (!first.play(verb, step, fields) && !second.play(verb, step, fields)) {
            return failed("Unsupported", verb.c_str());
        }
        return {{"id", id}, {"ok", fields}};
    } catch (const StepError& error) {
        return failed(error.kind, error.what());
    } catch (const std::exception& error) {
        return failed(kind_of(error), error.what());
    }
}

}  // namespace

int main() {
    Streams streams;
    Channels channels;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Json> steps;
    std::thread worker([&] {
        for (;;) {
            std::unique_lock lock(mutex);
            changed.wait(lock, [&] { return !steps.empty(); });
            const Json step = std::move(steps.front());
            steps.pop_front();
            lock.unlock();
            say(answer_to(step, streams, channels));
        }
    });
    worker.detach();
    for (std::string line; std::getline(std::cin, line);) {
        Json step = Json::parse(line);
        const std::string verb = step.value("do", "");
        // These must work while the worker is blocked in another step.
        if (verb == "die") {
            raise(SIGKILL);
        } else if (verb == "interrupt") {
            streams.interrupt(step.value("of", "reader"));
            say({{"id", step["id"]}, {"ok", Json::object()}});
        } else {
            const std::lock_guard lock(mutex);
            steps.push_back(std::move(step));
            changed.notify_one();
        }
    }
    // The worker may be blocked; the runner no longer listens.
    std::_Exit(0);
}
