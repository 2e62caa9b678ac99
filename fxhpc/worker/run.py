"""Runs one task: unpack, call, pack. Every way in which a call can end becomes an outcome."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.worker import limited

VALUE = int(OutcomeKind.VALUE)
ERROR = int(OutcomeKind.ERROR)


class Bodies(Protocol):
    """What `fxhpc.serialize.bodies.Bodies` offers a worker."""

    def put(self, digest: bytes, data: Any, fd: int = -1) -> None: ...
    def drop(self, digest: bytes) -> None: ...


class Loader(Protocol):
    """What `fxhpc.serialize.Loader` offers a worker."""

    bodies: Bodies
    initializing: Callable[[], AbstractContextManager[Any]]

    def load_function(self, digest: bytes, body: Any) -> Callable[..., Any]: ...
    def load_arguments(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]: ...
    def refresh(self) -> bool: ...


class Serializer(Protocol):
    """What the module `fxhpc.serialize` offers a worker."""

    Loader: Callable[[], Loader]
    Calls: Callable[[Any, Any], Any]  # see `fxhpc.serialize.chunks`, and of these too
    Chunk: Callable[..., Any]
    Ends: Callable[..., Any]
    KeptEnds: Callable[..., Any]

    def pack_result(self, value: Any, limit: int) -> bytes: ...
    def pack_or_spill(
        self, value: Any, limit: int, directory: str, stream: bytes, index: int
    ) -> bytes: ...
    def pack_exception(self, exc: BaseException, limit: int) -> bytes: ...


class Runner:
    """Calls functions, and packs what comes of it."""

    def __init__(self, serializer: Serializer) -> None:
        self.serializer = serializer
        self.loader = serializer.Loader()
        self._load_arguments = self.loader.load_arguments
        self._pack_result = serializer.pack_result
        self._pack_or_spill = serializer.pack_or_spill
        self._pack_exception = serializer.pack_exception

    def call(
        self,
        function: Callable[..., Any],
        data: bytes,
        limit: int,
        spill: tuple[str, bytes, int] | None = None,
    ) -> tuple[int, bytes]:
        """Run a task: the kind of its outcome, and the packed result or exception.

        Args:
            spill: where a result goes that is larger than the limit: a directory, and the task's
                stream and index. None: that is an error.

        Whatever the call raises is the user's, `SystemExit` and `KeyboardInterrupt` included: the
        worker lives on.
        """
        try:
            args, kwargs = self._load_arguments(data)
            if spill is not None:
                return VALUE, self._pack_or_spill(function(*args, **kwargs), limit, *spill)
            return VALUE, self._pack_result(function(*args, **kwargs), limit)
        except BaseException as error:
            return ERROR, self.pack_error(error, limit)

    def load(self, digest: bytes, body: Any) -> Callable[..., Any]:
        """The function; whatever its module raises when it is imported comes out of here."""
        return self.loader.load_function(digest, body)

    def pack_error(self, error: BaseException, limit: int) -> bytes:
        """Pack what a task raised."""
        try:
            if isinstance(error, MemoryError):
                limited.explain(error)
            return self._pack_exception(error, limit)
        except BaseException as problem:
            # It promises not to raise, but it has to look at an object of the user's.
            name = type(error).__name__
            return self._pack_exception(
                RuntimeError(
                    f"the task raised {name}, and packing that raised {type(problem).__name__}"
                ),
                limit,
            )
