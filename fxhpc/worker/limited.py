"""Says with a MemoryError which limit of memory the worker has; the error itself does not."""

from __future__ import annotations

import os
import resource

from fxhpc.units import format_bytes


def explain(error: MemoryError) -> None:
    """Add a note, if this worker runs tasks that have declared their memory, and gets no more."""
    declared = os.environ.get("FXHPC_MEMORY", "")
    most = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if most == resource.RLIM_INFINITY or not declared.isdigit():
        return
    note = (
        f"The task's limit of memory is {format_bytes(int(declared))} (resource_specification "
        f"memory), so each of its processes gets {format_bytes(most)} at most; declare more, or "
        f"let it use less."
    )
    if hasattr(error, "add_note"):
        error.add_note(note)
    elif not error.args:  # Python 3.10
        error.args = (note,)
