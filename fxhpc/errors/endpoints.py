"""Errors of endpoints' life on this host, and of their configurations."""

from __future__ import annotations

from collections.abc import Sequence

from fxhpc.errors.base import FxhpcError


class EndpointError(FxhpcError):
    """What was asked of an endpoint cannot be done.

    Args:
        name: the endpoint's.
        text: what is the matter, a sentence without its full stop.
        hint: what to do now, likewise.
    """

    def __init__(self, name: str, text: str = "", hint: str = "") -> None:
        self.name = name
        self.text = text or f"endpoint {name!r} cannot do that"
        self.hint = hint
        super().__init__(f"{self.text}; {hint}" if hint else self.text)


class EndpointNameInvalid(EndpointError, ValueError):
    """No endpoint can have this name."""


class EndpointUnknown(EndpointError):
    """The home has no endpoint of this name."""


class EndpointExists(EndpointError):
    """The home has an endpoint of this name already."""


class EndpointRunning(EndpointError):
    """The endpoint runs already, on this host."""


class EndpointElsewhere(EndpointRunning):
    """The endpoint runs on another host that has the same home, or may do so."""


class EndpointNotRunning(EndpointError):
    """The endpoint does not run."""


class EndpointStartFailed(EndpointError):
    """The endpoint did not come up; the text says why."""


class NodesUnavailable(EndpointStartFailed):
    """The endpoint is up and will never have a node to run anything on; the text says why."""


class EndpointStopFailed(EndpointError):
    """The endpoint did not end as it should, or left something behind."""


class EndpointDirectoryInvalid(EndpointError):
    """The endpoint's directory cannot be used: permissions, owner, file system."""


class ConfigError(FxhpcError):
    """An endpoint's configuration cannot be used.

    Args:
        problems: all that is wrong, each a line: `file:line: key.path: what, and what to do`.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
