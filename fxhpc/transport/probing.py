"""Whether somebody accepts connections at an address on another host: asked without ZeroMQ."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Sequence

#: What is told of a host that is up, where nobody listens at the port.
REFUSED = "nobody listens there"


def answers(addresses: Sequence[str], within_s: float) -> dict[str, str]:
    """What comes of a plain connection to each of these: "" if somebody accepts it.

    All are tried at once; with the first that is accepted the others are given up.

    Args:
        addresses: `tcp://HOST:PORT`.
        within_s: seconds to wait for them.
    """
    told: dict[str, str] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for address in addresses:
                host, _, port = address.removeprefix("tcp://").rpartition(":")
                try:
                    found = socket.getaddrinfo(
                        host.strip("[]"), int(port), type=socket.SOCK_STREAM
                    )[0]
                    attempt = socket.socket(found[0], socket.SOCK_STREAM)
                except (OSError, ValueError) as error:
                    told[address] = str(getattr(error, "strerror", None) or error)
                    continue
                attempt.setblocking(False)
                problem = attempt.connect_ex(found[4])
                if problem in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                    selector.register(attempt, selectors.EVENT_WRITE, address)
                    continue
                attempt.close()
                told[address] = REFUSED if problem == errno.ECONNREFUSED else os.strerror(problem)
            deadline = time.monotonic() + within_s
            while selector.get_map() and "" not in told.values():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    break
                for key, _ in ready:
                    tried = key.fileobj
                    assert isinstance(tried, socket.socket)
                    problem = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    selector.unregister(tried)
                    tried.close()
                    told[key.data] = os.strerror(problem) if problem else ""
                    if problem == errno.ECONNREFUSED:
                        told[key.data] = REFUSED
            for key in list(selector.get_map().values()):
                told[key.data] = f"no answer within {within_s:g} s"
        finally:
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
    return told
