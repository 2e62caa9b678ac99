"""Every error that fxhpc raises: what happened, to what, where, why, and what to do now.

The names that funcX and Globus Compute scripts catch are kept, with their arguments and texts.
All errors pickle, whatever their constructors take: they are made again from the same arguments.
Each is `fxhpc.errors.NAME`, to whoever catches it and in what is stored, whatever module of this
package it stands in: that may change.
"""

from __future__ import annotations

from collections.abc import Sequence

from fxhpc.errors.base import (
    ComputeError,
    FuncXError,
    FuncxError,
    FxhpcError,
    _make_again,
)
from fxhpc.errors.endpoints import (
    ConfigError,
    EndpointDirectoryInvalid,
    EndpointElsewhere,
    EndpointError,
    EndpointExists,
    EndpointNameInvalid,
    EndpointNotRunning,
    EndpointRunning,
    EndpointStartFailed,
    EndpointStopFailed,
    EndpointUnknown,
    NodesUnavailable,
)
from fxhpc.errors.losses import (
    ManagerLost,
    TaskExited,
    TaskLost,
    TaskMemoryExceeded,
    TaskWalltimeExceeded,
    WalltimeReached,
    WorkerDied,
    WorkerStartFailed,
    lost,
    signal_name,
)
from fxhpc.errors.refusals import (
    AuthGroupNotFound,
    ContainerNotFound,
    EndpointAccessForbidden,
    EndpointAlreadyRegistered,
    EndpointNotFound,
    EndpointOutdated,
    EndpointStatsError,
    ForwarderContactError,
    ForwarderRegistrationError,
    FunctionAccessForbidden,
    FunctionNotFound,
    FunctionNotPermitted,
    FuncxAPIError,
    FuncxResponseError,
    InternalError,
    InvalidUUID,
    LivenessStatsError,
    RequestKeyError,
    RequestMalformed,
    TaskGroupAccessForbidden,
    TaskGroupNotFound,
    TaskNotFound,
    UserNotFound,
    UserUnauthenticated,
)
from fxhpc.errors.service import (
    FailureResponse,
    ForwarderError,
    ForwarderUnreachable,
    FuncXUnreachable,
    HomeError,
    HTTPError,
    InvalidScopeException,
    MalformedResponse,
    RegistrationError,
    StoreFull,
    StoreTooNew,
    VersionMismatch,
)
from fxhpc.errors.sizes import (
    MaxRequestsExceeded,
    MaxRequestSizeExceeded,
    MaxResultSizeExceeded,
    PayloadTooLarge,
    SerializationError,
    SpilledResultLost,
    ThrottlingException,
)
from fxhpc.errors.tasks import (
    FuncxTaskExecutionFailed,
    InitializerFailed,
    RemoteTraceback,
    TaskCancelled,
    TaskExecutionFailed,
    TaskInterrupted,
    TaskPending,
    UserCancelledException,
)
from fxhpc.errors.usage import (
    EmptyBatch,
    IdempotencyConflict,
    InvalidResourceSpecification,
    MissingArgument,
    NotABatch,
    NotAList,
    ResourcesTooLarge,
    UnknownOption,
    UsageError,
    WalltimeTooLong,
)

__all__ = [
    "AuthGroupNotFound",
    "ComputeError",
    "ConfigError",
    "ContainerNotFound",
    "EmptyBatch",
    "EndpointAccessForbidden",
    "EndpointAlreadyRegistered",
    "EndpointDirectoryInvalid",
    "EndpointElsewhere",
    "EndpointError",
    "EndpointExists",
    "EndpointNameInvalid",
    "EndpointNotFound",
    "EndpointNotRunning",
    "EndpointOutdated",
    "EndpointRunning",
    "EndpointStartFailed",
    "EndpointStatsError",
    "EndpointStopFailed",
    "EndpointUnknown",
    "FailureResponse",
    "ForwarderContactError",
    "ForwarderError",
    "ForwarderRegistrationError",
    "ForwarderUnreachable",
    "FuncXError",
    "FuncXUnreachable",
    "FunctionAccessForbidden",
    "FunctionNotFound",
    "FunctionNotPermitted",
    "FuncxAPIError",
    "FuncxError",
    "FuncxResponseError",
    "FuncxTaskExecutionFailed",
    "FxhpcError",
    "HTTPError",
    "HomeError",
    "IdempotencyConflict",
    "InitializerFailed",
    "InternalError",
    "InvalidResourceSpecification",
    "InvalidScopeException",
    "InvalidUUID",
    "LivenessStatsError",
    "MalformedResponse",
    "ManagerLost",
    "MaxRequestSizeExceeded",
    "MaxRequestsExceeded",
    "MaxResultSizeExceeded",
    "MissingArgument",
    "NodesUnavailable",
    "NotABatch",
    "NotAList",
    "PayloadTooLarge",
    "RegistrationError",
    "RemoteTraceback",
    "RequestKeyError",
    "RequestMalformed",
    "ResourcesTooLarge",
    "SerializationError",
    "SpilledResultLost",
    "StoreFull",
    "StoreTooNew",
    "TaskCancelled",
    "TaskExecutionFailed",
    "TaskExited",
    "TaskGroupAccessForbidden",
    "TaskGroupNotFound",
    "TaskInterrupted",
    "TaskLost",
    "TaskMemoryExceeded",
    "TaskNotFound",
    "TaskPending",
    "TaskWalltimeExceeded",
    "ThrottlingException",
    "UnknownOption",
    "UsageError",
    "UserCancelledException",
    "UserNotFound",
    "UserUnauthenticated",
    "VersionMismatch",
    "WalltimeReached",
    "WalltimeTooLong",
    "WorkerDied",
    "WorkerStartFailed",
    "error_named",
    "lost",
    "signal_name",
]


def error_named(name: str, arguments: Sequence[str]) -> FxhpcError:
    """The error that a `service.Failed` names; one that nobody knows becomes a FxhpcError."""
    cls = _BY_NAME.get(name)
    if cls is not None:
        try:
            return cls(*arguments)
        except (TypeError, ValueError):
            pass  # a neighbour of another version: what it says must still be told
    return FxhpcError(f"{name}: {', '.join(arguments)}" if arguments else name)


#: A closed table: only classes of this package are ever made from a name that came over a link.
_BY_NAME: dict[str, type[FxhpcError]] = {
    named.__name__: named
    for named in map(globals().__getitem__, __all__)
    if isinstance(named, type) and issubclass(named, FxhpcError)
}

for _made in (*_BY_NAME.values(), RemoteTraceback, _make_again):
    _made.__module__ = __name__  # what outcomes that are stored, and other versions, know them by
