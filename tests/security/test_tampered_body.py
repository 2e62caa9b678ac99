"""A function's bytes that are not those of its name are never unpickled."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

from fxhpc.serialize import pack_function
from tests.process.workers.interchange import Interchange
from tests.process.workers.manager import error, interchange, values

__all__ = ["interchange"]


class Evil:
    """Unpickling it leaves a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (self.path,)


def double(value: int) -> int:
    return 2 * value


def triple(value: int) -> int:
    return 3 * value


@pytest.mark.parametrize("kind", ["a pickle that acts", "another function", "one bit"])
def test_f12_a_body_that_was_changed_on_the_link(
    interchange: Interchange, tmp_path: Path, kind: str
) -> None:
    """The manager is sent other bytes under a function's SHA-256: its tasks end with an error that
    says so, nothing of the bytes is run, and the workers go on with other functions.
    """
    trace = tmp_path / "acted"
    body = pack_function(double).body
    changed = {
        "a pickle that acts": pickle.dumps(Evil(str(trace))),
        "another function": pack_function(triple).body,
        "one bit": body[:-3] + bytes([body[-3] ^ 1]) + body[-2:],
    }[kind]
    digest = hashlib.sha256(body).digest()
    assert hashlib.sha256(changed).digest() != digest

    class Tampering(dict[bytes, bytes]):
        def __setitem__(self, name: bytes, data: bytes) -> None:
            super().__setitem__(name, changed if name == digest else data)

    interchange._bodies = Tampering()
    (outcome,) = interchange.run(double, (21,))
    text = error(outcome)
    assert "its bytes were changed on the way" in text
    assert digest.hex()[:16] in text
    assert not trace.exists()
    assert values(interchange.run(triple, (5,))) == [15]
