"""A seed in a container: it connects to its manager, and takes its end of their socket pair."""

from __future__ import annotations

import socket

from fxhpc.manager.seeds import seed


def main(path: str) -> None:
    """Be a seed until the manager closes its end, or is gone.

    Args:
        path: where the manager listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if descriptors:  # else it does not want this one any more
        seed.run(socket.socket(fileno=descriptors[0]))
