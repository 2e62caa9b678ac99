"""Whether this process may open the files that attaching takes: libzmq ends one that may not."""

from __future__ import annotations

import errno
import os
import resource

from fxhpc import errors

#: Descriptors that a client with its `local` endpoint takes, and some to spare: sockets, pipes.
WANTED = 32

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})


def check_open_files() -> None:
    """Make sure that there is room for a connection, before libzmq finds that there is none.

    Raises:
        ForwarderError: there is not; the text names the limit.
    """
    held: list[int] = []
    try:
        held += os.pipe()
        while len(held) < WANTED:
            held.append(os.dup(held[0]))
    except OSError as error:
        raise errors.ForwarderError(f"{_words(error, len(held))}.") from None
    finally:
        for descriptor in held:
            os.close(descriptor)


def is_exhausted(error: BaseException) -> bool:
    """Whether it was raised because no descriptor was left; ZeroMQ's errors too."""
    return _number(error) in _EXHAUSTED


def told(error: BaseException) -> str:
    """An error's text; of one that was raised for want of descriptors, what to do about it."""
    return _words(error, 0) if is_exhausted(error) else str(error)


def _number(error: BaseException) -> int:
    """The system's number of an error, or of what it was raised from."""
    numbers = (getattr(one, "errno", None) for one in (error, error.__cause__))
    return next((number for number in numbers if isinstance(number, int)), 0)


def _words(error: BaseException, left: int) -> str:
    if _number(error) == errno.ENFILE:
        return (
            f"No program can open files on this machine now ({error}): its limit for all of them "
            f"is reached. End what has opened very many, or have fs.file-max raised"
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = max(4096, 2 * soft)
    if hard != resource.RLIM_INFINITY:
        enough = min(hard, enough)
    if enough > soft:
        remedy = f"raise the limit before Python is started: `ulimit -n {enough}`"
    else:
        remedy = "have its administrators raise this machine's hard limit, which it is (ulimit -Hn)"
    return (
        f"Too many files are open in this process (pid {os.getpid()}): it may have {soft:,} open "
        f"(ulimit -n), {left} more can be, and a client takes up to {WANTED}. Close files and "
        f"connections (ls -l /proc/{os.getpid()}/fd shows them), or {remedy}"
    )
