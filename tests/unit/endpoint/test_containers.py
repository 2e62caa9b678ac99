"""Workers in containers: the command of each runtime, what is seen in it, and what is refused."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fxhpc.endpoint import launch
from fxhpc.endpoint.configuration.config import load_config_dict
from fxhpc.endpoint.specs import interchange_spec
from fxhpc.errors import ConfigError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.manager.watch import SIGNALS
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import ContainerSpec
from tests.waiting import eventually


def container(values: dict[str, Any], path: str = "/home/me/ep", **options: Any) -> ContainerSpec:
    config = load_config_dict({"provider": "slurm", **values})
    directory = EndpointDirectory(path, config.state_dir)
    provisioner = interchange_spec(config, "ep", directory, **options).provisioner
    assert provisioner is not None
    assert provisioner.command == launch.command(directory)
    assert provisioner.container is not None
    return provisioner.container


# --- what the configuration says ----------------------------------------------------------------


def test_what_is_seen_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    podman = {"container_type": "podman", "container_uri": "img"}
    found = container(podman, "/scratch/ep", cwd="/home/me/work")
    assert (found.made, found.seen, found.home) == (["/scratch/ep"], ["/home/me"], "/home/me")
    found = container(podman, "/scratch/ep", cwd="/project/x")
    assert found.seen == ["/home/me", "/project/x"]
    values = {**podman, "working_dir": "/fast/work", "worker_logdir_root": "/logs"}
    assert container(values, "/scratch/ep").made == ["/logs", "/fast/work", "/scratch/ep"]
    monkeypatch.setenv("HOME", "/")
    assert container(podman, "/scratch/ep", cwd="/").seen == []


def test_the_image_of_apptainer_may_be_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    values = {"container_type": "apptainer", "container_uri": "~/a.sif"}
    found = container(values, cwd="/home/me")
    assert (found.image, found.seen) == ("/home/me/a.sif", ["/home/me"])
    values["container_uri"] = "docker://python:3.12"
    assert container(values).image == "docker://python:3.12"


def test_a_custom_container_is_the_command_as_it_is() -> None:
    values = {
        "container_type": "custom",
        "container_cmd_options": "shifter -v {EXECUTOR_RUNDIR} {EXECUTOR_LAUNCH_CMD}",
    }
    assert container(values, "/a b/ep").options == (
        "exec shifter -v '/a b/ep' /bin/sh '/a b/ep/blocks/manager.sh' @TIE@"
    )


def test_a_directory_that_no_runtime_can_be_told_of() -> None:
    with pytest.raises(ConfigError, match=r"container_type: the container must see '/home/a:b/ep'"):
        container({"container_type": "podman", "container_uri": "img"}, "/home/a:b/ep")


def test_blocks_of_this_host_need_the_runtime_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    values = {"container_type": "podman", "container_uri": "img", "provider": "local"}
    with pytest.raises(ConfigError, match=r"there is no podman on .*not started without"):
        container(values)
    container({**values, "worker_init": "module load podman"})  # which may bring it
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    container(values)


# --- the script that starts it ------------------------------------------------------------------

#: Stands for a runtime: notes its arguments, then runs what follows the image, as the image's
#: surroundings would have it: without the node's variables.
_RUNTIME = """\
    case $1 in
    --version) echo "{version}"; exit 0 ;;
    info) {info}; exit $? ;;
    stop | rm) exit 0 ;;
    esac
    for word in "$@"; do printf '%s\\n' "$word"; done > {arguments}
    while [ "$1" != "{image}" ]; do shift; done
    shift
    exec env -i PATH={bin}:/usr/bin:/bin "$@"
"""


class Node:
    """A node with runtimes that are stand-ins, on which `launch.sh` runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = EndpointDirectory(path / "it's here")
        self.directory.path.mkdir()
        self.home = path / "home"
        self.home.mkdir()
        self.image = path / "an image.sif"
        self.image.touch()
        self.bin = path / "bin"
        self.inner = path / "inner"  # on the path in the container alone
        for folder in (self.bin, self.inner):
            folder.mkdir()
        self.arguments_file = path / "arguments"
        self.write(self.inner / "python3", "env; echo umask $(umask); echo spec $3")
        self.environ = {"PATH": f"{self.bin}:/usr/bin:/bin", "FXHPC_BLOCK": "7"}

    def write(self, path: Path, script: str) -> None:
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        path.chmod(0o755)

    def runtime(
        self, kind: str, version: str = "24.0.5", info: str = "echo '[name=seccomp]'"
    ) -> None:
        values = {"version": version, "info": info, "image": self.image}
        values |= {"arguments": shlex.quote(str(self.arguments_file)), "bin": self.inner}
        self.write(self.bin / kind, _RUNTIME.format(**values))

    def install(self, kind: str, **fields: Any) -> None:
        values: dict[str, Any] = {
            "image": str(self.image),
            "made": [str(self.directory.path)],
            "seen": [str(self.home), "/not/there"],
            "home": str(self.home),
        }
        spec = ContainerSpec(kind=kind, **{**values, **fields})
        manager = ManagerSpec(endpoint=b"", workers=0)
        launch.install(self.directory, manager, container=spec)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", "-c", f"exec {launch.command(self.directory)}"],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0o027,
        )

    def run(self, code: int = 0) -> tuple[str, str]:
        """What was printed, and the errors; nothing of the run is left."""
        process = self.start()
        out, err = process.communicate(timeout=30)
        assert process.returncode == code, err
        assert not [name for name in os.listdir(self.directory.blocks) if name.startswith("tie")]
        return out, err

    def arguments(self) -> list[str]:
        return self.arguments_file.read_text().splitlines()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def _user() -> str:
    return f"{os.getuid()}:{os.getgid()}"


