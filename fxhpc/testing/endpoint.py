"""A named endpoint with real processes on this host: an interchange and managers to kill."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import msgspec

from fxhpc.forwarder.attach import module_environment
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import InterchangeSpec

#: Seconds that a process may take to be ready, or to end.
_PATIENCE_S = 20.0


class RunningEndpoint:
    """An endpoint of a home; its managers connect over tcp with CURVE, on the loopback.

    Args:
        home: the home's directory.
        name: the endpoint's.
        managers, workers: how many managers, and workers of each.
    """

    def __init__(
        self, home: str | os.PathLike[str], name: str, managers: int = 1, workers: int = 1
    ) -> None:
        Home(home).create()
        self.directory = EndpointDirectory(Path(home) / "endpoints" / name)
        self.endpoint_id = self.directory.create(name).endpoint
        self._count = managers
        self._workers = workers
        self.interchange: subprocess.Popen[bytes] | None = None
        self.managers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> RunningEndpoint:
        self.start_interchange()
        for _ in range(self._count):
            self.start_manager()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start_interchange(self, spec: InterchangeSpec | None = None) -> None:
        """Start the interchange, by default on the loopback; returns when it can be spoken to.

        Raises:
            RuntimeError: it does not start; the text says why.
        """
        reader, writer = os.pipe()
        try:
            with open(self.directory.log, "ab") as log:
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
            raise RuntimeError(f"the interchange did not start: {said or 'see its log'}")

    def start_manager(self) -> subprocess.Popen[bytes]:
        """Start a manager, as a batch job would on a node."""
        self.directory.keys("manager")
        spec = ManagerSpec(
            endpoint=b"",
            workers=self._workers,
            address_file=str(self.directory.managers_address),
            key_file=str(self.directory.manager_key),
            manager=secrets.token_hex(8),
            cwd=str(self.directory.path),
            log_file=str(self.directory.path / f"manager-{len(self.managers)}.log"),
        )
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
        process.stdin.write(msgspec.msgpack.encode(spec))
        process.stdin.close()
        self.managers.append(process)
        return process

    def stop(self) -> None:
        """End everything, the polite way first."""
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
