"""How soon an interchange that died is started again."""

from __future__ import annotations

import subprocess
import sys

from fxhpc.endpoint.restarts import (
    EARLY_S,
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    LONGEST_SERVED_S,
    MANY,
    Restarts,
)


def test_early_deaths_in_a_row_wait_longer_and_longer() -> None:
    restarts = Restarts()
    delays = [restarts.died(0.1) for _ in range(20)]
    assert delays == sorted(delays)
    assert delays[:2] == [0.0, FIRST_DELAY_S]
    assert delays[-1] == LONGEST_DELAY_S
    assert restarts.total == 20


def test_many_early_deaths_are_trouble_until_one_lives() -> None:
    restarts = Restarts()
    for _ in range(MANY - 1):
        restarts.died(0.1)
    assert not restarts.is_trouble
    restarts.died(0.1)
    assert restarts.is_trouble
    assert not restarts.lived(EARLY_S / 2)
    assert restarts.lived(EARLY_S)
    assert not restarts.is_trouble
    assert not restarts.lived(2 * EARLY_S)  # told once


def test_a_late_death_is_no_row() -> None:
    restarts = Restarts()
    restarts.died(0.1)
    assert restarts.died(EARLY_S) == 0.0
    assert restarts.in_a_row == 0


def test_one_that_has_served_is_not_away_for_long() -> None:
    restarts = Restarts()
    assert max(restarts.died(1.0, served=True) for _ in range(100)) == LONGEST_SERVED_S
    # Killed once more, by chance while it started: that alone says nothing.
    assert restarts.died(0.1) == LONGEST_SERVED_S
    assert restarts.died(0.1) == FIRST_DELAY_S


def test_a_supervisor_imports_little() -> None:
    code = (
        "import sys, fxhpc.endpoint.supervisor; "
        "heavy = ('zmq', 'psutil', 'pydantic', 'yaml', 'click', 'rich', 'parsl', 'dill'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
