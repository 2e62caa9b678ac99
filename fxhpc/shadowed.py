"""Files of a user that stand in the place of Python's own modules: `random.py` beside a script."""

from __future__ import annotations

import os
import sys

#: Directories of what is installed, which may replace a module on purpose, as setuptools does.
_INSTALLED = {"site-packages", "dist-packages"}


def shadowed() -> str:
    """A file that was imported in the place of a module of Python's own; empty: there is none."""
    own = os.path.realpath(os.path.dirname(os.__file__)) + os.sep
    for name in sorted(sys.stdlib_module_names):
        path = getattr(sys.modules.get(name), "__file__", None)
        if not isinstance(path, str) or _INSTALLED & set(path.split(os.sep)):
            continue
        if not os.path.realpath(path).startswith((own, f"{sys.base_prefix}{os.sep}lib")):
            return path
    return ""


def to_blame(error: BaseException, advice: str) -> str:
    """Who is to blame for an error that nobody expected, and what to do.

    Args:
        advice: what to do if it is a mistake of fxhpc.
    """
    if path := shadowed():
        return (
            f"{path} has the name of one of Python's own modules, and was imported in its place; "
            f"rename it ({error!r})"
        )
    return f"a mistake in fxhpc, {advice} ({error!r})"
