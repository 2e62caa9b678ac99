"""Submits one short job that looks around on real nodes, as `check --on-node` has it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from fxhpc.endpoint import launch
from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.endpoint.configuration.quantities import clock
from fxhpc.endpoint.logs import last_lines
from fxhpc.forwarder.attach import module_environment
from fxhpc.interchange.addresses import offered
from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.protocol import provision as pro
from fxhpc.transport.frames import Frames, frame
from fxhpc.units import format_bytes

#: The job's walltime, and how many nodes it asks for at most.
WALLTIME_S = 300.0
_NODES = 2

#: Seconds between two questions to the batch system, that its answer to a cancellation may take,
#: and that reports may come late on a network file system.
_ASK_S, _CANCEL_S, _LATE_S = 5.0, 60.0, 5.0

#: Seconds by which clocks may differ before anybody cares: shown times are wrong by as much.
_SKEW_S = 5.0

#: Slurm's reasons for which a job waits until it is changed.
_FOR_EVER = (
    "AccountNotAllowed",
    "AssocMaxWallDurationPerJobLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSMaxWallDurationPerJobLimit",
    "QOSNotAllowed",
)

#: Lines of a job's standard error that are shown.
_PRINTED_LINES = 8

_BLOCK = 0

_from_provisioner: msgspec.msgpack.Decoder[pro.FromProvisioner] = msgspec.msgpack.Decoder(
    pro.FromProvisioner
)


class NodeProbe:
    """One job, its listener on this host, and the directory where nodes leave their reports.

    Args:
        directory: of the endpoint; what nodes see lies in its `state`.
        tell: is called with what happens.
    """

    def __init__(
        self,
        directory: EndpointDirectory,
        name: str,
        spec: pro.InterchangeSpec,
        tell: Callable[[str], None],
    ) -> None:
        if spec.provisioner is None:
            raise ValueError("the endpoint asks nobody for nodes")
        self._name = name
        self._spec = spec
        self._provisioner_spec = spec.provisioner
        self._directory = directory
        self._tell = tell
        self.path = directory.state / f"check-{secrets.token_hex(4)}"
        self._state = EndpointDirectory(self.path)
        self.nodes = min(_NODES, spec.scaling.nodes_per_block if spec.scaling is not None else 1)
        self._block = pro.BlockRef(_BLOCK, f"fxhpc-{name}-check-{_BLOCK}")
        self._listener: socket.socket | None = None
        self._link: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._submitted = False
        self._words = ""
        self._ended: pro.JobReport | None = None
        self._failed = ""
        self.printed: list[str] = []  # last lines of the job's standard error, once `run` is over

    def run(self, limit_s: float) -> list[dict[str, Any]]:
        """Submit the job and wait: the reports of its nodes, which may be fewer than `nodes`.

        Raises:
            RuntimeError: it cannot be submitted, or ended without a report; the text says why.
        """
        try:
            self._prepare()
            self._start()
            return self._wait(time.monotonic() + limit_s)
        finally:
            for ending in ("*.stderr", "*.err"):  # of batch systems, of processes of this host
                for path in sorted(self._state.blocks.glob(ending)):
                    self.printed += last_lines(path, _PRINTED_LINES)
            self._clean_up()

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700)
        self._directory.keys("manager")
        self._listener = self._listen()
        port = self._listener.getsockname()[1]
        host = self._spec.bind.removeprefix("tcp://").rpartition(":")[0]
        spec = {
            "addresses": offered(f"tcp://{host}:{port}", self._spec.addresses),
            "key_file": str(self._directory.manager_key),
            "state_dir": str(self._directory.state),
            "manager": msgspec.to_builtins(self._spec.manager),
        }
        replace_file(self.path / "probe.json", json.dumps(spec).encode())
        script = Path(__file__).with_name("node_probe.py")
        replace_file(self.path / script.name, script.read_bytes())
        self._state.blocks.mkdir(mode=0o700)

    def _listen(self) -> socket.socket:
        """Answer on the endpoint's port with the time; on another one if it is taken."""
        host, _, port = self._spec.bind.removeprefix("tcp://").rpartition(":")
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = "" if host in ("0.0.0.0", "*") else host
        try:
            listener.bind((address, int(port) if port.isdigit() else 0))
        except OSError:
            listener.bind((address, 0))  # the endpoint runs, and has its port
        listener.listen(16)
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()
        return listener

    def _start(self) -> None:
        original = self._provisioner_spec
        script = shlex.quote(str(self.path / "node_probe.py"))
        provider = dict(original.provider)
        walltime = min(original.walltime_s, WALLTIME_S) if original.walltime_s else 0.0
        if walltime and "walltime" in provider:
            provider["walltime"] = clock(walltime)
        if "nodes_per_block" in provider:
            provider["nodes_per_block"] = self.nodes
        container = original.container
        if container is not None:
            options = container.options.replace(
                launch.contained(self._directory), launch.contained(self._state)
            )
            container = msgspec.structs.replace(container, options=options)
        spec = msgspec.structs.replace(
            original,
            container=container,
            provider=provider,
            directory=str(self._state.blocks),
            command=original.command.replace(
                launch.command(self._directory), launch.command(self._state)
            ),
            worker_init=f"{original.worker_init}\nexport FXHPC_PROBE={script}\n",
            walltime_s=walltime,
            log_file=str(self.path / "provisioner.log"),
        )
        ours, theirs = socket.socketpair()
        self._link = ours
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "fxhpc.endpoint.provisioner",
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=module_environment(),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.sendall(frame(msgspec.msgpack.encode(spec)))
        self._send(pro.SubmitBlock(self._block))
        self._submitted = True

    def _wait(self, deadline: float) -> list[dict[str, Any]]:
        assert self._link is not None
        frames = Frames(self._link)
        next_question = time.monotonic() + _ASK_S
        late: float | None = None
        while True:
            reports = self._reports()
            now = time.monotonic()
            if self._failed:
                raise RuntimeError(self._failed)
            if len(reports) >= self.nodes:
                return reports
            if self._ended is not None and late is None:
                late = now + (_LATE_S if not self._ended.fatal else 0.0)
            if late is not None and now >= late:
                if reports:
                    return reports
                raise RuntimeError(self._why())
            if now >= deadline:
                raise RuntimeError(
                    f"no node has reported in time; the job is {self._words or 'submitted'}"
                )
            if now >= next_question and self._block.job:
                next_question = now + _ASK_S
                self._send(pro.AskJobs([self._block]))
            if select.select([self._link], [], [], 0.2)[0]:
                received = frames.receive()
                if received is None:
                    words = " | ".join(last_lines(self.path / "provisioner.log", 3))
                    raise RuntimeError(f"the provisioner died: {words or 'without a word'}")
                for data in received:
                    self._hear(_from_provisioner.decode(data))

    def _hear(self, message: pro.FromProvisioner) -> None:
        if isinstance(message, pro.ProvisionerFailed):
            self._failed = message.reason
        elif isinstance(message, pro.NotSubmitted):
            self._submitted = message.away
            self._failed = f"the job was not submitted: {message.reason}"
        elif isinstance(message, pro.Submitted):
            self._block = pro.BlockRef(self._block.number, self._block.name, message.job)
            self._tell(f"job {message.job} is submitted")
        elif isinstance(message, pro.Jobs):
            for report in message.reports:
                if report.words and report.words != self._words:
                    self._words = report.words
                    self._tell(f"job {report.job or self._block.job}: {report.words}")
                    if any(f"({reason})" in report.words for reason in _FOR_EVER):
                        self._failed = f"the job would wait for ever: {report.words}"
                if report.phase == pro.JobPhase.ENDED:
                    self._ended = report

    def _why(self) -> str:
        assert self._ended is not None
        words = self._ended.fatal or self._ended.stderr.strip()
        text = f"the job ended without a report ({self._ended.words})"
        return f"{text}: {words}" if words else text

    def _reports(self) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self.path.glob("report-*.json")):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text()))
        return found

    def _send(self, message: pro.ToProvisioner) -> None:
        assert self._link is not None
        with contextlib.suppress(OSError):
            self._link.sendall(frame(msgspec.msgpack.encode(message)))

    def _clean_up(self) -> None:
        """Cancel the job, end the provisioner, remove the directory, whatever happened."""
        if self._link is not None:
            if self._submitted and self._process is not None and self._process.poll() is None:
                self._cancel()
            self._link.close()
        if self._process is not None:
            try:
                self._process.wait(_LATE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def _cancel(self) -> None:
        assert self._link is not None
        self._send(pro.CancelBlocks([self._block]))
        frames = Frames(self._link)
        deadline = time.monotonic() + _CANCEL_S
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._link], [], [], left)[0]:
                return
            received = frames.receive()
            if received is None:
                return
            if any(isinstance(_from_provisioner.decode(data), pro.CancelDone) for data in received):
                return


