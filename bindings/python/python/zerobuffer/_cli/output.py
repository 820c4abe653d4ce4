"""What commands print: results on standard output, lines for people on standard error."""

import errno
import fcntl
import os
import re
import select
import struct
import termios
import time
from typing import Callable, Optional

from .codes import OK, UNPRINTED, reason

# Bytes that a pipe which is ready takes without blocking.
_PIECE = 4096
# How long a line for people waits for room on standard error, in milliseconds.
_PATIENCE = 100
# How long results wait for room once the end is requested, in seconds.
_GRACE = 0.5
# How often to look at a stream without room, in milliseconds.
_LOOK = 20

# Control characters, characters that change the direction of text, and bytes that are no UTF-8.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class _State:
    """The state of both streams."""

    verbose = False
    # A progress line is on the terminal.
    progress = False
    # Standard error had no room when last looked at.
    stalled = False
    # Lines that were dropped because there was no room.
    dropped = 0
    # The first failure of standard output, and whether the output that failed was JSON.
    failure: Optional[OSError] = None
    json = False
    # Whether the end of the process is requested.
    stopped: Callable[[], bool] = staticmethod(lambda: False)


def occupy_standard_streams() -> None:
    """Puts a placeholder that cannot be used in the place of each standard stream that is closed.

    Nothing that the process opens later can become a standard stream by accident.
    """
    for number in (0, 1, 2):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            # Opened in the wrong direction, so that every use fails like a use of the closed stream.
            placeholder = os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY)
            if placeholder != number:
                os.dup2(placeholder, number)
                os.close(placeholder)


def obey(stopped: Callable[[], bool]) -> None:
    """Lets a request to end bound the waits of this module."""
    _State.stopped = staticmethod(stopped)


def set_verbose(verbose: bool) -> None:
    """Makes `inform` print."""
    _State.verbose = verbose


def is_verbose() -> bool:
    """Whether `inform` prints."""
    return _State.verbose


def shown(text: str) -> str:
    """Text in which control characters, and characters that change the direction of text, are shown as escapes."""

    def escape(match: "re.Match[str]") -> str:
        code = ord(match.group())
        if 0xDC80 <= code <= 0xDCFF:
            # A byte of a command line that is no UTF-8.
            code -= 0xDC00
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _HIDDEN.sub(escape, text)


def complain(message: object) -> None:
    """Prints an error on standard error."""
    tell(f"zerobuffer: error: {message}")


def inform(message: str) -> None:
    """Logs what happens on standard error, if the user asks for it (`--verbose`)."""
    if _State.verbose:
        tell(f"zerobuffer: info: {message}")


def tell(line: str) -> None:
    """Prints a line on standard error.

    Nothing depends on it: a line that cannot be printed is dropped, and a stream that is not read is waited for only once
    and only for a moment.
    """
    clear_progress()
    if not _put_for_people(shown(line) + "\n"):
        _State.dropped += 1


def say(line: str) -> None:
    """Prints a line on standard output. Waits until it is read; a failure decides the exit code (see `exit_code`)."""
    _put_result(shown(line) + "\n")


def say_text(text: str) -> None:
    """Prints text of several lines on standard output as it is."""
    _put_result(text)


def say_json(text: str, to_stderr: bool) -> None:
    """Prints a JSON value on standard output, or on standard error."""
    text = _HIDDEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text) + "\n"
    if not to_stderr:
        _put_result(text, json=True)
        return
    clear_progress()
    try:
        _put_all(2, text)
    except OSError:
        # Standard error does not affect the exit code.
        pass


def has_terminal() -> bool:
    """Whether standard error is a terminal on which a line can be replaced."""
    return os.isatty(2) and os.environ.get("TERM") != "dumb"


def show_progress(line: str) -> None:
    """Shows a line on a terminal that the next line replaces."""
    try:
        columns = struct.unpack("HHHH", fcntl.ioctl(2, termios.TIOCGWINSZ, bytes(8)))[1]
    except OSError:
        columns = 0
    width = columns - 1 if columns > 1 else 79
    # A terminal that is stopped (Ctrl-S) is not waited for.
    if _has_room(2, 0):
        _put_for_people(f"\r\x1b[K{shown(line)[:width]}")
        _State.progress = True


def clear_progress() -> None:
    """Removes the line that `show_progress` has left."""
    if _State.progress:
        _State.progress = False
        _put_for_people("\r\x1b[K")


def exit_code(code: int) -> int:
    """The exit code of a command that ends with `code`, and whose results may not have reached standard output."""
    clear_progress()
    if _State.dropped:
        tell(f"zerobuffer: warn: {_State.dropped} lines were dropped, because standard error was not read")
    failure = _State.failure
    # A reader that closes a pipe has read enough of a text, but needs a JSON value completely.
    if failure is None or (failure.errno == errno.EPIPE and not _State.json):
        return code
    complain(f"cannot write to standard output: {reason(failure)}")
    return UNPRINTED if code == OK else code


def _has_room(stream: int, limit_ms: int) -> bool:
    """Whether `stream` takes some bytes; waits up to `limit_ms`."""
    poll = select.poll()
    poll.register(stream, select.POLLOUT)
    # A stream that has failed reports that when it is written to.
    return bool(poll.poll(limit_ms))


def _write_piece(stream: int, data: bytes) -> int:
    try:
        return os.write(stream, data[:_PIECE])
    except BlockingIOError:
        return 0


def _put_for_people(text: str) -> bool:
    """Writes to standard error as much as it accepts within a moment. Returns False if it has no room."""
    data = text.encode()
    while data:
        _State.stalled = not _has_room(2, 0 if _State.stalled else _PATIENCE)
        if _State.stalled:
            return False
        try:
            data = data[_write_piece(2, data) :]
        except OSError:
            # An error that cannot be printed cannot be reported either.
            return True
    return True


def _put_result(text: str, json: bool = False) -> None:
    """Writes to standard output; remembers the first failure."""
    clear_progress()
    if _State.failure is None:
        try:
            _put_all(1, text)
        except OSError as error:
            _State.failure, _State.json = error, json


def _put_all(stream: int, text: str) -> None:
    """Writes all bytes, without a time limit, unless the end is requested."""
    data = text.encode(errors="surrogateescape")
    deadline: Optional[float] = None
    while data:
        if _has_room(stream, _LOOK):
            data = data[_write_piece(stream, data) :]
        elif _State.stopped():
            deadline = deadline or time.monotonic() + _GRACE
            if time.monotonic() > deadline:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
