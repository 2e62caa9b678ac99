"""The cyclic garbage collector, which waits while very much is made that stays."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Tasks told of together beyond which it is worth it.
MANY = 5000


def without_collecting(call: Callable[..., T], *arguments: Any) -> T:
    """Call this while nothing is collected: what makes thousands of objects that stay has the
    collector look at all of them, again and again, and find nothing.

    It stands still in all threads, so a call is to be short, and to wait for nobody. Who has it
    switched off, finds it so afterwards.
    """
    if not gc.isenabled():  # by a user, or by another thread in here: who did that ends it
        return call(*arguments)
    try:
        gc.disable()
        return call(*arguments)
    finally:
        gc.enable()  # of C: no signal's handler comes between
