"""Homes on network file systems, homes of two hosts, homes that go away."""

from __future__ import annotations

import platform
import shutil

import psutil
import pytest

from fxhpc import FuncXClient
from fxhpc.errors import ForwarderUnreachable
from fxhpc.forwarder.home import Home
from tests.process.homes import TestHome, finish
from tests.waiting import eventually

ONE_TASK = """
    import sys
    from fxhpc import FuncXClient

    def double(x):
        return 2 * x

    fxc = FuncXClient()
    function = fxc.register_function(double)
    print(fxc.get_result(fxc.run(1, endpoint_id="local", function_id=function)), flush=True)
    sys.stdin.readline()
"""

#: Python reads this as it starts: the list of mounts is the kernel's, and cannot be made up.
ON_NFS = """
from fxhpc.forwarder import filesystems
filesystems.network_type = lambda *arguments: "nfs4"
"""


def test_f03_a_removed_home_ends_its_forwarder(home: TestHome) -> None:
    """F3: the store is deleted under foot: its forwarder ends, and clients start another."""
    script = home.start("removed.py", ONE_TASK)
    assert script.stdout is not None
    assert script.stdout.readline() == "2\n"
    first = home.forwarder()
    shutil.rmtree(home.path)
    Home(home.path).create()
    eventually(lambda: not psutil.pid_exists(first.pid), within=10)
    assert script.stdin is not None
    script.stdin.write("\n")
    script.stdin.flush()
    finish(script)


def test_f03_on_a_network_file_system_every_commit_is_synchronised(home: TestHome) -> None:
    """F3: the forwarder sees where the home lies, says so, and works there."""
    home.write("sitecustomize.py", ON_NFS)
    path = home.environment.get("PYTHONPATH", "")
    home.environment["PYTHONPATH"] = f"{home.scripts}:{path}" if path else str(home.scripts)
    script = home.start("one.py", ONE_TASK)
    assert finish(script) == "2\n"
    log = (home.path / "forwarder.log").read_text()
    assert "the home is on nfs4: every commit is synchronised" in log


def test_f03_a_second_login_node_is_refused_by_name(
    home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3: another host serves this home: its store is not touched, the error names host and pid."""
    monkeypatch.setenv("FXHPC_HOME", str(home.path))
    script = home.start("one.py", ONE_TASK)
    assert script.stdout is not None
    assert script.stdout.readline() == "2\n"
    owner = home.forwarder()
    here = platform.node()
    monkeypatch.setattr(platform, "node", lambda: "login2")
    with pytest.raises(ForwarderUnreachable, match=rf"on host {here} \(pid {owner.pid}\)"):
        FuncXClient()
    assert home.forwarder() == owner
    script.communicate("\n", timeout=60)
