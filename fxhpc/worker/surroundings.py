"""What a task finds around it, on an endpoint that wants it so: its id, a directory of its own."""

from __future__ import annotations

import os

from fxhpc.ids import stream_prefix
from fxhpc.worker.state import State


class Surroundings:
    """Sets the variables of each task, and makes its directory.

    Args:
        sandbox: the directory in which each task gets one named by its id, that stays; empty: none.
    """

    def __init__(self, state: State, sandbox: str) -> None:
        self._state = state
        self._sandbox = sandbox
        self._stream = b""
        self._prefix = ""

    def enter(self, stream: bytes, index: int) -> None:
        """The next task is this.

        Raises:
            OSError: its directory cannot be made.
        """
        if stream != self._stream:
            self._stream, self._prefix = stream, stream_prefix(stream)
        task = f"{self._prefix}{index:08x}"
        encoded = task.encode()
        set_variable = self._state.set_variable
        set_variable("FXHPC_TASK_ID", b"FXHPC_TASK_ID", task, encoded)
        set_variable("GC_TASK_UUID", b"GC_TASK_UUID", task, encoded)
        if self._sandbox:
            directory = os.path.join(self._sandbox, task)
            try:
                os.makedirs(directory, 0o700, exist_ok=True)
                os.chdir(directory)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"the directory of task {task} (run_in_sandbox) could not be made: "
                    f"{error.strerror}",
                    directory,
                ) from None
            set_variable(
                "GC_TASK_SANDBOX_DIR", b"GC_TASK_SANDBOX_DIR", directory, os.fsencode(directory)
            )
