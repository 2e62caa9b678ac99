"""What a task raised, to bytes and back: the original if it can be made again, its text always."""

from __future__ import annotations

import pickle
from typing import Any

from fxhpc.errors import RemoteTraceback, TaskExecutionFailed, TaskExited, TaskInterrupted
from fxhpc.serialize import build, pickler
from fxhpc.serialize.tracebacks import cut, message, traceback_text, type_name

#: Characters of an exception's own text that always travel.
_MESSAGE_LIMIT = 4096

# What kind of exception it was, which decides what the client raises.
_ERROR = 0
_EXIT = 1  # SystemExit: must not end the user's script
_INTERRUPT = 2  # KeyboardInterrupt: nobody pressed Ctrl-C at the client
_OTHER = 3  # any other that is not an Exception


def pack_exception(exc: BaseException, limit: int) -> bytes:
    """An exception as bytes, at most `limit` of them if that leaves room for a name.

    Never raises, whatever the exception's own methods do, short of ending the process.
    """
    try:
        kind, code = _kind(exc)
        text = traceback_text(exc)
        packed = _pack_original(exc) if kind == _ERROR else b""
        fields = [kind, code, type_name(exc), cut(message(exc), _MESSAGE_LIMIT), text, packed]
        data = pickle.dumps(fields, protocol=5)
        if len(data) > limit:
            fields[5] = b""
            data = pickle.dumps(fields, protocol=5)
        if len(data) > limit:
            # A character is at most four bytes.
            fields[3] = cut(str(fields[3]), limit // 16)
            fields[4] = cut(text, max(limit // 8, 80))
            data = pickle.dumps(fields, protocol=5)
        return data
    except BaseException:  # the worker has to report something, and goes on
        return _least(exc)


def _least(exc: BaseException) -> bytes:
    try:
        name = str(type.__getattribute__(type(exc), "__name__"))
    except BaseException:  # a metaclass of the user's
        name = "exception"
    text = f"{name} (nothing more of it could be packed)"
    return pickle.dumps([_OTHER, 0, name, text, text, b""], protocol=5)


def _kind(exc: BaseException) -> tuple[int, int]:
    if isinstance(exc, SystemExit):
        code = exc.code
        if code is None or isinstance(code, int):
            return _EXIT, int(code or 0) & 0xFF
        return _EXIT, 1  # sys.exit("words"): the interpreter prints them and exits with 1
    if isinstance(exc, KeyboardInterrupt):
        return _INTERRUPT, 0
    return (_ERROR if isinstance(exc, Exception) else _OTHER), 0


def _pack_original(exc: BaseException) -> bytes:
    """The exception itself, if what comes out on the other side is the same; else nothing."""
    for attempt in (_as_it_is, _without_constructor):
        try:
            data = attempt(exc)
            again = pickle.loads(data)
            if type(again) is type(exc) and message(again) == message(exc):
                return data
        except BaseException:  # what its `__reduce__`, `__init__`, ... raise is not of interest
            continue
    return b""


def _as_it_is(exc: BaseException) -> bytes:
    return pickler.dumps(exc)


def _without_constructor(exc: BaseException) -> bytes:
    """For exceptions that want other arguments than they keep, or have parts that do not pack."""
    args = exc.args
    try:
        pickler.dumps(args)
    except Exception:
        args = tuple(arg if _packs(arg) else repr(arg) for arg in args)
    state = {name: value for name, value in vars(exc).items() if _packs(value)}
    return pickler.dumps(_Made(type(exc), args, state))


def _packs(value: Any) -> bool:
    try:
        pickle.loads(pickler.dumps(value))
    except BaseException:  # as above: methods of the user's
        return False
    return True


class _Made:
    """Packs as the call that makes an exception without its constructor."""

    def __init__(self, cls: type, args: tuple[Any, ...], state: dict[str, Any]) -> None:
        self._call = (cls, args, state)

    def __reduce__(self) -> Any:
        return build.exception, self._call


class RemoteExceptionWrapper:
    """What a task raised, as `get_task` shows it; `str()` is the remote traceback.

    Holds bytes: the exception itself is made when it is asked for, in the thread that asks.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        try:
            kind, code, name, text, trace, packed = pickle.loads(data)
        except Exception as error:
            kind, code, name, packed = _OTHER, 0, "exception", b""
            text = trace = f"What the task raised cannot be read: {type(error).__name__}: {error}"
        self._kind: int = kind
        self._code: int = code
        self._packed: bytes = packed
        self.task_id = ""  #: whose exception it is, if somebody has said so
        self.type_name: str = name  #: the qualified name of the type
        self.message: str = text  #: `str()` of the exception
        self.traceback_text: str = trace

    @property
    def e_type(self) -> type[BaseException]:
        """The type of what `reraise` raises: the original one if it can be made here."""
        return type(self.e_value)

    @property
    def e_value(self) -> BaseException:
        """What `reraise` raises."""
        return self.error()

    def error(self, completion_t: str = "") -> BaseException:
        """The exception for the caller, with the remote traceback as its `__cause__`.

        The original if it can be made here. TaskExited for SystemExit, TaskInterrupted for
        KeyboardInterrupt; TaskExecutionFailed for whatever else cannot or must not be raised here.
        """
        error = self._original()
        if error is None and self._kind == _EXIT:
            what = f"its code called sys.exit ({self.message or self._code})"
            error = TaskExited(what, task_id=self.task_id, exit_code=self._code)
        if error is None and self._kind == _INTERRUPT:
            return TaskInterrupted(self.traceback_text, completion_t)
        if error is None:
            return TaskExecutionFailed(self.traceback_text, completion_t)
        error.__cause__ = RemoteTraceback(self.traceback_text)
        return error

    def _original(self) -> BaseException | None:
        if not self._packed:
            return None
        try:
            error = pickle.loads(self._packed)
        except (Exception, SystemExit, GeneratorExit):
            return None  # its class is not here, or its methods fail here: the text remains
        return error if isinstance(error, Exception) else None

    def reraise(self) -> None:
        """Raise the exception.

        Raises:
            BaseException: what `error` makes.
        """
        raise self.error()

    def __str__(self) -> str:
        return self.traceback_text

    def __repr__(self) -> str:
        return f"<RemoteExceptionWrapper {self.type_name}: {self.message[:200]}>"

    def __reduce__(self) -> Any:
        return RemoteExceptionWrapper, (self._data,)


def unpack_exception(data: bytes) -> RemoteExceptionWrapper:
    """What `pack_exception` packed. Never raises: bytes that cannot be read become an error."""
    return RemoteExceptionWrapper(data)
