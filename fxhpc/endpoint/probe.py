"""An endpoint for a trial: an interchange and a manager with one worker, on the loopback."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from fxhpc.endpoint.child import READY_S, InterchangeChild
from fxhpc.forwarder.attach import module_environment
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import InterchangeSpec

NAME = "trial"

#: Seconds that a process may take to end.
_END_S = 10.0


class TrialEndpoint:
    """An endpoint in a home of its own, that whoever made the home removes.

    Args:
        home: a directory that is this user's alone; it is made if it is not there.
    """

    def __init__(self, home: Path) -> None:
        Home(home).create()
        (home / "endpoints").mkdir(mode=0o700, exist_ok=True)
        self.directory = EndpointDirectory(home / "endpoints" / NAME)
        self.endpoint_id = self.directory.create(NAME).endpoint
        self._interchange: InterchangeChild | None = None
        self._manager: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> TrialEndpoint:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start both processes; returns when the interchange serves.

        Raises:
            RuntimeError: it does not; the text says why.
        """
        environment = module_environment()
        spec = InterchangeSpec(log_file=str(self.directory.log), drain_s=0.0)
        child = self._interchange = InterchangeChild(self.directory, spec, environment)
        deadline = time.monotonic() + READY_S
        while not child.hear():
            if child.has_ended():
                raise RuntimeError(child.why())
            if time.monotonic() > deadline:
                raise RuntimeError(f"the interchange was not ready within {READY_S:.0f} s")
            select.select([child.ready_fd], [], [], 0.1)
        manager = ManagerSpec(
            endpoint=b"",
            workers=1,
            address_file=str(self.directory.managers_address),
            key_file=str(self.directory.manager_key),
            log_file=str(self.directory.logs / "manager.log"),
            alone_s=_END_S,
        )
        self._manager = subprocess.Popen(
            [sys.executable, "-m", "fxhpc.manager"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        assert self._manager.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._manager.stdin as pipe:
            pipe.write(msgspec.msgpack.encode(manager))

    def why_no_worker(self) -> str:
        """What the manager said if it has ended; empty if it lives."""
        if self._manager is None or self._manager.poll() is None:
            return ""
        assert self._manager.stderr is not None
        words = self._manager.stderr.read().decode(errors="replace").strip().splitlines()
        return words[-1] if words else f"the manager ended, exit code {self._manager.returncode}"

    def stop(self) -> None:
        """End both processes."""
        import signal

        if self._manager is not None:
            if self._manager.poll() is None:
                self._manager.terminate()
                try:
                    self._manager.wait(_END_S)
                except subprocess.TimeoutExpired:
                    self._manager.kill()
                    self._manager.wait()
            if self._manager.stderr is not None:
                self._manager.stderr.close()
            self._manager = None
        if self._interchange is not None:
            self._interchange.send(signal.SIGTERM)
            if not self._interchange.wait(_END_S):
                self._interchange.kill()
                self._interchange.wait(_END_S)
            self._interchange = None
