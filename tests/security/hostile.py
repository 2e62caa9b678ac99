"""Messages that a link may carry by its types, and that nobody in his right mind would send.

Made from the types themselves, so that a new message or field is in it at once.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import msgspec
from msgspec import inspect as types

from fxhpc.protocol.codec import DecodeError
from fxhpc.protocol.needs import Needs, pack

_STREAMS = [bytes([number]) * 12 for number in range(3)]
_NAMED = "5a4e0000-0000-4000-8000-000000000001"
_TEXTS = ["", "local", "success", "x" * 300, "\x1b[2J\r\n\0", _NAMED]
_NEEDS = [
    pack(Needs(cores=4000, memory=2**30)),
    pack(Needs(gpus=10**9, nodes=10**6, ranks=1, priority=-(10**12))),
    pack(Needs(cores=1, labels=("\x1b[2J",), environ=(("X", ""),))),
]
_FLOATS = [0.0, -1.0, 1e-9, 0.5, 1e18, -1e18, float("inf"), float("-inf"), float("nan")]
_NUMBERS = [0, 1, 2, 3, 5, 17, 1000, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, -1, -2, -(2**63)]


_type_info = functools.cache(types.type_info)  # which takes a millisecond


class Hostile:
    """Makes such messages, the same ones again from the same number.

    Args:
        source: of all that is chosen.
        streams: names of streams that exist, so that some of it means something.
    """

    def __init__(self, source: random.Random, streams: list[bytes] | None = None) -> None:
        self._source = source
        self._streams = [*(streams or []), *_STREAMS]

    def of(self, union: Any) -> Any:
        """A message of this union of types."""
        info = _type_info(union)
        choices = info.types if isinstance(info, types.UnionType) else (info,)
        return self._make(self._source.choice(choices), "")

    def garbled(self, frames: list[bytes]) -> list[bytes]:
        """The frames of a message, with something about them that is not as it was."""
        source = self._source
        frames = list(frames)
        head = bytearray(frames[0])
        kind = source.randrange(6)
        if kind == 0 and head:
            for _ in range(source.randrange(1, 6)):
                head[source.randrange(len(head))] = source.randrange(256)
        elif kind == 1:
            del head[source.randrange(len(head) + 1) :]
        elif kind == 2:
            at = source.randrange(len(head) + 1)
            head[at:at] = source.randbytes(source.randrange(1, 9))
        elif kind == 3:
            head = bytearray(source.randbytes(source.randrange(60)))
        elif kind == 4:
            frames.append(source.randbytes(5))
        else:
            return frames[: source.randrange(len(frames) + 1)]
        frames[0] = bytes(head)
        return frames

    def _make(self, info: Any, name: str) -> Any:
        source = self._source
        if isinstance(info, types.UnionType):
            kinds = {type(one): one for one in info.types}
            if kinds.keys() == {types.BytesType, types.IntType} and source.random() < 0.97:
                return self._make(
                    kinds[types.BytesType], name
                )  # a payload, seldom a frame's number
            return self._make(source.choice(info.types), name)
        if isinstance(info, types.StructType):
            values = [self._make(field.type, field.name) for field in info.fields]
            return info.cls(*values)
        if isinstance(info, types.ListType | types.VarTupleType):
            if name in ("ranges", "kinds"):
                return self._ranges()
            return [self._make(info.item_type, name) for _ in range(source.choice((0, 1, 1, 2, 4)))]
        if isinstance(info, types.TupleType):
            return tuple(self._make(one, "") for one in info.item_types)
        if isinstance(info, types.DictType):
            return {
                self._make(info.key_type, ""): self._make(info.value_type, "")
                for _ in range(source.randrange(3))
            }
        if isinstance(info, types.BytesType):
            if name in ("stream", "prefix"):
                return source.choice(self._streams)
            if name == "needs":
                return source.choice((b"", b"", *_NEEDS, b"f" * 32))
            return source.choice((b"", b"f" * 32, source.randbytes(16), b"x" * 700))
        if isinstance(info, types.StrType):
            return source.choice(_TEXTS)[: info.max_length]
        if isinstance(info, types.BoolType):
            return source.random() < 0.5
        if isinstance(info, types.FloatType):
            return source.choice(_FLOATS)
        if isinstance(info, types.IntType):
            return self._number(info)
        if isinstance(info, types.AnyType):
            return source.choice((None, 1, "x", b"y", [1], {"a": 1}))
        if isinstance(info, types.EnumType):
            return source.choice(list(info.cls))
        assert isinstance(info, types.NoneType), info
        return None

    def _number(self, info: types.IntType) -> int:
        low = -(2**63) if info.ge is None else info.ge
        high = 2**63 - 1
        if info.le is not None:
            high = info.le
        elif info.lt is not None:
            high = info.lt - 1
        if self._source.random() < 0.7:
            return self._source.randrange(max(low, 0), min(high, 6) + 1)
        return self._source.choice([n for n in _NUMBERS if low <= n <= high])

    def _ranges(self) -> list[int]:
        source = self._source
        found: list[int] = []
        for _ in range(source.randrange(3)):
            found += [source.choice((0, 1, 3, 2**31, 2**32 - 1)), source.choice((0, 1, 2, 5))]
        if source.random() < 0.05:
            found.append(1)
        return found


def encoded(message: Any) -> list[bytes]:
    """The frames of a message, and one that holds a large payload if it names one."""
    return [msgspec.msgpack.encode([1, 0, message]), b"a large payload"]


def decodes(codec: Any, frames: list[bytes]) -> Any:
    """The message, or None if the codec says that it is none."""
    try:
        return codec.decode(frames).message
    except DecodeError:
        return None
