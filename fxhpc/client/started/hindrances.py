"""What keeps a private endpoint from running tasks: said on standard error, and when to give up."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from fxhpc import errors

_PATIENCE_S = 10.0  # that tasks may wait for a first worker without a word
_SAY_EVERY_S = 60.0  # between two words about it
_HOPELESS_S = 4.0  # that an endpoint must be without hope until its tasks are given up

#: Blocks in these states bring nothing any more.
_LEAVING = ("draining", "cancelling")


class _Block(msgspec.Struct):
    state: str = ""


class _Blocks(msgspec.Struct):
    """The part of a `messages.EndpointReport` that says whether blocks may come."""

    blocks: list[_Block] = []
    paused: str = ""


class _Report(msgspec.Struct):
    """The part of an endpoint's `status.json` that its user is told of."""

    workers: int = 0
    queued: int = 0
    reason: str = ""
    report: _Blocks = msgspec.field(default_factory=_Blocks)


class Hindrances:
    """Reads what an endpoint reports while it lives.

    It says on standard error why tasks wait for their first worker, if that takes long. And it
    finds out that no worker will ever come: no block is asked for until somebody acts, and nobody
    can, since the configuration of a private endpoint does not change while it lives.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: float | None = None  # when tasks were first seen to wait for any worker
        self._said_at = -_SAY_EVERY_S
        self._said = ""
        self._hopeless_since: float | None = None

    def look(self, directory: Path, now: float) -> errors.NodesUnavailable | None:
        """Read what the interchange reports, and say why nothing runs: once, or if that changes.

        Returns:
            Why no worker will ever come, if that has been so for some time.
        """
        try:
            report = msgspec.json.decode((directory / "status.json").read_bytes(), type=_Report)
        except (OSError, msgspec.MsgspecError):
            return None
        self._say(report, now)
        told = report.report
        comes = report.workers or any(block.state not in _LEAVING for block in told.blocks)
        if not told.paused or comes:
            self._hopeless_since = None
            return None
        self._hopeless_since = now if self._hopeless_since is None else self._hopeless_since
        if now - self._hopeless_since < _HOPELESS_S:
            return None
        why = told.paused.partition("; fix it, then: ")[0]
        return errors.NodesUnavailable(
            self._name,
            f"no node will come to run the tasks of this executor: {why}",
            "mend its config, and make another executor",
        )

    def _say(self, report: _Report, now: float) -> None:
        if report.workers or not report.queued or not report.reason:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if report.reason == self._said or now - self._since < _PATIENCE_S:
            return
        if now - self._said_at >= _SAY_EVERY_S:
            self._said, self._said_at = report.reason, now
            print(f"fxhpc: tasks of {self._name} wait: {report.reason}", file=sys.stderr)
