// Shared by the tests: unique names that clean up after themselves, and processes to talk to.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace support {

/** The longest wait for anything that must happen; a test that reaches it has failed. Milliseconds. */
inline constexpr std::int64_t patience = 30000;

/** A name that no other test uses; the files of its buffers, and of its channel's, go with it, whatever happened. */
class Name {
public:
    explicit Name(const std::string& what);
    Name(const Name&) = delete;
    Name& operator=(const Name&) = delete;
    ~Name();

    operator const std::string&() const noexcept { return name_; }  // NOLINT: as a string

    const std::string& str() const noexcept { return name_; }

    /** The paths of its files that exist. */
    std::vector<std::string> left() const;

private:
    std::string name_;
};

/** Removes the files that a buffer, or a channel, of this name has left. */
void remove_files(const std::string& name);

/** Fills bytes with a pattern that depends on the frame's number, and says whether they are filled so. */
void fill(std::uint64_t number, std::uint8_t* bytes, std::size_t size);
bool is_filled(std::uint64_t number, const std::uint8_t* bytes, std::size_t size);

/** Puts a number into a buffer's file, as a broken peer would. */
void spoil(const std::string& name, long offset, std::uint64_t number);

/** While it lives, this process is not root, whom no file's mode stops. */
class OtherUser {
public:
    OtherUser();
    OtherUser(const OtherUser&) = delete;
    OtherUser& operator=(const OtherUser&) = delete;
    ~OtherUser();

private:
    uid_t before_;
};

/** While it lives, this process can open no file. */
class NoFiles {
public:
    NoFiles();
    NoFiles(const NoFiles&) = delete;
    NoFiles& operator=(const NoFiles&) = delete;
    ~NoFiles();

private:
    rlimit before_{};
};

/** A process: this very program in another role, or the command line. Killed when it goes. */
class Process {
public:
    /** Starts a program, whose standard output is read by lines. */
    explicit Process(const std::vector<std::string>& command);
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process();

    /** The next line that it prints; empty at the end. */
    std::string line();

    /** All that it still prints. */
    std::string rest();

    /** Kills it, and waits until it is gone. */
    void kill();

    /** Its exit code if it has ended, or -1 if it was killed; nothing while it runs. */
    std::optional<int> poll();

    /** Waits for its end; its exit code, or -1 if it was killed. */
    int wait();

private:
    pid_t pid_ = -1;
    int output_ = -1;
};

/** This program. */
std::string self();

/** The `zerobuffer` command line of Rust. */
std::string rust_cli();

/** Plays the role that `self()` was started for, if it was: its exit code, or -1. */
int play_role(int count, char** arguments);

}  // namespace support
