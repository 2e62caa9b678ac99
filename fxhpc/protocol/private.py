"""What a process is told that prepares a private endpoint, and what it answers.

A private endpoint belongs to one process (an `Executor(config=...)`) and ends with it.
`python -m fxhpc.endpoint.private FD` reads a `PrivateRequest` as JSON on its standard input, writes
a `PrivateAnswer` as one line of JSON to the descriptor FD, and becomes the endpoint's interchange,
which says "ready" there, or why it cannot start.
"""

from __future__ import annotations

from typing import Any

import msgspec

#: Files in a private endpoint's directory, beside those that every endpoint has.
SPEC_FILE = "interchange.msgpack"  # its `InterchangeSpec`, for whoever starts the interchange again
OWNER_FILE = "owner.json"  # an `Owner`


class Owner(msgspec.Struct, frozen=True):
    """The process that a private endpoint belongs to."""

    host: str
    boot: str
    pid: int
    started: float  # as `hosts.start_time` has it


class PrivateRequest(msgspec.Struct, kw_only=True):
    """Which endpoint is wanted, and whose it is. Exactly one of `path` and `config` is given."""

    directory: str  # made by the one who asks, empty, mode 0700
    endpoint: str  # its UUID
    name: str
    owner: Owner
    path: str = ""  # of a YAML file
    config: dict[str, Any] | None = None  # or what such a file would hold
    variables: dict[str, Any] = {}  # for a file that is a template
    cwd: str = ""  # of tasks, where the configuration does not say


class PrivateAnswer(msgspec.Struct, kw_only=True):
    """What has become of it. With `problems` or an `error` there is no endpoint."""

    problems: list[str] = []  # of the configuration, all of them
    error: str = ""
    warnings: list[str] = []
