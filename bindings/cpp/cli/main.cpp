// The `zerobuffer-cpp` command. Each command has a file of its own; args.cpp has every option.
#include "commands.h"
#include "output.h"

#include <csignal>

int main(int argc, char** argv) {
    // A closed pipe is an error of a write, not a death.
    std::signal(SIGPIPE, SIG_IGN);
    cli::occupy_standard_streams();
    const auto parsed = cli::parse(argc, argv);
    if (const int* code = std::get_if<int>(&parsed)) return cli::exit_code(*code);
    return cli::exit_code(std::visit([](const auto& args) { return cli::run(args); }, std::get<cli::Command>(parsed)));
}
