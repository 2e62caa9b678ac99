"""Results to bytes and back."""

from __future__ import annotations

import pickle
import sys
from typing import Any

from fxhpc.errors import MaxResultSizeExceeded, SerializationError
from fxhpc.serialize import spilled
from fxhpc.serialize.pack import pack

#: Types that any pickle carries as they are: see `calls`.
_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_dumps = pickle.dumps
_loads = pickle.loads


def pack_result(value: Any, limit: int) -> bytes:
    """What a function returned, as bytes.

    Raises:
        MaxResultSizeExceeded: it is more than `limit` bytes.
        SerializationError: a part of it cannot be packed; the text names it.
    """
    data = _dumps(value, 5) if type(value) in _PLAIN else pack(value, "the result")[0]
    if len(data) > limit:
        raise MaxResultSizeExceeded(len(data), limit)
    return data


def pack_or_spill(value: Any, limit: int, directory: str, stream: bytes, index: int) -> bytes:
    """As `pack_result`; what is larger goes to a file in `directory`, and a reference is returned.

    Args:
        stream, index: the task's.

    Raises:
        MaxResultSizeExceeded: the file cannot be written.
        SerializationError: a part of it cannot be packed; the text names it.
    """
    data = pack_result(value, sys.maxsize)
    if len(data) > limit:
        return spilled.write(data, limit, directory, stream, index)
    return data


def unpack_result(data: bytes | memoryview | spilled.Adopted) -> Any:
    """What a function returned; it is read from its file, if it lies in one.

    Raises:
        SpilledResultLost: the file is missing, or is not as it was written.
        SerializationError: it cannot be made here, whatever its own code raised on the way.
    """
    try:
        return _loads(data)  # type: ignore[arg-type]
    except (Exception, SystemExit, GeneratorExit) as error:
        # Here, since a look at each result would cost a third of what unpacking a small one does.
        if not spilled.is_spilled(data):
            raise SerializationError(
                f"Result Object Deserialization: {type(error).__name__}: {error}{advice(error)}"
            ) from error
    return unpack_result(data.read() if isinstance(data, spilled.Adopted) else spilled.read(data))


def advice(error: BaseException) -> str:
    """What to do about an error of unpacking, as the end of a sentence."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f". Module {error.name} is not there on this side: install it, or put its directory "
            f"on PYTHONPATH (for an endpoint in its `worker_init`)"
        )
    if isinstance(error, (ImportError, AttributeError)):
        return ". Are the versions of the packages the same on both sides?"
    return ""
