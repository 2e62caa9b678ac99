"""The files with a task's nodes: read by others, and gone with who wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fxhpc.manager.resources import nodefile

CODE = """
import sys
from fxhpc.manager.resources import nodefile

print(nodefile.write(["node1", "node2"]), flush=True)
sys.stdin.read()
"""


def test_others_read_it_for_as_long_as_its_writer_lives(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", CODE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environ) as writer:
        assert writer.stdout is not None
        path = Path(writer.stdout.readline().strip())
        assert path.read_text() == path.read_text() == "node1\nnode2\n"
        assert not list(tmp_path.iterdir())
    assert not path.exists()


def lines(path: str) -> list[str]:
    found = Path(path).read_text().split()
    os.close(int(path.rpartition("/")[2]))
    return found


def test_an_srun_finds_its_task_s_nodes() -> None:
    own = {"PARSL_MPI_NODELIST": "node1.cluster,node3.cluster", "PARSL_RANKS_PER_NODE": "2"}
    told = nodefile.variables(own, {})
    assert list(told) == ["FXHPC_NODEFILE"]
    assert lines(told["FXHPC_NODEFILE"]) == ["node1.cluster", "node3.cluster"]
    own["SLURM_JOB_NODELIST"] = "node1,node3"
    for environ, times in (({}, 2), ({"SLURM_CPUS_ON_NODE": "4"}, 4)):
        told = nodefile.variables(own, environ)
        lines(told["FXHPC_NODEFILE"])
        assert lines(told["SLURM_HOSTFILE"]) == ["node1", "node3"] * times
    told = nodefile.variables({**own, "SLURM_HOSTFILE": "mine"}, {})
    lines(told["FXHPC_NODEFILE"])
    assert "SLURM_HOSTFILE" not in told