def findings(reports: list[dict[str, Any]], own_version: str, own_python: str) -> Iterator[Finding]:
    """What the reports of nodes mean."""
    for report in reports:
        host = report["host"]
        why = f", since {report['why']}" if report["why"] else ""
        python = f"Python {report['python']} ({report['executable']}{why})"
        if report["fatal"]:
            yield Finding(
                PROBLEM,
                f"{host}: Python",
                f"{python}: {report['fatal']}",
                "activate in worker_init an environment that has fxhpc, or name its `python:`",
            )
        else:
            yield Finding(OK, f"{host}: Python", python)
            yield _versions(host, report, own_version, own_python)
        if room := report.get("room"):
            yield _workers(host, room)
        for what, key, level in (
            ("managers' key", "key", PROBLEM),
            ("endpoint's files", "state_dir", PROBLEM),
            ("temporary files", "tmp", WARNING),
        ):
            if report[key]:
                hint = "name a state_dir that nodes see" if level == PROBLEM else ""
                yield Finding(level, f"{host}: {what}", report[key], hint)
            else:
                yield Finding(OK, f"{host}: {what}", "there, and usable")
        yield _addresses(host, report["addresses"])
        if report["skew_s"] is not None:
            skew = report["skew_s"]
            level = OK if abs(skew) < _SKEW_S else WARNING
            direction = "ahead of" if skew > 0 else "behind"
            yield Finding(level, f"{host}: clock", f"{abs(skew):.1f} s {direction} this host's")