def _mounts(node: Node, option: str) -> list[str]:
    places = [str(node.directory.path), str(node.home)]
    if option == "--bind":
        return [word for place in places for word in (option, place)]
    return [word for place in places for word in (option, f"{place}:{place}")]


def _limits() -> list[str]:
    """The limits of this process, as the words of the command."""
    pids = int(Path("/proc/sys/kernel/pid_max").read_text())
    words = []
    for name in ("STACK", "NPROC", "NOFILE", "MEMLOCK"):
        limits = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        if name == "NPROC":
            limits = tuple(pids if limit == -1 else min(limit, pids) for limit in limits)
        words += ["--ulimit", f"{name.lower()}={limits[0]}:{limits[1]}"]
    return words


def _inside(node: Node, arguments: list[str]) -> None:
    """What follows the options."""
    image, shell, script, tie = arguments[-4:]
    assert (image, shell) == (str(node.image), "/bin/sh")
    assert script == str(node.directory.blocks / "manager.sh")
    assert tie.startswith("tie-")


def test_podmans_command(node: Node) -> None:
    node.runtime("podman")
    node.install("podman", options="--device 'a b' -e X=$FXHPC_BLOCK")
    out, _ = node.run()
    assert f"spec {node.directory.manager_spec}" in out
    arguments = node.arguments()
    name = arguments[arguments.index("--name") + 1]
    assert name.startswith("fxhpc-")
    keep = [] if os.getuid() == 0 else ["--userns", "keep-id"]
    assert arguments[:-4] == [
        *("run", "--rm", "--name", name, "--network", "host"),
        *("--security-opt", "no-new-privileges", "--security-opt", "label=disable"),
        *_limits(),
        *keep,
        *("--user", _user(), *_mounts(node, "-v")),
        *("-e", f"HOME={node.home}", "-e", "PYTHONNOUSERSITE=1"),
        *("--device", "a b", "-e", "X=7"),
    ]
    _inside(node, arguments)


def test_dockers_command(node: Node) -> None:
    """Its daemon is told of the user, the groups and the cores of the job."""
    node.runtime("docker")
    node.install("docker")
    node.run()
    arguments = node.arguments()
    assert ["--user", _user()] == arguments[(at := arguments.index("--user")) : at + 2]
    groups = [arguments[n + 1] for n, word in enumerate(arguments) if word == "--group-add"]
    assert set(groups) == {str(group) for group in {os.getgid(), *os.getgroups()}}
    assert "--cpuset-cpus" in arguments
    assert "--userns" not in arguments
    _inside(node, arguments)


def test_docker_that_runs_as_the_user(node: Node) -> None:
    """There, root is who has started it."""
    node.runtime("docker", info="echo '[name=seccomp name=rootless]'")
    node.install("docker")
    node.run()
    arguments = node.arguments()
    assert arguments[arguments.index("--user") + 1] == "0:0"


def test_docker_that_is_podman(node: Node) -> None:
    node.runtime("docker", version="podman version 4.3.1", info="exit 1")
    node.install("docker")
    node.run()
    assert "--cpuset-cpus" not in node.arguments()


def test_docker_without_its_daemon(node: Node) -> None:
    node.runtime("docker", info="echo Cannot connect to the Docker daemon >&2; exit 1")
    node.install("docker")
    out, err = node.run(125)
    assert "docker cannot be used on node" in err
    assert "Cannot connect to the Docker daemon" in err
    assert "nothing is run without it" in err
    assert out == ""


@pytest.mark.parametrize("kind", ["apptainer", "singularity"])
def test_apptainers_command(node: Node, kind: str) -> None:
    node.runtime(kind)
    node.install(kind, options="--nv")
    node.run()
    arguments = node.arguments()
    assert arguments[:-4] == ["exec", *_mounts(node, "--bind"), "--nv"]
    _inside(node, arguments)


def test_a_custom_command(node: Node) -> None:
    node.runtime("shifter")
    inner = launch.contained(node.directory)
    image = shlex.quote(str(node.image))
    node.install("custom", image="", options=f"shifter --x=1 {image} {inner}")
    out, _ = node.run()
    assert "FXHPC_BLOCK=7" in out.splitlines()
    assert node.arguments()[0] == "--x=1"
    _inside(node, node.arguments())


