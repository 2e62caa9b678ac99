"""A MemoryError of a worker whose memory is limited names the limit."""

from __future__ import annotations

import resource

import pytest

from fxhpc import serialize
from fxhpc.serialize import unpack_exception
from fxhpc.worker.run import Runner

MB = 2**20


def told(monkeypatch: pytest.MonkeyPatch, most: int, declared: str | None) -> str:
    """What the user sees of a MemoryError."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, -1))
    if declared is None:
        monkeypatch.delenv("FXHPC_MEMORY", raising=False)
    else:
        monkeypatch.setenv("FXHPC_MEMORY", declared)
    return str(unpack_exception(Runner(serialize).pack_error(MemoryError(), 10_000)))


def test_the_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(monkeypatch, 712 * MB, str(100 * MB))
    assert "limit of memory is 100.0 MB (resource_specification memory)" in text
    assert "each of its processes gets 712.0 MB at most" in text


def test_where_nothing_is_limited_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "limit" not in told(monkeypatch, resource.RLIM_INFINITY, str(100 * MB))
    assert "limit" not in told(monkeypatch, 712 * MB, None)
    assert "limit" not in told(monkeypatch, 712 * MB, "much")