def _workers(host: str, room: dict[str, Any]) -> Finding:
    what = f"{host}: workers"
    if "unfit" in room:
        return Finding(
            PROBLEM, what, room["unfit"], "ask for less for each worker, or for other nodes"
        )
    text = f"{room['workers']}, with {room['cores']} cores and {format_bytes(room['memory'])}"
    if room["accelerators"]:
        text += f" and {room['accelerators']} accelerators"
    notes = "; ".join(room["notes"])
    return Finding(WARNING if notes else OK, what, f"{text}; {notes}" if notes else text)


def printed(lines: list[str]) -> Finding:
    """What the job's script has told on standard error, where worker_init fails without an end."""
    return Finding(
        WARNING,
        "worker_init",
        f"the job's standard error says: {' | '.join(lines)}",
        "if worker_init is not to go on after a mistake, begin it with: set -e",
    )


def _versions(host: str, report: dict[str, Any], own_version: str, own_python: str) -> Finding:
    versions = report["modules"]
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    if versions.get("fxhpc") != own_version:
        return Finding(
            WARNING,
            f"{host}: versions",
            f"{text}; the endpoint runs fxhpc {own_version}",
            f"install the same there: {report['executable']} -m pip install fxhpc=={own_version}",
        )
    if report["python"].rsplit(".", 1)[0] != own_python.rsplit(".", 1)[0]:
        return Finding(
            WARNING,
            f"{host}: versions",
            f"{text}; Python {report['python']} there, {own_python} here: functions travel by "
            f"their source, which not all can",
            "use the same minor version of Python on both",
        )
    return Finding(OK, f"{host}: versions", text)


def _addresses(host: str, addresses: dict[str, Any]) -> Finding:
    answered = [f"{address} in {found['ms']} ms" for address, found in addresses.items()
                if "ms" in found]  # fmt: skip
    silent = [f"{address}: {found['error']}" for address, found in addresses.items()
              if "error" in found]  # fmt: skip
    if not answered:
        return Finding(
            PROBLEM,
            f"{host}: addresses",
            f"the node reaches none of this host's: {'; '.join(silent)}",
            "name one that it reaches (`address:`), or a port that the firewall lets through "
            "(`worker_port:`)",
        )
    text = ", ".join(answered)
    if silent:
        others = (address for address, found in addresses.items() if "error" in found)
        text += f"; no answer at {', '.join(others)}"
    return Finding(OK, f"{host}: addresses", text)


def _answer(listener: socket.socket) -> None:
    """Tell whoever connects what time it is here."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # closed
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"fxhpc %.6f\n" % time.time())
