"""The least that a manager takes for an interchange, and the manager that it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from fxhpc.ids import new_stream
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.codec import FROM_MANAGER
from fxhpc.protocol.outcome import Outcome
from fxhpc.serialize import pack_arguments, pack_function
from fxhpc.transport import ipc, unix_sockets
from fxhpc.transport.acceptor import Acceptor
from tests.waiting import eventually, readable

ROOT = str(Path(__file__).parents[3])
LIMIT = 64 << 20


class Interchange:
    """Accepts one manager, sends it tasks, stores what it says.

    Args:
        code: what to start in the place of the manager's own module.
        environ: changes to the manager's environment; None removes a variable.
        directory: where the manager is started.
        file: where its specification is written, as for a node; else it comes on standard input.
        others: addresses that the manager finds before the right one, and the key that whoever
            listens there must have.
        spec: fields of its `ManagerSpec`.
    """

    def __init__(
        self,
        code: str = "",
        *,
        environ: Mapping[str, str | None] | None = None,
        directory: str = "/",
        file: Path | None = None,
        others: Sequence[str] = (),
        key: str = "",
        **spec: Any,
    ) -> None:
        self._others = others
        self._key = key
        self._directory = ipc.make_ipc_directory()
        self._address_file = os.path.join(self._directory, "address")
        self._bound = 0
        self.peer = b""
        self.silent = False
        self.store = True
        self.epoch = 1
        self.drop: list[msg.TaskRefs] = []
        self.registered: list[msg.Register] = []
        self.capacity: msg.Capacity | None = None
        self.outcomes: dict[bytes, dict[int, Outcome]] = {}
        self.lost: list[msg.LostTask] = []
        self.started: list[msg.TaskRefs] = []
        self.returned: list[msg.TaskRefs] = []
        self.answers = 0  # to requests to give back, also those that could not
        self.sends_again = True  # what was returned, when others have ended
        self.results: list[int] = []
        self.twice = 0
        self.bye = ""
        self._bodies: dict[bytes, bytes] = {}
        self._runs: dict[bytes, msg.TaskRun] = {}
        self._acceptor = self.bind()
        fields: dict[str, Any] = {
            "endpoint": b"e" * 16,
            "workers": 2,
            "address_file": self._address_file,
            "cwd": "/tmp",
            "watch_pid": os.getpid(),
            "sys_path": [ROOT, *sys.path],
        }
        told = pool.ManagerSpec(**(fields | spec))
        command = [sys.executable, *(["-c", code] if code else ["-m", "fxhpc.manager"])]
        if file is not None:
            file.write_bytes(msgspec.json.encode(told))
            command.append(str(file))
        changed = {**os.environ, "PYTHONPATH": ROOT, **(environ or {})}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE if file is not None else None,
            cwd=directory,
            env={name: value for name, value in changed.items() if value is not None},
            start_new_session=True,
        )
        assert self.process.stdin is not None
        if file is None:
            self.process.stdin.write(msgspec.msgpack.encode(told))
        self.process.stdin.close()

    def bind(self) -> Acceptor[msg.FromManager]:
        """Accept managers at a new address."""
        self._bound += 1
        address = self.address = ipc.ipc_address(self._directory, f"m{self._bound}")
        acceptor = Acceptor(unix_sockets.router(address), FROM_MANAGER, msg.Register)
        with open(f"{self._address_file}.new", "w") as file:
            file.write(f"{' '.join([*self._others, address])}\n{self._key}\n")
        os.replace(f"{self._address_file}.new", self._address_file)
        return acceptor

    def away(self) -> None:
        """Be nowhere."""
        self._acceptor.close()

    def restart(self) -> None:
        """Forget the manager, and be somewhere else, as after a crash."""
        self._acceptor.close()
        self.peer = b""
        self.capacity = None
        self._acceptor = self.bind()

    def pump(self, wait_s: float = 0.0) -> None:
        """Read what has come."""
        if wait_s:
            readable(self._acceptor.socket, wait_s)
        for peer, message in self._acceptor.receive():
            self._heard(peer, message)

    def _heard(self, peer: bytes, message: msg.FromManager) -> None:
        if isinstance(message, msg.Register):
            self.peer = peer
            self.registered.append(message)
            self.say(msg.Welcome(self.epoch, "0", drop=self.drop))
        elif isinstance(message, msg.Results):
            self.results.append(message.number)
            for run in message.runs:
                known = self.outcomes.setdefault(run.stream, {})
                for outcome in run.outcomes:
                    self.twice += outcome.index in known
                    known[outcome.index] = outcome
            if self.store:
                self.say(msg.ResultsStored([message.number]))
            if self.sends_again:
                self._send_again()
        elif isinstance(message, msg.NeedBody):
            for digest in message.digests:
                if digest in self._bodies:
                    self.say(msg.Body(digest, self._bodies[digest]))
                else:
                    self.say(msg.NoBody([digest]))
        elif isinstance(message, msg.Capacity):
            self.capacity = message
        elif isinstance(message, msg.Lost):
            self.lost += message.tasks
        elif isinstance(message, msg.Started):
            self.started += message.tasks
        elif isinstance(message, msg.Returned):
            self.returned += message.tasks
            self.answers += 1
        elif isinstance(message, msg.Bye):
            self.bye = message.reason
        elif isinstance(message, msg.Heartbeat):
            self.say(msg.Heartbeat())

    def say(self, message: msg.ToManager) -> None:
        """Send to the manager."""
        self._acceptor.send(self.peer, message)

    def until(self, holds: Callable[[], Any], within_s: float = 10.0) -> None:
        """Go on until something holds."""
        eventually(lambda: holds() or self.pump(0.01), within_s, every=0)

    def ready(self) -> Interchange:
        """Wait until the manager has registered."""
        self.until(lambda: self.capacity is not None)
        return self

    def send(self, function: Callable[..., Any], *arguments: tuple[Any, ...], **run: Any) -> bytes:
        """Send one task for each tuple of arguments; their stream."""
        packed = pack_function(function)
        self._bodies[packed.digest] = packed.body
        stream = new_stream()
        payloads = [pack_arguments(each, {}, LIMIT) for each in arguments]
        fields = {"epoch": 1, "attempt": 1} | run
        self._runs[stream] = msg.TaskRun(stream, 0, packed.digest, payloads, **fields)
        self.say(msg.Tasks([self._runs[stream]]))
        return stream

    def _send_again(self) -> None:
        """What the manager has found too much, as an interchange does when one has ended."""
        back, self.returned = self.returned, []
        for refs in back:
            for first, count in zip(refs.ranges[::2], refs.ranges[1::2], strict=True):
                payloads = self._runs[refs.stream].payloads[first : first + count]
                run = msgspec.structs.replace(self._runs[refs.stream], first=first)
                run.payloads, run.attempt = payloads, refs.attempt + 1
                self.say(msg.Tasks([run]))

    def run(self, function: Callable[..., Any], *arguments: tuple[Any, ...]) -> list[Outcome]:
        """Send tasks and wait for their outcomes."""
        stream = self.send(function, *arguments)
        return self.wait(stream, len(arguments))

    def wait(self, stream: bytes, count: int, within_s: float = 10.0) -> list[Outcome]:
        """The outcomes of the first tasks of a stream."""
        self.until(lambda: len(self.outcomes.get(stream, {})) >= count, within_s)
        return [self.outcomes[stream][index] for index in sorted(self.outcomes[stream])]

    def family(self) -> list[psutil.Process]:
        """The manager and all its descendants."""
        try:
            manager = psutil.Process(self.process.pid)
            return [manager, *manager.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        """End the manager, and see that nothing is left of it."""
        family = self.family()
        self.process.terminate()
        self.process.wait(10)
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self._acceptor.close()
        shutil.rmtree(self._directory)
        assert not alive, f"left behind: {alive}"
