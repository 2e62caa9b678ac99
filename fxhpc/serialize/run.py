"""One run of packing: what it has met, and what all reducers ask about it."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

from fxhpc.serialize import build, classes, references
from fxhpc.serialize.classes import Absent

#: Objects that are compared by identity, and that pickle would copy.
SINGLETONS: dict[int, tuple[Any, str]] = {
    id(getattr(dataclasses, name)): (getattr(dataclasses, name), name)
    for name in (
        "MISSING",
        "KW_ONLY",
        "_HAS_DEFAULT_FACTORY",
        "_FIELD",
        "_FIELD_CLASSVAR",
        "_FIELD_INITVAR",
    )
    if hasattr(dataclasses, name)
}
#: Values that do not change while they are the same object.
_STABLE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    type,
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    type(None),
    property,
    classmethod,
    staticmethod,
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    type(Absent),
)

Reduced = Any  # what reducer_override may return


class Run:
    """What one run of a pickler has met."""

    def prepare(self, inline: bool = False, token: bytes = b"") -> None:
        """Begin a run.

        Args:
            inline: dynamic classes are packed in place, else as bodies.
            token: of the Executor whose functions are to share their globals; see `spaces`.
        """
        self.inline = inline
        self.token = token
        self.modules: set[str] = set()  # user modules that are referred to by name
        self.dependencies: classes.Dependencies = []
        self.volatile = False  # refers to something that may change without being replaced
        self.namespaces: dict[int, tuple[Any, Any]] = {}
        self.cells: set[int] = set()
        self.written: set[int] = set()  # codes of methods that `dataclass` has written
        self.keep: list[Any] = []

    def by_name(self, obj: Any) -> bool:
        """Whether pickle may refer to it by its name: a worker can import it."""
        module = references.is_importable_object(obj)
        if module is None:
            return False
        self.note(module)
        return True

    def note(self, module: str) -> None:
        """The body refers to this module; if it is the user's, its source has to go along."""
        if references.user_module_of(module):
            self.modules.add(module)

    def is_dynamic(self, cls: type) -> bool:
        """Whether a class is to be packed by value."""
        return (
            bool(cls.__flags__ & build.HEAP_TYPE) and references.is_importable_object(cls) is None
        )

    # --- what a packed class depends on -------------------------------------------------------

    def depend(self, namespace: Any, name: str, value: Any) -> None:
        """The class at hand is packed again once this name has another value."""
        self.dependencies.append((namespace, name, value))
        self.judge(value)

    def judge(self, *values: Any) -> None:
        """If one of them may change in place, the class at hand is packed each time."""
        if not all(isinstance(value, _STABLE) or id(value) in SINGLETONS for value in values):
            self.volatile = True


class Call:
    """Packs as a call; what stands here is what it returns there."""

    def __init__(self, function: Any, args: tuple[Any, ...]) -> None:
        self._call = (function, args)

    def __reduce__(self) -> Reduced:
        return self._call


class Count(dict[str, Any]):
    """A namespace whose only value is how many names another has."""

    def __init__(self, counted: Any) -> None:
        super().__init__()
        self.counted = counted

    def get(self, name: str, default: Any = None) -> Any:
        return len(self.counted)


class Content(dict[str, Any]):
    """A namespace whose only value is what a cell holds."""

    def __init__(self, cell: types.CellType) -> None:
        super().__init__()
        self.cell = cell

    def get(self, name: str, default: Any = None) -> Any:
        return self.cell.cell_contents


def annotations_of(annotations: Any) -> Any:
    """Annotations without objects that mean nothing to a worker: those go as text."""
    if not isinstance(annotations, dict):
        return annotations
    return {name: _annotation(value) for name, value in annotations.items()}


def _annotation(value: Any) -> Any:
    module = type(value).__module__
    plain = value is None or isinstance(value, (str, type, types.GenericAlias, types.UnionType))
    return value if plain or module in ("typing", "dataclasses") else repr(value)
