"""All processes of a home with a supervised endpoint at work: what others can find, read, reach."""

from __future__ import annotations

import base64
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from zmq.utils import z85

from fxhpc import FuncXClient
from fxhpc.forwarder.home import Home
from tests.faults.supervised import Supervised
from tests.process.homes import TestHome
from tests.security.test_other_users import as_nobody

#: Which of our processes listen on tcp: an interchange, for managers on other nodes.
LISTENS = re.compile(r"fxhpc: interchange ")

TASK = """
    import os, sys
    from fxhpc import FuncXClient

    def surroundings(argument):
        import os
        with open(f"/proc/{os.getpid()}/cmdline", "rb") as file:
            return dict(os.environ), file.read(), argument.replace("argument", "result")

    fxc = FuncXClient()
    for endpoint in (sys.argv[1], "local"):
        function = fxc.register_function(surroundings)
        task = fxc.run("private" + "-argument", endpoint_id=endpoint, function_id=function)
        environ, words, _ = fxc.get_result(task, wait=50)
        print(repr((environ, words)))
    print("ready", flush=True)
    sys.stdin.read()
"""


class AtWork:
    """A home whose forwarder, endpoint, managers and workers are all there."""

    def __init__(self, home: TestHome, said: str) -> None:
        self.home = home
        self.said = said  # what tasks saw

    def processes(self) -> list[psutil.Process]:
        """Ours: by their titles."""
        return [one for one in self.home.processes() if "fxhpc" in " ".join(one.cmdline())]

    def titles(self) -> set[str]:
        """The first two words of each."""
        return {" ".join(" ".join(one.cmdline()).split()[:2]) for one in self.processes()}

    def secrets(self) -> list[bytes]:
        """The secret of every key, in all ways of writing it."""
        found = []
        for path in self.home.path.rglob("*.key"):
            text = re.search(rb"secret (\S+)", path.read_bytes())
            assert text is not None, path
            raw = z85.decode(text[1])
            found += [text[1], raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")]
        return found


@pytest.fixture(
    params=[0o000, pytest.param(0o077, marks=pytest.mark.load)], ids=["umask 000", "umask 077"]
)
def at_work(home: TestHome, request: pytest.FixtureRequest) -> Iterator[AtWork]:
    """With an umask that hides nothing, and with one that hides all."""
    endpoint = Supervised(home)  # its configuration is a user's own file
    before = os.umask(request.param)
    try:
        endpoint.run("start")
        try:
            script = home.start("submit.py", TASK, endpoint.endpoint_id)
            assert script.stdout is not None
            lines = []
            while not lines or lines[-1] != "ready\n":
                lines.append(script.stdout.readline())
                assert lines[-1], script.communicate()
            yield AtWork(home, "".join(lines))
            assert script.stdin is not None
            script.stdin.close()
            script.wait(30)
        finally:
            endpoint.run("stop")
    finally:
        os.umask(before)


# The child only becomes another user, tries to connect and ends: it needs no lock of any thread.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_f13_what_strangers_find(at_work: AtWork) -> None:
    """Another user of the machine, or whoever reads logs: no socket, no file, no secret."""
    titles = at_work.titles()
    assert {"fxhpc: forwarder", "fxhpc: supervisor", "fxhpc: interchange", "fxhpc: manager"} <= (
        titles
    ), titles
    check_addresses(at_work)
    check_files(at_work)
    check_secrets(at_work)
    check_core_files(at_work)


def check_addresses(at_work: AtWork) -> None:
    """Only interchanges listen on tcp, on the interface that was named; ipc is for the owner."""
    sockets = set()
    for process in at_work.processes():
        title = " ".join(process.cmdline())
        for connection in process.net_connections("all"):
            if connection.family == socket.AF_UNIX:
                if connection.laddr and not connection.raddr:
                    assert connection.laddr.startswith("/"), f"{title}: abstract {connection}"
                    sockets.add(connection.laddr)
            elif connection.status == psutil.CONN_LISTEN:
                assert LISTENS.match(title), f"{title} listens at {connection.laddr}"
                assert connection.laddr.ip == "127.0.0.1", f"{title}: {connection.laddr}"
            else:
                assert connection.type == socket.SOCK_STREAM, f"{title}: {connection}"
    assert sockets, "no socket was found at all"
    for path in sockets:
        assert as_nobody(lambda path=path: _connect(path)) == "PermissionError", path
        mode = os.stat(os.path.dirname(path)).st_mode
        assert stat.S_IMODE(mode) == 0o700, os.path.dirname(path)


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def check_files(at_work: AtWork) -> None:
    """Whatever lies in the home, or beside its sockets, is its owner's alone."""
    owner = Home(at_work.home.path).read_owner()
    assert owner is not None
    folder = Path(owner.clients.removeprefix("ipc://")).parent  # type: ignore[union-attr]
    places = [at_work.home.path, *at_work.home.path.rglob("*"), folder, *folder.rglob("*")]
    assert len(places) > 15
    for path in places:
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue  # a draft that has got its name meanwhile
        assert not stat.S_ISLNK(found.st_mode), f"{path} leads elsewhere"
        assert found.st_uid == os.geteuid(), path
        if path.name != "config.yaml":  # which people write, with the mode of their editor
            assert not found.st_mode & 0o077, f"{path} has mode {stat.S_IMODE(found.st_mode):o}"
    database = at_work.home.path / "store.db"
    assert database in places
    assert as_nobody(lambda: print(database.read_bytes()[:1])) == "PermissionError"


def check_secrets(at_work: AtWork) -> None:
    """No key in arguments, environments, logs, or whatever else lies there but key files."""
    secrets = at_work.secrets()
    assert len(secrets) >= 8, "two keys at least: the endpoint's and its managers'"
    texts = {"what tasks see": at_work.said.encode()}
    for process in at_work.home.processes():
        name = " ".join(process.cmdline())
        texts[f"arguments of {name}"] = name.encode()
        texts[f"environment of {name}"] = Path(f"/proc/{process.pid}/environ").read_bytes()
    logs = 0
    for path in at_work.home.path.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            texts[str(path)] = path.read_bytes()
            logs += path.suffix == ".log"
    assert logs >= 2
    for name, text in texts.items():
        if name.endswith(".log"):  # which administrators read, and people send to each other
            assert b"private-" not in text, f"a task's arguments or result stand in {name}"
        for secret in secrets:
            assert secret not in text, f"a secret key stands in {name}"


def check_core_files(at_work: AtWork) -> None:
    """A core file of who holds keys or tasks would hold them too: none is written."""
    for process in at_work.processes():
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        soft = re.search(r"Max core file size +(\S+)", limits)
        title = " ".join(process.cmdline())
        if title.startswith("fxhpc: "):
            assert soft is not None
            assert soft[1] == "0", f"{title} may write a core file"


def test_what_it_says_of_keys_holds_none(client: FuncXClient, home: TestHome) -> None:
    """`repr` of what a user gets hold of."""
    endpoint = Supervised(home)
    directory = endpoint.directory
    pair = directory.keys("manager")
    for text in (repr(pair), repr(directory), repr(client), repr(vars(client))):
        assert pair.secret.decode() not in text
