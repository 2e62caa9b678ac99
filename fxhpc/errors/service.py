"""Errors of the forwarder, its home and its store, and of what is asked of it."""

from __future__ import annotations

from fxhpc.errors.base import FxhpcError, Told


class ForwarderError(Told):
    """The forwarder cannot do its work."""


class FuncXUnreachable(ForwarderError):
    """funcX's name: the service does not answer at this address."""

    def __init__(self, address: str, detail: str = "") -> None:
        text = f"The forwarder of {address} (the process that keeps its tasks) cannot be reached"
        if detail:
            text += f": {detail.rstrip('. ')}"
        is_here = "://" not in address
        if is_here and "forwarder.log" not in detail and "FXHPC_HOME" not in detail:
            home = address.rstrip("/") if address.startswith("/") else ""
            log = f"{home}/forwarder.log" if home else "forwarder.log in the home (FXHPC_HOME)"
            text += f"; {log} says more"
        super().__init__(f"{text}.")
        self.address = address
        self.detail = detail


class ForwarderUnreachable(FuncXUnreachable):
    """The forwarder cannot be started, or does not answer."""


class HomeError(ForwarderError):
    """The home directory cannot be used: permissions, owner, file system."""


class StoreFull(ForwarderError):
    """The store, the disk or the quota is full: submissions are refused, running work goes on."""


class StoreTooNew(ForwarderError):
    """The store was written by a newer fxhpc than this."""


class VersionMismatch(ForwarderError):
    """Two parts of fxhpc cannot talk to each other; the reason names both versions."""


class RegistrationError(Told):
    """A function could not be registered."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.args = (f"Registration failed: {reason}",)


class MalformedResponse(FxhpcError):
    """An answer that is none."""

    def __init__(self, response: str = "") -> None:
        self.response = response
        super().__init__(
            f"The forwarder's answer cannot be read: {response}. Are versions mixed? "
            f"Compare `pip show fxhpc` on both sides."
        )


class FailureResponse(FxhpcError):
    """The forwarder refused a request."""

    def __init__(self, response: str = "") -> None:
        self.response = response
        super().__init__(f"The request failed: {response}")


class HTTPError(Told):
    """funcX's error of its web service. fxhpc does not raise it; scripts may catch it."""


class InvalidScopeException(Told):
    """search_endpoint knows the scopes all, my-endpoints and shared-with-me."""
