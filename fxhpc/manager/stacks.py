"""What a dead worker wrote last, without what tells users nothing: frames and signals of ours."""

from __future__ import annotations

import re

#: Where frames of ours begin, seen from a user's: what called the function.
_OURS = f'File "{__file__.rpartition("/manager/")[0]}/worker/'
_ABORTED = "Fatal Python error: Aborted"
_DUMP = re.compile(rb"Fatal Python error: Aborted\n\n(?:Current thread|Thread) 0x")
_STACK = re.compile(r"(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):")


def users_part(text: str, ended: bool = False) -> str:
    """The last lines that a worker wrote; of stacks that `faulthandler` told, the user's frames.

    Args:
        ended: the worker was made to tell where it was, and then ended: nothing had crashed.
    """
    if "(most recent call first):" not in text:
        return text
    kept: list[str] = []
    in_stack = skips = False  # whether the rest of it is ours
    for line in text.split("\n"):
        if _STACK.match(line):
            in_stack, skips = True, False
            # The one that runs Python comes first, whatever else the process was made to tell.
            first = ended and line.startswith("Current thread")
            kept.append("Where it was (most recent call first):" if first else line)
        elif in_stack and line.startswith("  "):
            # Where all of it is ours, that is where it was.
            skips = skips or (kept[-1].startswith("  ") and line.lstrip().startswith(_OURS))
            if not skips:
                kept.append(line)
        elif line.startswith("Extension modules: ") or (ended and line == _ABORTED):
            in_stack = False
        else:
            in_stack = False
            if line or (kept and kept[-1]):  # one empty line is enough
                kept.append(line)
    return "\n".join(kept).strip("\n")


def before_end(written: bytes) -> bytes:
    """What a worker had written before it was made to tell where it was, and was ended."""
    dumps = list(_DUMP.finditer(written))
    return written[: dumps[-1].start()] if dumps else written
