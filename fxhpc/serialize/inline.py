"""Dynamic classes taken apart, in place: what the body of a class is made of."""

from __future__ import annotations

import enum
import types
from typing import Any

from fxhpc.serialize import build, classes, twins
from fxhpc.serialize.run import Call, Count, Reduced, Run, annotations_of

_METHODS = (types.FunctionType, property, classmethod, staticmethod)


class InlineClasses(Run):
    """How classes and members of Enums are taken apart."""

    def inline_class(self, cls: type) -> Reduced:
        """A class as its bases, its methods and the rest of its names."""
        own = vars(cls)
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        if "__slots__" in own:
            names["__slots__"] = own["__slots__"]
        methods: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in own.items():
            if not build.is_own_name(cls, name):
                continue
            hidden = name.startswith("_") and name.endswith("_")
            if hidden and not isinstance(value, types.FunctionType):
                self.dependencies.append((own, name, value))
            else:
                self.depend(own, name, value)
            if isinstance(value, types.FunctionType) and value.__module__ == "dataclasses":
                methods[name] = Call(build.if_there, ("dataclasses", value.__name__))
            elif name == "_boundary_" and isinstance(value, enum.Enum):  # of a Flag, since 3.11
                others[name] = Call(build.if_there, ("enum", f"FlagBoundary.{value.name}"))
            elif isinstance(value, _METHODS):
                methods[name] = value
            else:
                others[name] = annotations_of(value) if name == "__annotations__" else value
        # Names that a class gets later: only their number is known beforehand.
        self.dependencies.append((Count(own), "", len(own)))
        registered: list[type] = []
        if "_abc_impl" in own:
            import _abc  # type: ignore[import-not-found]

            registered = [ref() for ref in _abc._get_dump(cls)[0] if ref() is not None]
        args = (
            classes.entry_of(cls).token,
            classes.fields_of(cls),
            type(cls),
            cls.__name__,
            cls.__bases__,
            names,
        )
        state = (
            Call(build.set_methods, (cls, methods)),
            others,
            registered,
            build.python_version(),
            self._written_by_dataclass(cls),
        )
        return build.make_class, args, state, None, None, build.set_class

    def _written_by_dataclass(self, cls: type) -> list[str]:
        codes = twins.candidates(cls)
        if not codes:
            return []
        entry = classes.entry_of(cls)
        if entry.written is None or entry.written[0] != codes:
            entry.written = codes, twins.written(cls, codes)
        names = entry.written[1]
        self.written.update(id(code) for name in names for code in codes[name])
        return names

    def enum_member(self, member: Any) -> Reduced:
        """A member as its value and attributes."""
        cls = type(member)
        data_type = cls._member_type_
        arguments = data_type.__getnewargs__(member) if hasattr(data_type, "__getnewargs__") else ()
        # Pickle must not ask the member how it wants to be packed: by its value, in a class
        # that is not there yet.
        name = member._name_ or ""
        return (
            build.enum_member,
            (cls, name, arguments),
            dict(vars(member)),
            None,
            None,
            build.set_enum_member,
        )
