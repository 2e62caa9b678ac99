"""How many files a forwarder may have open: each client, endpoint and `local` takes one or two."""

from __future__ import annotations

import contextlib
import resource

#: As many as any home needs; more are only taken if the limit is higher already.
WANTED = 16_384


def allow_open_files() -> int:
    """Raise the limit on open files, within what users may set; how many there may be.

    A forwarder has no children that would inherit it. And libzmq ends a process whose last
    descriptor a client of an ipc socket takes, so that a shell's usual 1,024 is to be out of reach.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # where the system has yet another limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft
