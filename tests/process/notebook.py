"""A real Jupyter kernel, as a notebook drives it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from queue import Empty

from homes import TestHome
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager
from lives import GRACE

from tests.waiting import LIMIT


class _ThisPython(KernelSpecManager):
    """Knows one kernel: this interpreter, whatever is installed for the user."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python",
            language="python",
        )


class CellFailed(AssertionError):
    """A cell raised; the text is the name and the value of the error."""


class Notebook:
    """A kernel; use it as a context manager.

    Attributes:
        html: what the last line of the last cell was as HTML, if it had any.
        displays: what cells show by now in places that they write to again, by the places' names.
    """

    html = ""

    def __init__(self, home: TestHome, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.displays: dict[str, str] = {}
        self._manager = KernelManager(
            kernel_spec_manager=_ThisPython(),
            connection_file=str(folder / "kernel.json"),
            transport="ipc",
            ip=str(folder / "kernel"),
        )
        environment = {
            **home.environment,
            "FXHPC_FORWARDER_GRACE": GRACE,
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }
        self._manager.start_kernel(env=environment, cwd=str(folder))
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LIMIT)

    @property
    def pid(self) -> int:
        """The kernel's process."""
        return int(self._manager.provisioner.pid)

    def begin(self, code: str) -> str:
        """Run a cell, and go on; the id is for `end`."""
        return str(self._client.execute(code))

    def until_said(self, cell: str, within: float = LIMIT) -> None:
        """Wait until a cell has printed something."""
        deadline = time.monotonic() + within
        while True:
            message = self._client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") == cell and message["msg_type"] == "stream":
                return

    def end(self, cell: str, within: float = LIMIT) -> str:
        """Wait for a cell: what it printed, and what its last line was.

        Raises:
            CellFailed: it raised.
        """
        said, error = "", ""
        deadline = time.monotonic() + within
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"the cell did not end within {within} s") from None
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                said += content["text"]
            elif kind == "execute_result":
                said += content["data"]["text/plain"]
                self.html = content["data"].get("text/html", "")
            elif kind in ("display_data", "update_display_data"):
                place = content.get("transient", {}).get("display_id", message["header"]["msg_id"])
                self.displays[place] = content["data"]["text/plain"]
            elif kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                if error:
                    raise CellFailed(error)
                return said

    def run(self, code: str) -> str:
        """Run a cell to its end."""
        return self.end(self.begin(code))

    def interrupt(self) -> None:
        """What the stop button does."""
        self._manager.interrupt_kernel()

    def restart(self, now: bool = False) -> None:
        """What the restart button does; `now` kills."""
        self._manager.restart_kernel(now=now)
        self._client.wait_for_ready(timeout=LIMIT)

    def close(self) -> None:
        """End the kernel."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
