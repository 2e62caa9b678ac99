"""How a supervisor tells, once, whoever started it that the endpoint is up, or why it is not."""

from __future__ import annotations

import contextlib
import json
import os

from fxhpc.endpoint.child import READY

#: What is said over FD instead of "ready" if another supervisor was faster.
BUSY = "busy"
#: And if another command stopped the endpoint before it was up.
STOPPED = "stopped"


class Report:
    """Tells once, over a descriptor, that the endpoint is up, or why it is not."""

    def __init__(self, descriptor: int, name: str, as_json: bool) -> None:
        self._descriptor = descriptor
        self._name = name
        self._as_json = as_json

    def say(self, text: str) -> None:
        """Say `READY`, `BUSY`, `STOPPED` or a sentence; only the first is said."""
        if self._descriptor < 0:
            return
        if self._as_json:
            said: dict[str, object] = {"name": self._name, "state": "running", "pid": os.getpid()}
            if text != READY:
                words = {
                    BUSY: "it is being started by another process",
                    STOPPED: "another command stopped it before it was up",
                }
                said = {
                    "error": f"endpoint {self._name!r}: {words.get(text, text)}",
                    "kind": "EndpointRunning" if text == BUSY else "EndpointStartFailed",
                    "hint": f"see: fxhpc endpoint logs {self._name}",
                }
            text = json.dumps(said) + "\n"
        with contextlib.suppress(OSError):  # whoever started this process does not wait any more
            os.write(self._descriptor, text.encode())
            os.close(self._descriptor)
        self._descriptor = -1
