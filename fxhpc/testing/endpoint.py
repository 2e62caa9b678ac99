"""A named endpoint with real processes on this host: an interchange and managers to kill."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fxhpc.endpoint import launch
from fxhpc.forwarder.attach import module_environment
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import InterchangeSpec, ProvisionerSpec, ScalingPolicy
from fxhpc.protocol.sizes import SizeLimits
from fxhpc.testing.keeper import Keeper

#: Seconds that a process may take to be ready, or to end.
_PATIENCE_S = 20.0


class RunningEndpoint:
    """An endpoint of a home; its managers connect over tcp with CURVE, on the loopback.

    Args:
        home: the home's directory.
        name: the endpoint's.
        managers, workers: how many managers, and workers of each.
        keep: what ends is started again, as a supervisor and a block would: a thread looks to it.
        spec: what the interchange is told, if it is not as usual.

    Attributes:
        interchange: its process; None before it was started.
        managers: their processes. With `keep`, each place in the list has another one after a kill.
        keep: as given; made false, what ends from then on stays dead.
    """

    def __init__(
        self,
        home: str | os.PathLike[str],
        name: str,
        managers: int = 1,
        workers: int = 1,
        *,
        keep: bool = False,
        spec: InterchangeSpec | None = None,
    ) -> None:
        Home(home).create()
        self.name = name
        self.directory = EndpointDirectory(Path(home) / "endpoints" / name)
        self.endpoint_id = self.directory.create(name).endpoint
        self._count = managers
        self._workers = workers
        self.keep = keep
        self._keeper = Keeper(name, self._start_again) if keep else None
        self._spec = spec
        self._changes: list[dict[str, Any]] = []  # of each manager
        self.interchange: subprocess.Popen[bytes] | None = None
        self.managers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> RunningEndpoint:
        self.start_interchange(self._spec)
        for _ in range(self._count):
            self.start_manager()
        if self._keeper is not None:
            self._keeper.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start_interchange(self, spec: InterchangeSpec | None = None) -> None:
        """Start the interchange, by default on the loopback; returns when it can be spoken to.

        Raises:
            RuntimeError: it does not start; the text says why.
        """
        self._spec = spec
        self._note_limits((spec or InterchangeSpec()).limits)
        reader, writer = os.pipe()
        try:
            flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
            with os.fdopen(os.open(self.directory.log, flags, 0o600), "ab") as log:
                self.interchange = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "fxhpc.interchange",
                        str(self.directory.path),
                        str(writer),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=module_environment(),
                    pass_fds=(writer,),
                    start_new_session=True,
                )
        finally:
            os.close(writer)
        assert self.interchange.stdin is not None
        with self.interchange.stdin as pipe:
            pipe.write(msgspec.msgpack.encode(spec or InterchangeSpec()))
        with open(reader, "rb") as answer:
            said = answer.read().decode()
        if said != "ready":
            code = self.interchange.wait(_PATIENCE_S)
            said = said or f"it ended with exit code {code}; see {self.directory.log}"
            raise RuntimeError(f"the interchange did not start: {said}")

    def _note_limits(self, limits: SizeLimits) -> None:
        """Write down what the forwarder is to know of them, as a start does."""
        record = self.directory.read_record()
        if record is not None and record.limits != limits:
            record = msgspec.structs.replace(record, limits=limits)
            replace_file(self.directory.record, msgspec.json.encode(record))

    def blocks_spec(
        self,
        provider: dict[str, Any] | None = None,
        *,
        worker_init: str = "",
        command: str = "",
        command_s: float = 10.0,
        bind: str = "tcp://127.0.0.1:*",
        **policy: Any,
    ) -> InterchangeSpec:
        """What an interchange is told that asks for blocks, by default for processes of this host.

        Args:
            provider: as `ProvisionerSpec` has it.
            worker_init: shell lines before the manager.
            command: what a block runs instead of a manager.
            command_s: seconds that a command of the batch system may take.
            policy: fields of `ScalingPolicy` that are not as usual.
        """
        directory = self.directory
        usual: dict[str, Any] = {"max_idle_s": 60.0, "poll_s": 1.0, "max_blocks": 1}
        scaling = ScalingPolicy(**{**usual, **policy})
        return InterchangeSpec(
            bind=bind,
            log_file=str(directory.log),
            scaling=scaling,
            provisioner=ProvisionerSpec(
                endpoint=self.name,
                provider=provider or {"type": "LocalProvider"},
                directory=str(directory.blocks),
                command=command or launch.command(directory),
                worker_init=worker_init,
                walltime_s=scaling.walltime_s,
                command_s=command_s,
                log_file=str(directory.logs / "provisioner.log"),
            ),
            manager=ManagerSpec(
                endpoint=b"",
                workers=self._workers,
                address_file=str(directory.managers_address),
                key_file=str(directory.manager_key),
                log_dir=str(directory.manager_logs),
                walltime_s=scaling.walltime_s,
                cwd=str(directory.path),
            ),
        )

    def start_manager(self, **changes: Any) -> subprocess.Popen[bytes]:
        """Start a manager, as a batch job would on a node.

        Args:
            changes: fields of `ManagerSpec` that are not as usual.
        """
        self._changes.append(changes)
        self.managers.append(self._new_manager(len(self.managers), changes))
        return self.managers[-1]

    def _new_manager(self, place: int, changes: dict[str, Any]) -> subprocess.Popen[bytes]:
        self.directory.keys("manager")
        usual: dict[str, Any] = {
            "endpoint": b"",
            "workers": self._workers,
            "address_file": str(self.directory.managers_address),
            "key_file": str(self.directory.manager_key),
            "manager": secrets.token_hex(8),
            "cwd": str(self.directory.path),
            "log_file": str(self.directory.path / f"manager-{place}.log"),
        }
        spec = ManagerSpec(**{**usual, **changes})
        process = subprocess.Popen(
            [sys.executable, "-m", "fxhpc.manager"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=module_environment(),
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it may be dead by now
            pipe.write(msgspec.msgpack.encode(spec))
        return process

    def _start_again(self) -> None:
        """Start what has ended, if that is wanted.

        Raises:
            RuntimeError: the interchange does not start.
        """
        for place, manager in enumerate(self.managers):
            if self.keep and manager.poll() is not None:
                self.managers[place] = self._new_manager(place, self._changes[place])
        if self.keep and self.interchange is not None and self.interchange.poll() is not None:
            self.start_interchange(self._spec)

    def stop(self) -> None:
        """End everything, the polite way first."""
        if self._keeper is not None:
            self._keeper.stop()
        processes = [*self.managers, self.interchange]
        for process in processes:
            if process is not None and process.poll() is None:
                process.terminate()
        for process in processes:
            if process is not None:
                try:
                    process.wait(_PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


#: What a supervised endpoint is configured with.
_CONFIGURATION = """\
engine:
  max_workers_per_node: {workers}
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 1
    max_blocks: {blocks}
"""


@contextlib.contextmanager
def supervised(
    home: str | os.PathLike[str], name: str, workers: int = 2, blocks: int = 1
) -> Iterator[str]:
    """A named endpoint as users start it, with blocks on this host: its id. It is stopped after.

    Args:
        home: the home's directory, absolute.
        name: the endpoint's.
        workers: of each block.
        blocks: at most so many.

    Raises:
        RuntimeError: a command failed; the text has its words.
    """
    Home(home).create()
    directory = EndpointDirectory(Path(home) / "endpoints" / name)
    source = Path(home) / f"{name}.yaml"
    source.write_text(_CONFIGURATION.format(workers=workers, blocks=blocks))
    _command(home, "configure", name, "--from", str(source))
    source.unlink()
    _command(home, "start", name)
    try:
        record = directory.read_record()
        assert record is not None
        yield record.endpoint
    finally:
        _command(home, "stop", name)


def _command(home: str | os.PathLike[str], *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fxhpc.cli.main", "endpoint", *words],
        env={**module_environment(), "FXHPC_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"fxhpc endpoint {' '.join(words)}: {done.stderr or done.stdout}")
