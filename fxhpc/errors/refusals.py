"""Errors by which the service refuses a call, each with the number that funcX gave it."""

from __future__ import annotations

from typing import Any

from fxhpc.errors.base import FxhpcError
from fxhpc.errors.service import FailureResponse


class FuncxResponseError(FxhpcError):
    """The service refused a call: `reason` in words, `code` and `http_status_code` in numbers."""

    code = 0
    http_status_code = 500
    #: How the reason is made of the arguments, and how many of them there are.
    REASON = "{}"
    ADVICE = ""
    #: Whether one argument more is advice that fits the case, in the place of that.
    TAKES_ADVICE = False

    def __init__(self, *error_args: Any) -> None:
        self.error_args = [str(argument) for argument in error_args]
        wanted = self.REASON.count("{}")
        if self.TAKES_ADVICE and len(self.error_args) > wanted:
            self.ADVICE = self.error_args[wanted]
        shown = (self.error_args + ["?"] * wanted)[:wanted]
        self.reason = self.REASON.format(*shown)
        super().__init__(f"{self.reason}. {self.ADVICE}" if self.ADVICE else self.reason)

    @property
    def http_status(self) -> int:
        """The same as `http_status_code`, as Globus' errors call it."""
        return self.http_status_code

    def pack(self) -> dict[str, Any]:
        """The error as a dictionary of plain values, for `unpack`."""
        return {
            "status": "Failed",
            "code": self.code,
            "error_args": list(self.error_args),
            "reason": self.reason,
            "http_status_code": self.http_status_code,
        }

    @staticmethod
    def unpack(data: dict[str, Any]) -> FxhpcError | None:
        """The error that `pack` packed, or None if the dictionary tells of no failure."""
        if data.get("status") != "Failed":
            return None
        cls = _BY_CODE.get(data.get("code", 0))
        if cls is None:
            return FailureResponse(str(data.get("reason", "no reason given")))
        return cls(*data.get("error_args", []))


FuncxAPIError = FuncxResponseError


class UserUnauthenticated(FuncxResponseError):
    code, http_status_code = 1, 401
    REASON = "Could not find user. You must be logged in to perform this function"
    ADVICE = "Its key is not on the endpoint's allow-list."


class UserNotFound(FuncxResponseError):
    code, http_status_code = 2, 404
    REASON = "User ID not found for: {}"


class FunctionNotFound(FuncxResponseError):
    code, http_status_code = 3, 404
    REASON = "Function {} could not be resolved"
    ADVICE = "Register it by register_function(); ids belong to one home (FXHPC_HOME)."

    @property
    def uuid(self) -> str:
        """The id that nobody knows."""
        return self.error_args[0]


class EndpointNotFound(FuncxResponseError):
    code, http_status_code = 4, 404
    REASON = "Endpoint {} could not be resolved"
    TAKES_ADVICE = True
    ADVICE = (
        "Endpoints belong to one home (FXHPC_HOME): `fxhpc endpoint list` shows them, and "
        "`fxhpc endpoint configure NAME` makes one; `local` is always there."
    )

    @property
    def uuid(self) -> str:
        """The id that nobody knows."""
        return self.error_args[0]


class ContainerNotFound(FuncxResponseError):
    code, http_status_code = 5, 404
    REASON = "Container {} not found"
    TAKES_ADVICE = True
    ADVICE = (
        "Give the id that register_container returned, with the same home: get_containers() lists "
        "them. Nothing was registered, so that nothing runs without its container."
    )


class TaskNotFound(FuncxResponseError):
    code, http_status_code = 6, 404
    REASON = "Task {} not found"
    TAKES_ADVICE = True
    ADVICE = (
        "It was submitted from another home (FXHPC_HOME), purged after the retention time, or its "
        "Executor has received how it ended: that is not kept unless it has a task_group_id."
    )

    @property
    def uuid(self) -> str:
        """The id that nobody knows."""
        return self.error_args[0]


class AuthGroupNotFound(FuncxResponseError):
    code, http_status_code = 7, 404
    REASON = "AuthGroup {} not found"
    ADVICE = "A group is a unix group of this host."


class FunctionAccessForbidden(FuncxResponseError):
    code, http_status_code = 8, 403
    REASON = "Unauthorized access to function {}"
    ADVICE = "Ask its author to register it with public=True or for your group."


class EndpointAccessForbidden(FuncxResponseError):
    code, http_status_code = 9, 403
    REASON = "Unauthorized access to endpoint {}"
    ADVICE = "An endpoint runs its owner's work; others' only where the site permits."


class FunctionNotPermitted(FuncxResponseError):
    code, http_status_code = 10, 403
    REASON = "Function {} not permitted on endpoint {}"
    ADVICE = "Its owner can permit it by add_to_whitelist(endpoint_id, function_ids)."


class EndpointAlreadyRegistered(FuncxResponseError):
    code, http_status_code = 11, 400
    REASON = "Endpoint {} was already registered by a different user"


class ForwarderRegistrationError(FuncxResponseError):
    code, http_status_code = 12, 502
    REASON = "Endpoint registration with forwarder failed - {}"


class ForwarderContactError(FuncxResponseError):
    code, http_status_code = 13, 502
    REASON = "Contacting forwarder failed - {}"
    ADVICE = "forwarder.log in the home says more."


class EndpointStatsError(FuncxResponseError):
    code, http_status_code = 14, 500
    REASON = "Unable to retrieve stats for endpoint: {} - {}"


class LivenessStatsError(FuncxResponseError):
    code, http_status_code = 15, 500
    REASON = "Forwarder did not respond with liveness stats - status code {}"


class RequestKeyError(FuncxResponseError):
    code, http_status_code = 16, 400
    REASON = "Missing key in JSON request - {}"


class RequestMalformed(FuncxResponseError):
    code, http_status_code = 17, 400
    REASON = "Request malformed. Missing critical information: {}"


class InternalError(FuncxResponseError):
    code, http_status_code = 18, 500
    REASON = "Internal server error: {}"
    ADVICE = "The forwarder's log has more; please report it."


class EndpointOutdated(FuncxResponseError):
    code, http_status_code = 19, 400
    REASON = "Endpoint is out of date. Minimum version required: {}"


class TaskGroupNotFound(FuncxResponseError):
    code, http_status_code = 20, 404
    REASON = "Task Group {} could not be resolved"
    ADVICE = (
        "A group is the UUID that a batch, an Executor or a client was given as task_group_id. It "
        "is known while its home (FXHPC_HOME) keeps tasks of it: `fxhpc task list --json` has the "
        "group of each batch."
    )


class TaskGroupAccessForbidden(FuncxResponseError):
    code, http_status_code = 21, 403
    REASON = "Unauthorized access to Task Group {}"


class InvalidUUID(FuncxResponseError, ValueError):
    code, http_status_code = 22, 400
    REASON = "Invalid UUID provided: {}"
    ADVICE = "An id is a UUID or its text, as register_function() and run() return it."


#: By funcX's numbers.
_BY_CODE = {cls.code: cls for cls in FuncxResponseError.__subclasses__()}
