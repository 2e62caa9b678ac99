"""The seed: a process without threads that forks workers in a millisecond, and buries them.

It is forked from the manager before that has a thread or a ZeroMQ context; should it die, its
successor is started afresh (`python -m fxhpc.manager.seeds.seed DESCRIPTOR`). It imports what every
worker needs, once. It is the workers' parent, so it knows how each ended; whatever a worker leaves
behind becomes the seed's child, and is killed.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import mmap
import os
import resource
import select
import selectors
import signal
import socket
import sys
import types
from typing import NoReturn

import msgspec

from fxhpc.manager import processes
from fxhpc.manager.channel import Channel, Closed
from fxhpc.protocol.pool import (
    PAGE_BYTES,
    Exited,
    Fork,
    Forked,
    SeedSpec,
    ToSeed,
)

_SERIALIZER = "fxhpc.serialize"
_PRELOADED = ("dill", "fxhpc.worker.loop")

#: Free memory that a worker may keep. There may be a hundred.
_KEPT_BYTES = 16 * 2**20

_decode = msgspec.msgpack.Decoder(ToSeed).decode
_encode = msgspec.msgpack.Encoder().encode


class Seed:
    """Forks on request, reports what became of it."""

    def __init__(self, channel: Channel, spec: SeedSpec) -> None:
        self._channel = channel
        self._spec = spec
        self._pid = os.getpid()
        self._workers: dict[int, int] = {}  # pid: worker
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)

    def serve(self) -> None:
        """Until the manager closes its end."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fd == self._wake_read:
                        _drain(self._wake_read)
                        self._bury()
                    else:
                        while received := self._channel.receive():
                            self._obey(received[0], received[2])
        except Closed:
            return
        finally:
            processes.kill_children(set())

    def _obey(self, data: memoryview, fds: list[int]) -> None:
        message = _decode(data)
        if isinstance(message, Fork):
            pid = os.fork()
            if pid == 0:
                self._become_worker(message, fds)
            self._workers[pid] = message.worker
            for fd in fds:
                os.close(fd)
            self._say(Forked(message.worker, pid))
        else:
            for pid, worker in self._workers.items():
                if worker == message.worker:
                    # It was not waited for yet, so the pid is still its own.
                    if message.show_where:
                        processes.show_where(pid)
                    os.kill(pid, signal.SIGKILL)

    def _say(self, message: Forked | Exited) -> None:
        self._channel.send(_encode(message))
        while self._channel.waits:
            select.select([], [self._channel], [])
            self._channel.flush()

    def _bury(self) -> None:
        exited: list[Exited] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            worker = self._workers.pop(pid, None)
            if worker is not None:
                unit = 1 if sys.platform == "darwin" else 1024
                exited.append(Exited(worker, pid, status, usage.ru_maxrss * unit))
        if exited and processes.children(self._pid):
            processes.kill_children(set(self._workers))
        for message in exited:
            self._say(message)

    def _become_worker(self, fork: Fork, fds: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            processes.die_with_parent(self._pid)
            processes.adopt_orphans()
            self._selector.close()
            self._channel.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            sock_fd, page_fd, kept_fd, output_fd, stdout_fd, stderr_fd = fds
            os.dup2(output_fd, 1)
            os.dup2(output_fd, 2)
            os.close(output_fd)
            os.set_inheritable(sock_fd, False)
            os.set_inheritable(kept_fd, False)
            page = memoryview(mmap.mmap(page_fd, PAGE_BYTES))
            os.close(page_fd)
            set_title(f"fxhpc: worker {fork.worker}")
            if fork.cores and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, fork.cores)
            self._enter_users_world(fork)
            from fxhpc.worker.loop import Worker

            sock = socket.socket(fileno=sock_fd)
            files = (stdout_fd, stderr_fd)
            Worker(sock, page, _SERIALIZER, self._spec, files, kept_fd).serve()
            code = 0
        except BaseException:
            # Whatever it is, the manager finds it in what this process wrote last.
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _enter_users_world(self, fork: Fork) -> None:
        spec = self._spec
        for name, value in spec.environ.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = os.fsdecode(value)
        for name in fork.without:
            os.environ.pop(name, None)
        os.environ.update(fork.environ)
        if "PARSL_MPI_NODELIST" in fork.environ:
            from fxhpc.manager.resources import nodefile  # seldom needed

            os.environ.update(nodefile.variables(fork.environ, os.environ))
        if spec.sys_path:
            sys.path[:] = map(os.fsdecode, spec.sys_path)
            importlib.invalidate_caches()
        if spec.cwd:
            os.chdir(spec.cwd)
        if spec.nice:
            os.nice(spec.nice)
        # Tasks must not find the manager's own main module there.
        main = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = main
        sys.argv = [""]


def run(sock: socket.socket) -> None:
    """Be a seed, as its manager's first message says."""
    processes.adopt_orphans()  # it does not die with the manager, but learns of that and buries all
    set_title("fxhpc: seed")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _take_standard_streams()
    processes.keep_memory(_KEPT_BYTES)
    processes.close_descriptors({0, 1, 2, sock.fileno()})
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for name in (*_PRELOADED, _SERIALIZER):
        importlib.import_module(name)
    faulthandler.enable(2)
    channel = Channel(sock)
    gc.collect()  # it takes some milliseconds, and the manager is not ready yet
    while (received := channel.receive()) is None:
        select.select([channel], [], [])
    spec = msgspec.msgpack.decode(received[0], type=SeedSpec)
    if spec.preload:
        from fxhpc.manager.seeds.preload import preload  # hardly anybody needs it

        preload(spec)
        gc.collect()
    gc.freeze()
    Seed(channel, spec).serve()


def main() -> None:
    """Start as a successor: the argument is the socket's descriptor."""
    run(socket.socket(fileno=int(sys.argv[1])))


def _take_standard_streams() -> None:
    """Standard input is empty. The others stay those of the manager until a worker has its own."""
    fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(fd, 0)
    os.close(fd)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def set_title(title: str) -> None:
    """What ps shows. The kernel's own, short name of the process gets no blank.

    Batch systems that follow /proc/PID/stat (Slurm's proctrack/linuxproc) take what is behind a
    blank in it for the next field: a process whose name has one is none of its job's, and neither
    gets the job's signals nor ends with it.
    """
    try:
        from setproctitle import setproctitle, setthreadtitle
    except ImportError:
        return
    setproctitle(title)
    setthreadtitle(title.replace(": ", "-", 1).replace(" ", "-")[:15])


if __name__ == "__main__":
    main()
