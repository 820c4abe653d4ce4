#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zerobuffer/zerobuffer.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <stdexcept>

namespace support {

namespace {

std::vector<std::string> paths_of(const std::string& name) {
    std::vector<std::string> paths;
    for (const std::string suffix : {"", "_request", "_response"}) {
        paths.push_back("/dev/shm/" + name + suffix);
        paths.push_back("/dev/shm/sem.sem-w-" + name + suffix);
        paths.push_back("/dev/shm/sem.sem-r-" + name + suffix);
        paths.push_back("/tmp/zerobuffer/" + name + suffix + ".lock");
    }
    return paths;
}

std::uint8_t pattern(std::uint64_t number, std::size_t index) {
    return static_cast<std::uint8_t>(number * 131 + index * 7 + (index >> 8U));
}

/** Writes one frame, reports that, and lives until it is killed. */
int die_as_writer(const std::string& name) {
    zerobuffer::Writer writer(name);
    writer.write_frame("last words", 10);
    std::cout << "written" << std::endl;
    pause();
    return 1;
}

/** Writes as many frames as one batch of the library has, reports that, and lives until it is killed. */
int die_as_batch_writer(const std::string& name) {
    zerobuffer::Writer writer(name);
    for (int number = 0; number < 64; ++number) writer.write_frame(&number, sizeof number);
    std::cout << "written" << std::endl;
    pause();
    return 1;
}

/** Creates a buffer, reports that, and lives until it is killed. */
int die_as_reader(const std::string& name) {
    const zerobuffer::Reader reader(name, zerobuffer::BufferConfig(64, 4096));
    std::cout << "created" << std::endl;
    pause();
    return 1;
}

/** Serves a channel until it is killed. */
int die_as_server(const std::string& name) {
    auto server = zerobuffer::IDuplexChannelFactory::getInstance().createImmutableServer(name, zerobuffer::BufferConfig());
    server->start([](const zerobuffer::Frame& request) { return request.span(); });
    std::cout << "running" << std::endl;
    pause();
    return 1;
}

/** Sends frames to itself while files of the library have the numbers of the standard streams. */
int stream_without_streams(const std::string& name) {
    for (int descriptor = 0; descriptor < 3; ++descriptor) close(descriptor);
    zerobuffer::Reader reader(name, zerobuffer::BufferConfig(64, 4096));
    zerobuffer::Writer writer(name);
    for (int round = 0; round < 100; ++round) {
        writer.write_frame("a frame");
        // What a program prints must not get into the buffer.
        if (write(STDOUT_FILENO, "to standard output", 18) > 0 || write(STDERR_FILENO, "to standard error", 17) > 0) return 2;
        const auto frame = reader.read_frame(patience);
        if (std::string(frame.begin(), frame.end()) != "a frame") return 3;
    }
    return 0;
}

}  // namespace

Name::Name(const std::string& what) {
    static std::atomic<int> count = 0;
    name_ = "zbtest-cpp-" + what + "-" + std::to_string(getpid()) + "-" + std::to_string(count++);
}

Name::~Name() {
    for (const auto& path : left()) unlink(path.c_str());
}

std::vector<std::string> Name::left() const {
    std::vector<std::string> left;
    for (const auto& path : paths_of(name_)) {
        if (access(path.c_str(), F_OK) == 0) left.push_back(path);
    }
    return left;
}

void remove_files(const std::string& name) {
    for (const auto& path : paths_of(name)) unlink(path.c_str());
}

void fill(std::uint64_t number, std::uint8_t* bytes, std::size_t size) {
    for (std::size_t index = 0; index < size; ++index) bytes[index] = pattern(number, index);
}

bool is_filled(std::uint64_t number, const std::uint8_t* bytes, std::size_t size) {
    for (std::size_t index = 0; index < size; ++index) {
        if (bytes[index] != pattern(number, index)) return false;
    }
    return true;
}

Process::Process(const std::vector<std::string>& command) {
    std::vector<char*> arguments;
    for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));  // NOLINT: as exec wants them
    arguments.push_back(nullptr);
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("no process");
    if (pid_ == 0) {
        // It dies with the test.
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(126);
        dup2(ends[1], STDOUT_FILENO);
        execv(arguments[0], arguments.data());
        _exit(127);
    }
    close(ends[1]);
    output_ = ends[0];
}

Process::~Process() {
    kill();
    close(output_);
}

std::string Process::line() {
    std::string line;
    char letter = 0;
    while (read(output_, &letter, 1) == 1 && letter != '\n') line.push_back(letter);
    return line;
}

std::string Process::rest() {
    std::string rest;
    for (std::string next = line(); !next.empty(); next = line()) rest += next + "\n";
    return rest;
}

void Process::kill() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        wait();
    }
}

std::optional<int> Process::poll() {
    int status = 0;
    if (pid_ <= 0 || waitpid(pid_, &status, WNOHANG) == 0) return std::nullopt;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int Process::wait() {
    if (pid_ <= 0) return -1;
    int status = 0;
    if (waitpid(pid_, &status, 0) != pid_) return -1;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string self() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

std::string rust_cli() {
    const char* path = std::getenv("ZEROBUFFER_RUST_CLI");
    if (path == nullptr) throw std::runtime_error("ZEROBUFFER_RUST_CLI must name the command line of Rust; see xtask/src/cpp.rs");
    return path;
}

void spoil(const std::string& name, long offset, std::uint64_t number) {
    const int file = open(("/dev/shm/" + name).c_str(), O_RDWR | O_CLOEXEC);
    const bool done = file >= 0 && pwrite(file, &number, sizeof number, offset) == static_cast<ssize_t>(sizeof number);
    if (file >= 0) close(file);
    if (!done) throw std::runtime_error("cannot spoil " + name);
}

OtherUser::OtherUser() : before_(geteuid()) {
    constexpr uid_t other = 65534;
    if (before_ == 0 && seteuid(other) != 0) throw std::runtime_error("cannot become another user");
}

OtherUser::~OtherUser() {
    if (geteuid() != before_ && seteuid(before_) != 0) std::abort();
}

NoFiles::NoFiles() {
    if (getrlimit(RLIMIT_NOFILE, &before_) != 0) throw std::runtime_error("cannot learn the limit of files");
    rlimit none = before_;
    none.rlim_cur = 0;
    if (setrlimit(RLIMIT_NOFILE, &none) != 0) throw std::runtime_error("cannot limit files");
}

NoFiles::~NoFiles() {
    if (setrlimit(RLIMIT_NOFILE, &before_) != 0) std::abort();
}

int play_role(int count, char** arguments) {
    if (count != 3) return -1;
    const std::string role = arguments[1];
    const std::string name = arguments[2];
    if (role == "role-writer") return die_as_writer(name);
    if (role == "role-batch-writer") return die_as_batch_writer(name);
    if (role == "role-reader") return die_as_reader(name);
    if (role == "role-server") return die_as_server(name);
    if (role == "role-closed-streams") return stream_without_streams(name);
    return -1;
}

}  // namespace support
