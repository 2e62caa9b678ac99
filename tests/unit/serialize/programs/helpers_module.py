"""A user module beside the script: outside site-packages, with something that does not pack."""

import threading

LOCK = threading.RLock()
OFFSET = 10


class Vector:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None


def shift(x):
    with LOCK:
        return x + OFFSET


def make_adder(n):
    def adder(x):
        with LOCK:  # a global of this module: reached by its name, never sent
            return shift(x) + n

    return adder


def twice(fn):
    import functools

    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        with LOCK:
            return 2 * fn(*args, **kwargs)

    return wrapper
