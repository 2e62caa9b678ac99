"""What all errors of fxhpc share: they pickle, whatever their constructors take."""

from __future__ import annotations

from typing import Any


class FxhpcError(Exception):
    """The base of all errors of fxhpc."""

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        error = super().__new__(cls, *args)
        error._made_with = (args, kwargs)
        return error

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._made_with
        state = {name: value for name, value in self.__dict__.items() if name != "_made_with"}
        return _make_again, (type(self), args, kwargs), state


def _make_again(cls: type[FxhpcError], args: tuple[Any, ...], kwargs: dict[str, Any]) -> FxhpcError:
    return cls(*args, **kwargs)


FuncxError = FxhpcError  # funcX's name of the base
FuncXError = FxhpcError
ComputeError = FxhpcError  # Globus Compute's


class Told(FxhpcError):
    """An error whose argument is its text."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


def the_task(task_id: str) -> str:
    """How a sentence begins that is about a task."""
    return f"Task {task_id}" if task_id else "The task"
