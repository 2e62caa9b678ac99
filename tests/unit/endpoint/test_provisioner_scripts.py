"""The scripts of blocks: what is rendered, and which Python a node's manager gets."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fxhpc.endpoint import launch
from fxhpc.endpoint.provisioner import render
from fxhpc.endpoint.provisioner.providers import ProviderError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import BlockRef, ProvisionerSpec
from fxhpc.version import __version__

BLOCK = BlockRef(7, "fxhpc-midway-0123abcd-7")


def _spec(kind: str, directory: str = "/scratch/me/blocks", **provider: object) -> ProvisionerSpec:
    return ProvisionerSpec(
        endpoint="midway",
        provider={"type": kind, **provider},
        directory=directory,
        command="/bin/sh /scratch/me/blocks/launch.sh",
        worker_init="module load python",
        walltime_s=5400.0,
    )


# --- rendering ------------------------------------------------------------------------------------


def test_a_script_is_rendered_without_a_batch_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no command at all
    launcher = {"type": "SrunLauncher", "overrides": "--overlap"}
    text = render(
        _spec("SlurmProvider", partition="gpu", launcher=launcher, nodes_per_block=2), BLOCK
    )
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --time=90",
        "#SBATCH --nodes=2",
        "module load python",
        "env FXHPC_BLOCK=7 /bin/sh /scratch/me/blocks/launch.sh",
    ):
        assert line in text.splitlines()
    assert f"#SBATCH --job-name={BLOCK.name}." in text
    assert "srun --ntasks 2 -l --overlap bash" in text
    assert "#SBATCH --error=/scratch/me/blocks/fxhpc-midway-0123abcd-7." in text
    assert launch.SCRIPT not in text


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("PBSProProvider", "#PBS -l walltime=01:30:00"),
        ("TorqueProvider", "#PBS -l nodes=1:ppn=1"),
        ("LocalProvider", "module load python"),
        ("LSFProvider", "#BSUB -W 90"),
        ("GridEngineProvider", "#$ -l h_rt=01:30:00"),
    ],
)
def test_scripts_of_other_batch_systems(kind: str, line: str) -> None:
    text = render(_spec(kind, launcher="SingleNodeLauncher"), BLOCK)
    assert line in text.splitlines()
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_what_parsl_does_not_take_is_told_with_its_words() -> None:
    with pytest.raises(ProviderError, match="partitoin"):
        render(_spec("SlurmProvider", partitoin="x"), BLOCK)
    with pytest.raises(ProviderError, match="there is no provider 'CobaltProvider'"):
        render(_spec("CobaltProvider"), BLOCK)
    with pytest.raises(ProviderError, match="there is no launcher 'Rocket'"):
        render(_spec("SlurmProvider", launcher="Rocket"), BLOCK)


def test_the_command_needs_no_expansion_in_any_directory() -> None:
    assert launch.command(EndpointDirectory("/home/a user")) == (
        "/bin/sh '/home/a user/blocks/launch.sh'"
    )
    for path in ("/home/$USER", "/home/`x`", "/home/a\\b"):
        assert not set("$`\\") & set(launch.command(EndpointDirectory(path)))


# --- which Python ---------------------------------------------------------------------------------


class Node:
    """A node with Pythons of its own, on which `launch.sh` runs."""

    def __init__(self, path: Path) -> None:
        self.directory = EndpointDirectory(path / "it's here")
        self.directory.path.mkdir()
        self.bin = path / "bin"
        self.bin.mkdir()
        self.environ = {"PATH": f"{self.bin}{os.pathsep}{os.defpath}", "HOME": str(path)}
        self.found = self._python3()

    def _python3(self) -> str:
        return shutil.which("python3", path=self.environ["PATH"]) or ""

    def install(self, python: str = "") -> None:
        launch.install(self.directory, ManagerSpec(endpoint=b"", workers=0), python=python)

    def python(self, name: str, script: str) -> Path:
        """An interpreter of this name."""
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        path.chmod(0o755)
        return path

    def run(self, before: str | None = None) -> subprocess.CompletedProcess[str]:
        environ = {**self.environ, "FXHPC_BLOCK": "7"}
        if before is not None:
            environ["FXHPC_PYTHON_BEFORE"] = before
        return subprocess.run(
            ["/bin/sh", "-c", launch.command(self.directory)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


#: Tells that it was run, and with what.
_TELLS = 'echo "{} runs $3"'


def test_what_is_installed_is_private(node: Node) -> None:
    node.install()
    script = node.directory.blocks / "launch.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o700
    assert stat.S_IMODE(node.directory.manager_spec.stat().st_mode) == 0o600
    assert stat.S_IMODE(node.directory.blocks.stat().st_mode) == 0o700


def test_the_one_that_the_configuration_names(node: Node) -> None:
    named = node.python("named", _TELLS.format("named"))
    node.python("python3", _TELLS.format("other"))
    node.install(python=str(named))
    assert (
        node.run(before="/usr/bin/python3").stdout == f"named runs {node.directory.manager_spec}\n"
    )
    node.install(python="named")  # a name on the path
    assert node.run().stdout.startswith("named runs")


def test_the_one_that_worker_init_has_put_on_the_path(node: Node) -> None:
    node.python("python3", _TELLS.format("activated"))
    node.install()
    assert node.run(before="/usr/bin/python3").stdout.startswith("activated runs")
    assert node.run(before="").stdout.startswith("activated runs")


def test_the_endpoints_own_if_worker_init_has_changed_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = node.python("own", _TELLS.format("own"))
    found = node.python("python3", _TELLS.format("other"))
    monkeypatch.setattr(sys, "executable", str(own))
    node.install()
    assert node.run(before=str(found)).stdout.startswith("own runs")
    assert node.run().stdout.startswith("own runs")
    own.unlink()  # not on this node
    assert node.run(before=str(found)).stdout.startswith("other runs")
    found.unlink()
    node.environ["PATH"] = str(node.bin)
    for tool in ("hostname", "env", "sed", "uname"):
        (node.bin / tool).symlink_to(shutil.which(tool) or tool)
    answer = node.run()
    assert answer.returncode == 78
    assert answer.stderr.startswith("fxhpc: fatal: there is no Python on node ")
    assert "python: /path/to/python" in answer.stderr


def test_a_named_one_that_is_not_there(node: Node) -> None:
    node.install(python="/opt/nowhere/bin/python")
    answer = node.run()
    assert answer.returncode == 78
    assert answer.stderr.startswith("fxhpc: fatal: there is no /opt/nowhere/bin/python on node ")


def test_one_that_is_too_old_says_so_itself(node: Node) -> None:
    """It is an old one by its own word: there is none to be had everywhere."""
    node.python(
        "python3",
        f"""
        exec {sys.executable} -c 'import sys
        sys.version_info = (3, 6, 8, "final", 0)
        sys.argv[1:] = []
        exec(sys.stdin.read())' <<END
        $2
        END
        """,
    )
    node.install()
    answer = node.run(before="/usr/bin/python3")
    assert answer.returncode == 78
    (line,) = [line for line in answer.stderr.splitlines() if launch.FATAL in line]
    assert "Python 3.6.8" in line
    assert "is too old: fxhpc needs Python 3.10 or newer" in line
    own = ".".join(map(str, sys.version_info[:3]))
    assert f"the endpoint runs {sys.executable} (Python {own}, fxhpc {__version__})" in line
    assert "python: /path/to/python" in line


def test_one_without_fxhpc_says_how_to_install_it(node: Node) -> None:
    # -I -S: an interpreter that has nothing but its own library.
    python = node.python("python3", f'exec {sys.executable} -I -S "$@"')
    node.install()
    answer = node.run(before="/usr/bin/python3")
    assert answer.returncode == 78
    (line,) = [line for line in answer.stderr.splitlines() if launch.FATAL in line]
    assert "has no fxhpc" in line
    assert f"-m pip install fxhpc=={__version__}" in line
    assert "worker_init has put it on the path" in line
    assert python.exists()


def test_tasks_may_call_srun(node: Node) -> None:
    """What describes this step is not taken for options of the next."""
    node.python("python3", "env")
    node.install()
    kept = {"SLURM_JOB_ID": "5", "SLURM_CPUS_ON_NODE": "4", "SLURM_NODEID": "0"}
    gone = {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "n1",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_LABELIO": "1",
        "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
        "SLURM_CPU_BIND_LIST": "0x1",
        "SLURM_MEM_BIND_TYPE": "none",
        "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
        "SLURM_SRUN_COMM_PORT": "1",
        "PMI_RANK": "0",
    }
    node.environ |= {**kept, **gone}
    lines = node.run(before="/usr/bin/python3").stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    assert {name: found.get(name) for name in kept} == kept
    assert not gone.keys() & found.keys()
    assert found["SLURM_OVERLAP"] == "1"
