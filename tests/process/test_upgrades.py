"""Another version is installed while all runs: nothing is lost, and each part takes it up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from homes import TestHome

import fxhpc
from fxhpc.forwarder.home import ForwarderAddress
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.testing.endpoint import RunningEndpoint
from fxhpc.version import __version__
from tests.waiting import LIMIT, eventually

NEXT = "77.0.0"

CONFIGURATION = """\
max_workers_per_node: 1
engine:
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 1
    max_blocks: 1
"""

#: A program that goes on while all around it is replaced: what it is told to run, it runs.
PROGRAM = """
    import sys
    from fxhpc import FuncXClient, version

    def double(number):
        return 2 * number

    with FuncXClient() as client:
        function = client.register_function(double)
        for line in sys.stdin:
            batch = client.create_batch()
            for number in range(int(line)):
                batch.add(number, endpoint_id=sys.argv[1], function_id=function)
            ids = client.batch_run(batch)
            client.wait(ids, timeout=60)
            told = client.get_batch_result(ids)
            assert [told[task]["result"] for task in ids] == [2 * n for n in range(int(line))]
            print("done by", version.__version__, flush=True)
"""

SUBMIT = """
    import json, sys
    from fxhpc import FuncXClient

    def double(number):
        return 2 * number

    with FuncXClient() as client:
        function = client.register_function(double)
        batch = client.create_batch()
        for number in range(50):
            batch.add(number, endpoint_id=sys.argv[1], function_id=function)
        print(json.dumps(client.batch_run(batch)))
"""

READ = """
    import json, sys
    from fxhpc import FuncXClient, version

    ids = json.loads(sys.argv[1])
    with FuncXClient() as client:
        client.wait(ids, timeout=60)
        told = client.get_batch_result(ids)
        print(version.__version__, [told[task]["result"] for task in ids])
"""


class Installed:
    """fxhpc as it is installed for one home's programs: a copy of what is tested."""

    def __init__(self, site: Path, home: TestHome) -> None:
        self._package = site / "fxhpc"
        shutil.copytree(Path(fxhpc.__file__).parent, self._package)
        home.environment["PYTHONPATH"] = str(site)
        self._home = home
        home.scripts.mkdir(parents=True, exist_ok=True)

    def upgrade(self) -> None:
        """Install the next version in its place: it speaks the next protocol, too."""
        self._write("protocol/versions.py", r"(?m)^PROTOCOL = \d+", "PROTOCOL = 2")
        self._write("version.py", re.escape(f'"{__version__}"'), f'"{NEXT}"')

    def _write(self, name: str, old: str, new: str) -> None:
        path = self._package / name
        text, count = re.subn(old, new, path.read_text())
        assert count == 1
        draft = path.with_suffix(".new")
        draft.write_text(text)
        os.replace(draft, path)  # as pip does it: another file

    def command(self, *words: str) -> str:
        """`fxhpc` as it is installed now: what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "fxhpc.cli.main", *words],
            env=self._home.environment,
            cwd=self._home.scripts,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def installed(home: TestHome, tmp_path: Path) -> Installed:
    """The version of before, which the home's programs use."""
    return Installed(tmp_path / "site", home)


def next_line(process: subprocess.Popen[str]) -> str:
    """What a program says next."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=LIMIT)[1]
    return line


def has_run(process: subprocess.Popen[str], count: int) -> str:
    """Have a program run so many tasks: its version."""
    assert process.stdin is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    return next_line(process).removeprefix("done by ").strip()


def test_what_is_queued_runs_and_an_idle_forwarder_takes_it_up(
    home: TestHome, installed: Installed
) -> None:
    # The endpoint's processes are of the version of before all the time, the forwarder is not.
    endpoint = RunningEndpoint(home.path, "midway")
    try:
        endpoint.start_interchange()  # for which there must be a forwarder: it does not just leave
        ids = home.run("submit.py", SUBMIT, endpoint.endpoint_id)
        before = eventually(lambda: owner_of(home, __version__))
        installed.upgrade()
        after = eventually(lambda: owner_of(home, NEXT))
        assert (after.pid, after.epoch) == (before.pid, before.epoch + 1)
        assert f"fxhpc {NEXT} was installed in the place of the {__version__}" in log_of(home)
        endpoint.start_manager()
        assert home.run("read.py", READ, ids) == f"{NEXT} {[2 * n for n in range(50)]}\n"
    finally:
        endpoint.stop()


@pytest.fixture
def endpoint(home: TestHome, installed: Installed) -> Iterator[EndpointDirectory]:
    """A named endpoint that was started by the version of before."""
    directory = EndpointDirectory(home.path / "endpoints" / "midway")
    source = home.scripts / "midway.yaml"
    source.write_text(CONFIGURATION)
    installed.command("endpoint", "configure", "midway", "--from", str(source))
    installed.command("endpoint", "start", "midway")
    yield directory
    installed.command("endpoint", "stop", "midway")


def test_programs_endpoint_and_nodes_go_on_and_are_replaced_one_by_one(
    home: TestHome, installed: Installed, endpoint: EndpointDirectory
) -> None:
    record = endpoint.read_record()
    assert record is not None
    program = home.start("program.py", PROGRAM, record.endpoint)
    assert has_run(program, 5) == __version__
    installed.upgrade()
    # A new client with an old forwarder, which goes on as long as the program is there.
    newer = home.start("newer.py", PROGRAM, record.endpoint)
    assert has_run(newer, 5) == NEXT
    versions = status_of(installed)["versions"]
    assert versions == dict.fromkeys(("supervisor", "interchange", "forwarder"), __version__)
    said = installed.command("endpoint", "status", "midway")
    assert f"this is fxhpc {NEXT}" in said
    assert "fxhpc endpoint restart midway; fxhpc forwarder restart" in said
    # A new forwarder with an old client, and an old interchange.
    said = installed.command("forwarder", "restart")
    assert f"the one before, fxhpc {__version__}," in said
    assert f"as fxhpc {NEXT}" in said
    assert has_run(program, 5) == __version__
    # A new interchange with an old manager: its block stays.
    (manager,) = status_of(installed)["report"]["report"]["managers"]
    installed.command("endpoint", "restart", "midway")
    assert has_run(program, 5) == __version__
    found = status_of(installed)
    assert set(found["versions"].values()) == {NEXT}
    (kept,) = found["report"]["report"]["managers"]
    assert (kept["manager"], kept["version"]) == (manager["manager"], __version__)
    # What forks the workers is killed: the next one would not be of the manager's version.
    (seed,) = [one for one in psutil.Process(manager["pid"]).children() if "seed" in one.name()]
    seed.kill()
    assert has_run(program, 5) == __version__
    (another,) = status_of(installed)["report"]["report"]["managers"]
    assert another["version"] == NEXT
    _, told = newer.communicate(timeout=LIMIT)
    assert f"the home's forwarder is fxhpc {__version__}, and this is {NEXT}" in told
    _, told = program.communicate(timeout=LIMIT)
    assert f"the home's forwarder is fxhpc {NEXT}, and this is {__version__}" in told


def owner_of(home: TestHome, version: str) -> ForwarderAddress | None:
    """The home's forwarder, if it is of this version."""
    found = home.forwarder()
    return found if found.version == version else None


def status_of(installed: Installed) -> dict[str, Any]:
    """What `fxhpc endpoint status` tells of the endpoint."""
    found: dict[str, Any] = json.loads(installed.command("endpoint", "status", "midway", "--json"))
    return found


def log_of(home: TestHome) -> str:
    """What the home's forwarders have logged."""
    return (home.path / "forwarder.log").read_text()
