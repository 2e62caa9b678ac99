"""What tests of the provisioner share: one that is spoken to, and a batch system that stands in."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from fxhpc.forwarder.attach import module_environment
from fxhpc.interchange.blocks.provisioning import ProvisionerProcess
from fxhpc.protocol import provision as pro
from tests.waiting import eventually

STANDIN = Path(__file__).resolve().parents[1] / "scheduler" / "pbs"

#: What an endpoint's block may be called.
NAME = "fxhpc-midway-0123abcd"


class Batch:
    """The batch system of `tests/scheduler/pbs`, with a directory of its own."""

    def __init__(self, path: Path, setenv: Callable[[str, str], None]) -> None:
        self.path = path
        path.mkdir()
        setenv("PBS_STANDIN", str(path))
        setenv("PATH", os.pathsep.join([str(path / "bin"), str(STANDIN), os.environ["PATH"]]))

    def set(self, name: str, text: str) -> None:
        """Write one of its files: `slots`, `queues`, `fault`, `fault.qsub`."""
        (self.path / name).write_text(text)

    def heal(self) -> None:
        """No faults any more."""
        for path in self.path.glob("fault*"):
            path.unlink()

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that ever were."""
        return [json.loads(path.read_text()) for path in (self.path / "jobs").glob("*.json")]

    def alive(self) -> list[dict[str, Any]]:
        """Those that have not ended."""
        return [job for job in self.jobs() if job["state"] != "F"]

    def calls(self, tool: str) -> int:
        """How often a command was run."""
        calls = self.path / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return sum(line.split()[0] == tool for line in lines)


class Spoken:
    """A provisioner process, and somebody who speaks with it as an interchange does."""

    def __init__(self, spec: pro.ProvisionerSpec) -> None:
        os.environ.update(PYTHONPATH=module_environment().get("PYTHONPATH", ""))
        Path(spec.directory).mkdir(parents=True, exist_ok=True)
        self.spec = spec
        self.process = ProvisionerProcess(spec)
        self._heard: list[pro.FromProvisioner] = []
        self.gone = ""
        self.process.look_after()

    def hear(self, kind: type[Any], within: float = 30.0) -> Any:
        """The next message of this kind."""

        def look() -> object:
            if self.process.fd >= 0:
                select.select([self.process.fd], [], [], 0.05)
            said, gone = self.process.receive()
            self._heard += said
            killed = self.process.look_after()
            self.gone = self.gone or gone or killed
            return next((message for message in self._heard if isinstance(message, kind)), None)

        found = eventually(look, within)
        self._heard.remove(found)  # type: ignore[arg-type]
        return found

    def submit(self, number: int) -> Any:
        """Submit a block: what is answered."""
        self.process.send(pro.SubmitBlock(ref(number)))
        return self.hear((pro.Submitted, pro.NotSubmitted))  # type: ignore[arg-type]

    def look(self, *blocks: pro.BlockRef) -> pro.Jobs:
        """Ask how blocks are."""
        self.process.send(pro.AskJobs(list(blocks)))
        answer: pro.Jobs = self.hear(pro.Jobs)
        return answer

    def phase(self, block: pro.BlockRef) -> str:
        """In which phase a block is."""
        return self.look(block).reports[0].phase

    def cancel(self, *blocks: pro.BlockRef) -> pro.CancelDone:
        """Cancel blocks."""
        self.process.send(pro.CancelBlocks(list(blocks)))
        answer: pro.CancelDone = self.hear(pro.CancelDone)
        return answer

    def kill(self) -> None:
        """End it by SIGKILL; its successor starts at once."""
        psutil.Process(self.process.pid).send_signal(signal.SIGKILL)
        eventually(lambda: self.process.receive()[1])
        eventually(lambda: self.process.look_after() or self.process.pid)

    def close(self) -> None:
        """End it."""
        self.process.close()


def ref(number: int, job: str = "") -> pro.BlockRef:
    """A block."""
    return pro.BlockRef(number, f"{NAME}-{number}", job)


def spec(directory: Path, kind: str = "PBSProProvider", **changes: Any) -> pro.ProvisionerSpec:
    """What a provisioner is told; a block runs `sleep` if nothing else is said."""
    provider = {"type": kind, **changes.pop("provider", {})}
    values: dict[str, Any] = {
        "endpoint": "midway",
        "directory": str(changes.pop("folder", directory) / "blocks"),
        "command": "sleep 600",
        "walltime_s": 3600.0,
        "command_s": 20.0,
        "log_file": str(directory / "provisioner.log"),
        **changes,
    }
    return pro.ProvisionerSpec(provider=provider, **values)


PYTHON = sys.executable
