"""Whether this process is a child that a task has forked: it must do nothing of the worker's."""

from __future__ import annotations

import os

is_child = False


def _note() -> None:
    global is_child
    is_child = True


def watch() -> None:
    """From now on, children note that they are such."""
    os.register_at_fork(after_in_child=_note)
