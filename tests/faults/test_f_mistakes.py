"""A mistake of our own after the store has answered: an error in words, and all goes on."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc import FuncXClient, errors
from fxhpc.forwarder import gathering, submitting
from tests.process.homes import TestHome
from tests.waiting import LIMIT, eventually

#: A forwarder that stores what is submitted, and does not know how to go on.
MISTAKEN = """
    import sys
    from fxhpc.forwarder import submitting
    from fxhpc.forwarder.process import main

    def oops(*_):
        raise KeyError("oops")

    submitting.Submitting._accept = oops
    sys.exit(main([sys.argv[1], "1"]))
"""


def test_f01_a_homes_forwarder_tells_and_begins_anew_with_what_is_stored(
    home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1: whoever submitted has an error in words; the forwarder ends, and the next one, which
    needs no other knowledge than the store's, goes on with all that was stored.
    """
    home.path.mkdir(mode=0o700)
    home.environment["FXHPC_FORWARDER_GRACE"] = "30"
    mistaken = home.start("mistaken.py", MISTAKEN, str(home.path))
    home.environment["FXHPC_FORWARDER_GRACE"] = "0.3"
    assert mistaken.stdout is not None
    assert mistaken.stdout.read() == "ready"
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    with FuncXClient() as client:
        function = client.register_function(abs)
        with pytest.raises(errors.ForwarderError, match=r"a mistake in fxhpc.*KeyError: 'oops'"):
            client.run(-1, endpoint_id="local", function_id=function)
        mistaken.wait(LIMIT)
        task = client.run(-2, endpoint_id="local", function_id=function)
        assert client.get_result(task, timeout=30) == 2
        # What the error said may have taken effect has.
        eventually(lambda: [one["status"] for one in client.tasks()] == ["success"] * 2)
    assert mistaken.stderr is not None
    assert "ending, so that the next forwarder begins with what is stored" in mistaken.stderr.read()


def test_f01_an_embedded_forwarder_tells_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where nothing outlives the process: it is told, and other work goes on."""
    accept = submitting.Submitting._accept
    calls = 0

    def fails_once(self: Any, accepted: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError("oops")
        accept(self, accepted)

    with FuncXClient(embedded=True) as client:
        function = client.register_function(abs)
        monkeypatch.setattr(submitting.Submitting, "_accept", fails_once)
        with pytest.raises(errors.ForwarderError, match=r"a mistake in fxhpc.*KeyError: 'oops'"):
            client.run(-1, endpoint_id="local", function_id=function)
        task = client.run(-2, endpoint_id="local", function_id=function)
        assert client.get_result(task, timeout=30) == 2


def test_f01_where_nobody_can_be_told_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are stored, and nobody learns of them: no future waits for ever."""

    def oops(*_: Any) -> None:
        raise KeyError("oops")

    with FuncXClient(embedded=True) as client:
        function = client.register_function(abs)
        monkeypatch.setattr(gathering.Gathering, "stored", oops)
        task = client.run(-1, endpoint_id="local", function_id=function)
        with pytest.raises(errors.ForwarderError, match="has failed: KeyError"):
            client.get_result(task, timeout=30)