def test_what_the_job_has_in_its_environment_is_found_inside(node: Node) -> None:
    """It is in no argument: these can be seen by everybody."""
    node.environ |= {
        "SLURM_JOB_ID": "5",
        "SLURM_JWT": "it's $ecret\n\\ `x`",
        "CUDA_VISIBLE_DEVICES": "2,3",
        "PYTHONPATH": "/of/the/node",
        "LD_PRELOAD": "",
        "FXHPC_PYTHON_BEFORE": "",
    }
    node.runtime("podman")
    node.install("podman")
    out, _ = node.run()
    lines = out.splitlines()
    for line in ("FXHPC_BLOCK=7", "SLURM_JOB_ID=5", "CUDA_VISIBLE_DEVICES=2,3", "umask 0027"):
        assert line in lines
    assert "SLURM_JWT=it's $ecret\n\\ `x`\n" in out
    assert not any(line.startswith(("PYTHONPATH", "LD_PRELOAD", "FXHPC_LAUNCH")) for line in lines)
    assert "ecret" not in node.arguments_file.read_text()


# --- refusals -----------------------------------------------------------------------------------


def _fatal(errors: str) -> str:
    (line,) = [line for line in errors.splitlines() if launch.FATAL in line]
    assert "nothing is run without it" in line
    return line


def test_a_node_without_the_runtime(node: Node) -> None:
    node.install("podman-hpc")
    out, err = node.run(78)
    assert "there is no podman-hpc on node" in _fatal(err)
    assert out == ""


def test_a_node_without_the_image(node: Node) -> None:
    node.runtime("apptainer")
    node.install("apptainer", image="/no/such.sif")
    assert "there is no image /no/such.sif on node" in _fatal(node.run(78)[1])


def test_an_image_without_a_shell(node: Node) -> None:
    node.write(node.bin / "podman", "exit 127")
    node.install("podman")
    line = _fatal(node.run(78)[1])
    assert f"could not run /bin/sh in the podman container of {node.image}" in line


def test_an_image_that_cannot_be_had(node: Node) -> None:
    """The next block may have it: a registry may be away for a moment."""
    node.write(node.bin / "podman", "echo no such image >&2; exit 125")
    node.install("podman")
    _, err = node.run(125)
    assert launch.FATAL not in err
    assert "no such image\n" in err
    assert f"could not start the podman container of {node.image}" in err


def test_an_image_without_python(node: Node) -> None:
    node.runtime("podman")
    (node.inner / "python3").unlink()
    values = {"version": "", "info": "false", "image": node.image}
    values |= {"arguments": "/dev/null", "bin": node.inner}
    script = _RUNTIME.format(**values).replace(":/usr/bin:/bin", "")
    for tool in ("hostname", "uname", "rm", "id"):
        node.write(node.inner / tool, f'exec /usr/bin/{tool} "$@"')
    node.write(node.bin / "podman", script)
    node.install("podman")
    _, err = node.run(78)
    assert "there is no python3 on the path in the podman container of" in err


def test_an_image_whose_python_has_no_fxhpc(node: Node) -> None:
    node.runtime("podman")
    node.write(node.inner / "python3", f'exec {sys.executable} -I -S "$@"')
    node.install("podman")
    _, err = node.run(78)
    (line,) = [line for line in err.splitlines() if launch.FATAL in line]
    assert f"in the podman container of {node.image}) has no fxhpc" in line
    assert "use an image that has it" in line
    assert "worker_init" not in line


# --- signals and ends ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "letter"), [(signal.SIGTERM, "T"), (signal.SIGINT, "T"), (signal.SIGUSR1, "D")]
)
def test_signals_go_into_the_pipe(node: Node, number: signal.Signals, letter: str) -> None:
    assert SIGNALS[ord(letter)] == (signal.SIGUSR1 if letter == "D" else signal.SIGTERM)
    node.runtime("podman")
    ready = node.path / "ready"
    node.write(
        node.inner / "python3",
        f"""\
        trap : TERM
        exec <"$FXHPC_TIE"
        touch {shlex.quote(str(ready))}
        head -c 1
        """,
    )
    node.install("podman")
    process = node.start()
    eventually(ready.exists)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, letter)


def test_who_is_killed_lets_go_of_the_pipe(node: Node) -> None:
    """What runs in the container has another parent, and learns of it there."""
    node.runtime("podman")
    found = node.path / "found"
    node.write(
        node.inner / "python3",
        f"""\
        exec 3<"$FXHPC_TIE"
        echo "$$" > {shlex.quote(str(found))}.new
        mv {shlex.quote(str(found))}.new {shlex.quote(str(found))}
        read -r _ <&3
        echo let go
        rm -f "$FXHPC_TIE"
        """,
    )
    node.install("podman")
    process = node.start()
    eventually(found.exists)
    process.kill()
    out, _ = process.communicate(timeout=30)  # until the one inside has ended too
    assert out == "let go\n"
