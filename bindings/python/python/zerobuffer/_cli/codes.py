"""Exit codes, and failures with their exit code."""

import errno

from .. import InterruptedError, InvalidConfigError, InvalidNameError

OK = 0
#: A bad command line, for every command but the relay.
BAD_ARGUMENTS = 3
RELAY_BAD_ARGUMENTS = 4
#: The command did its work, but its results did not reach standard output.
UNPRINTED = 5
#: An orderly end on Ctrl-C or SIGTERM.
INTERRUPTED = 130

# Errors of the system that say nothing about the command line.
_SHORTAGES = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EAGAIN,
    errno.EIO,
}


class Failure(Exception):
    """Why a command ends early: its exit code, what happened and the way out."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Interrupted(Failure):
    """Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED, "interrupted")


def failure(error: Exception, code: int, bad_arguments: int = BAD_ARGUMENTS) -> Failure:
    """From an error of the library; `code`, unless the command line was bad."""
    if isinstance(error, InterruptedError):
        return Interrupted()
    if isinstance(error, (InvalidNameError, InvalidConfigError)):
        return Failure(bad_arguments, str(error))
    return Failure(code, str(error))


def file_failure(what: str, error: OSError, code: int) -> Failure:
    """From a file that cannot be opened or read: `code` if the system lacks a resource; otherwise the command line is bad."""
    return Failure(code if error.errno in _SHORTAGES else BAD_ARGUMENTS, f"{what}: {reason(error)}")


def reason(error: OSError) -> str:
    """The operating system's message, in the form of the other languages' commands."""
    return f"{error.strerror} (os error {error.errno})"
