"""Ctrl-C at each place where CPython looks for it, in turn."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


class Interrupts:
    """Raises KeyboardInterrupt at the n-th place in some modules where CPython looks for signals:
    where a function begins, after a call, and where a loop turns.

    Args:
        times: so many places in a row are interrupted, from there on.
    """

    def __init__(self, modules: tuple[ModuleType, ...], place: int, times: int = 1) -> None:
        self._files = {module.__file__ for module in modules}
        self.left = place
        self.times = times

    def run(self, job: Callable[[], object]) -> bool:
        """Whether it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            job()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    def _enter(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        names, last = _names(frame.f_code), [""]

        def step(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
            if event == "opcode":
                looks = last[0].startswith(("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE"))
                last[0] = names.get(frame.f_lasti, "")
                if looks:
                    self._look()
            return step

        self._look()
        return step

    def _look(self) -> None:
        self.left -= 1
        if self.left < 0 and self.times:
            self.times -= 1
            raise KeyboardInterrupt


def until_done(
    modules: tuple[ModuleType, ...], times: int, job: Callable[[], object]
) -> Iterator[None]:
    """Do a job again and again, interrupted at each of its places in turn."""
    place = 0
    while Interrupts(modules, place, times).run(job):
        place += 1
        yield
    assert place > 10, place  # else nothing was traced
