"""A wall clock that can be stepped for all Python processes that are started with it.

What preloads another clock into every program breaks their sleeps (libfaketime 0.9.10), and nothing
below Python asks for the wall clock here: so Python's own functions are replaced, before any module
is imported.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DAY_S = 86_400.0

_CUSTOMIZE = """
import functools
import os
import time

_time, _gettime = time.time, time.clock_gettime


def _step():
    try:
        with open(os.environ["STEPPED_CLOCK"]) as file:
            return float(file.read())
    except (KeyError, OSError):
        return 0.0


# Objects that are no functions: some classes have them as attributes.
time.time = functools.partial(lambda: _time() + _step())
time.time_ns = functools.partial(lambda: int(time.time() * 1e9))
time.clock_gettime = functools.partial(
    lambda clock: _gettime(clock) + (_step() if clock == time.CLOCK_REALTIME else 0.0)
)
"""


class SteppedClock:
    """The wall clock of whatever is started from here on; monotonic clocks stay as they are.

    Args:
        folder: where the step is written; processes read it whenever they ask for the time.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_CUSTOMIZE)
        self._file = folder / "step"
        self.step(0.0)
        monkeypatch.setenv("STEPPED_CLOCK", str(self._file))
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def step(self, seconds: float) -> None:
        """Set the clock to so many seconds after the true time."""
        draft = self._file.with_suffix(".new")
        draft.write_text(str(seconds))
        draft.replace(self._file)
