"""Seeds in containers: started when a function has chosen an image, and ended when nobody needs it.

The manager makes the socket pair first, and says to its own end what any seed is told. The other
end goes to whoever connects to a socket in a private directory, which the container sees; so the
container ends when the manager closes its end, or is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fxhpc import containers
from fxhpc.manager import processes
from fxhpc.manager.channel import Channel, make_pair
from fxhpc.manager.events import WorkerGone
from fxhpc.message_files import anonymous_file
from fxhpc.protocol.containers import OF_FILES, Container
from fxhpc.transport.directories import OwnedDirectory
from fxhpc.version import __version__

if TYPE_CHECKING:
    from fxhpc.protocol.pool import SeedSpec

#: A container that nobody uses is kept for so long, since its start takes seconds; and so many.
KEEP_S = 300.0
KEEP = 4

#: Seconds for containers to end when the manager does; and for the command of one whose seed has
#: died at once to say why.
END_S = 8.0
WORDS_S = 2.0

#: Seconds between two looks for what runtimes have left to be waited for, and for how long after a
#: container has ended.
BURY_S, BURY_FOR_S = 1.0, 10.0

#: What is told of what a container's command has said.
_TAIL_BYTES = 4096

log = logging.getLogger("fxhpc.manager")


class _Inside:
    """One container: what has started it, and its seed.

    Attributes:
        channel: to its seed, which may not be there yet.
        workers: how many it has.
        began: it has made a worker.
        seed: its pid; 0 while it has not connected.
        idle_since: when it had no worker any more.
        told_by: its seed has died: what has started it has so long to say why; 0: it lives.
    """

    def __init__(self, container: Container, spec: SeedSpec, options: str) -> None:
        made, seen = _places(container, spec)
        self.container = container
        self.workers = 0
        self.began = False
        self.seed = 0
        self.idle_since = 0.0
        self.told_by = 0.0
        self.output = anonymous_file()
        self.channel, self.theirs = make_pair()
        self._directory: OwnedDirectory | None = OwnedDirectory()
        folder = self._directory.path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.setblocking(False)
        address = os.path.join(folder, "seed.sock")
        self.listener.bind(address)
        os.chmod(address, 0o600)  # nobody is in this directory yet
        self.listener.listen(1)
        values = {"inside": str(container), "blocks": folder, "own_fxhpc": __version__}
        _write(folder, containers.SEED, containers.script(containers.SEED, values))
        home = os.path.expanduser("~")
        start = containers.Start(
            kind=container.kind,
            image=container.image,
            words=str(container),
            who="tasks of a function",
            named_kind="register_container",
            named_image="register_container",
            script=containers.SEED,
            folder=folder,
            options=options,
            made=[folder, *made],
            seen=seen,
            home=home if home != "/" else "",
        )
        script = _write(folder, containers.START, containers.start_script(start))
        self.process = subprocess.Popen(
            ["/bin/sh", script],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
        )

    def hand_over(self) -> bool:
        """Give the seed its end, if it has connected; whether it has."""
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return False
        with connection:
            pid, uid = _peer(connection)
            if uid != os.getuid():
                return False
            self.seed = pid
            try:
                socket.send_fds(connection, [b"\0"], [self.theirs.fileno()])
            except OSError:
                pass  # it has died, and its end dies with this one
        return True

    def forget_way(self) -> None:
        """Nobody else is to connect: what was made for that goes."""
        self.theirs.close()
        self.listener.close()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None

    def said(self) -> str:
        """The last that its command and its seed have printed."""
        size = os.fstat(self.output).st_size
        text = os.pread(self.output, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return text.decode(errors="replace")


class Images:
    """The seeds of a manager that are in containers.

    Args:
        spec: what they are told.
        options: more words for the command of each kind.
        adopt: called with the channel of each new one.
        ended: called with that of one of which `is_ending` was so, when it is not any more.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        spec: SeedSpec,
        options: Mapping[str, str],
        adopt: Callable[[Channel], object],
        ended: Callable[[Channel], object],
    ) -> None:
        self._selector = selector
        self._spec = spec
        self._options = options
        self._adopt = adopt
        self._told = ended
        self._inside: dict[Channel, _Inside] = {}
        self._ending: list[_Inside] = []
        self._bury_at = 0.0
        self._bury_until = 0.0

    def channels(self) -> list[Channel]:
        """To all seeds, in use or not."""
        return list(self._inside)

    def seed(self, container: Container) -> Channel:
        """The channel of the seed in such a container, which is started if there is none; one more
        worker is to be made there.

        Raises:
            OSError: it cannot be started; the text says why.
        """
        inside = next((one for one in self._inside.values() if one.container == container), None)
        if inside is None:
            inside = self._start(container)
        inside.workers += 1
        return inside.channel

    def left(self, channel: Channel, now: float) -> None:
        """A worker of this seed is gone."""
        if inside := self._inside.get(channel):
            inside.workers -= 1
            inside.idle_since = now

    def look(self, now: float) -> list[Channel]:
        """Those whose containers nobody needs any more: they are to be closed, see `forget`.

        It also waits for what has ended, where the system does not tell of that.
        """
        if now >= self._bury_at and (self._inside or now < self._bury_until):
            self._bury_at = now + BURY_S
            self._bury()
        for inside in [*self._inside.values(), *self._ending]:
            if inside.process.poll() is not None:
                self._ended(inside)
        told = [
            inside.channel
            for inside in self._inside.values()
            if inside.told_by and not self.is_ending(inside.channel, now)
        ]
        idle = [
            inside for inside in self._inside.values() if not (inside.workers or inside.told_by)
        ]
        idle.sort(key=lambda inside: inside.idle_since)
        most = max(0, len(idle) - KEEP)
        return told + [
            inside.channel
            for number, inside in enumerate(idle)
            if number < most or now - inside.idle_since >= KEEP_S
        ]

    def pid_here(self, channel: Channel, pid: int) -> int:
        """The number here of a worker that has this one in its container; 0: it is not seen."""
        for child in processes.children(self._inside[channel].seed):
            try:
                status = Path(f"/proc/{child}/status").read_text()
            except OSError:
                continue
            numbers = [line for line in status.splitlines() if line.startswith("NSpid:")]
            if numbers and numbers[0].split()[-1] == str(pid):
                return child
        return 0

    def began(self, channel: Channel) -> None:
        """This seed has made a worker."""
        if inside := self._inside.get(channel):
            inside.began = True

    def is_ending(self, channel: Channel, now: float) -> bool:
        """Whether a seed that is dead had made no worker, and what has started it has still to say
        why. Nobody waits for that here: others have work meanwhile.
        """
        inside = self._inside.get(channel)
        if inside is None or inside.began or inside.process.poll() is not None:
            return False
        inside.told_by = inside.told_by or now + WORDS_S
        return now < inside.told_by

    def forget(self, channel: Channel) -> WorkerGone | None:
        """The seed is gone, or to go: its channel is closed. How its workers have ended with it,
        of which number and place are to be filled in; None: it is none of these.
        """
        inside = self._inside.pop(channel, None)
        if inside is None:
            return None
        self._close(inside)
        self._ending.append(inside)
        if inside.began:
            return WorkerGone(0, 0, signal=signal.SIGKILL, seed_lost=True)
        code = inside.process.poll()
        if code is None:
            code = 1  # it was given up, or does not end
        said = inside.said() or f"{inside.container} ended before a worker could be made in it"
        log.warning("%s has not come up: %s", inside.container, said)
        if code < 0:
            return WorkerGone(0, 0, signal=-code, stderr=said)
        return WorkerGone(0, 0, exit_code=code, stderr=said)

    def close(self) -> None:
        """End all of them, and wait until they have ended, as far as they do so soon."""
        for channel in list(self._inside):
            inside = self._inside.pop(channel)
            self._close(inside)
            self._ending.append(inside)
        until = time.monotonic() + END_S
        for inside in self._ending:
            try:
                inside.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("%s does not end", inside.container)
        for inside in list(self._ending):
            self._ended(inside)

    # --- one of them ----------------------------------------------------------------------------

    def _start(self, container: Container) -> _Inside:
        inside = _Inside(container, self._spec, self._options.get(container.kind, ""))
        log.info("starting %s", container)
        self._inside[inside.channel] = inside
        listener = inside.listener
        self._selector.register(listener, selectors.EVENT_READ, lambda _: self._connected(inside))
        try:
            fd = os.pidfd_open(inside.process.pid)
        except (AttributeError, OSError):
            pass  # it is looked for
        else:
            self._selector.register(fd, selectors.EVENT_READ, lambda _: self._on_end(inside, fd))
        self._adopt(inside.channel)
        return inside

    def _connected(self, inside: _Inside) -> None:
        if inside.hand_over():
            self._close_way(inside)
            log.info("%s runs, its first process is %d", inside.container, inside.seed)

    def _on_end(self, inside: _Inside, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)
        inside.process.wait()
        self._ended(inside)
        if inside.told_by and inside.channel in self._inside:
            self._told(inside.channel)

    def _ended(self, inside: _Inside) -> None:
        """What has started the container is gone. A seed that never connected never will."""
        self._bury_until = time.monotonic() + BURY_FOR_S
        if inside in self._ending:
            self._ending.remove(inside)
            os.close(inside.output)
        elif not inside.seed:
            self._close_way(inside)

    def _bury(self) -> None:
        """Wait for orphans that have ended: podman leaves its monitors to who adopts them."""
        own = {one.process.pid for one in [*self._inside.values(), *self._ending]}
        for pid in processes.children(os.getpid()):
            if pid not in own:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _close(self, inside: _Inside) -> None:
        self._close_way(inside)
        inside.channel.close()

    def _close_way(self, inside: _Inside) -> None:
        if inside.listener.fileno() >= 0:
            self._selector.unregister(inside.listener)
        inside.forget_way()


def _places(container: Container, spec: SeedSpec) -> tuple[list[str], list[str]]:
    """Directories that tasks are to see in a container: made for that, and those that are there.

    Raises:
        OSError: that cannot be; the text says why.
    """
    made, seen = [os.fsdecode(spec.sandbox)], [os.fsdecode(spec.cwd)]
    if spec.spill:
        # Whoever sees this directory sees results.
        os.makedirs(spec.spill, 0o700, exist_ok=True)
        made.append(os.fsdecode(spec.spill))
    if container.kind not in OF_FILES:  # which have the home directory of their own accord
        seen.append(os.path.expanduser("~"))
    if unfit := containers.unfit_place((*made, *seen)):
        raise OSError(
            f"{container} must see {unfit!r}, and a container cannot be told of a directory with "
            f"':', ',' or a line break in its name"
        )
    return list(containers.places(made)), list(containers.places(seen, made))


def _write(folder: str, name: str, text: str) -> str:
    path = os.path.join(folder, name)
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o700), "w") as file:
        file.write(text)
    return path


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Pid and user of who has connected, as they are called here."""
    size = 12
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid = (int.from_bytes(found[at : at + 4], "little", signed=True) for at in (0, 4))
    return pid, uid
