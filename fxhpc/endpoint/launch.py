"""What a block runs: the lines before `worker_init`, and on each node the script that starts a
manager.

A batch job's script consists of `prefix`, the user's `worker_init`, and the text of Parsl's
launcher, which runs `command` on every node. `install` puts there what `command` names.
"""

from __future__ import annotations

import os
import platform
import shlex
import site
import sys
from pathlib import Path

from fxhpc import containers
from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import ContainerSpec
from fxhpc.version import __version__

#: Begins the line on standard error that says why every other block would end the same way.
FATAL = "fxhpc: fatal:"

#: In the lines before `worker_init`: replaced by the path of the script that they are in, which
#: is known when it is written.
SCRIPT = "@SCRIPT@"

#: Endings of the files that a block leaves beside its script, behind its name.
STARTED, ENDED, CANCELLED = ".started", ".ended", ".cancelled"

#: What a block runs on each node.
_SCRIPT = "launch.sh"

#: In a custom command: replaced by what ties the container to the script that has started it.
_TIE = "@TIE@"

#: What Parsl's launchers put into a here-document is expanded too early.
_EXPANDED = frozenset("$`\\")


def command(directory: EndpointDirectory) -> str:
    """What a block runs on each of its nodes: a shell command without anything to expand."""
    text = _run(directory.blocks)
    return "printenv FXHPC_LAUNCH | /bin/sh" if _EXPANDED & set(text) else text


def contained(directory: EndpointDirectory) -> str:
    """What is to run in a container on a node: words of a shell command."""
    return f"/bin/sh {shlex.quote(str(directory.blocks / containers.MANAGER))} {_TIE}"


def install(
    directory: EndpointDirectory,
    spec: ManagerSpec,
    *,
    python: str = "",
    container: ContainerSpec | None = None,
) -> None:
    """Write what blocks need: the manager's specification, and the script that starts managers.

    Args:
        spec: of the managers on nodes.
        python: the interpreter that the configuration names; empty: see `launch.sh`.
        container: what they run in; None: in none.

    Raises:
        OSError: it cannot be written.
    """
    directory.write_manager_spec(spec)
    install_script(directory.blocks, python, container)


def install_script(blocks: Path, python: str = "", container: ContainerSpec | None = None) -> None:
    """Write the script that starts a manager on a node; its specification lies one level above.

    Of a container there are two scripts: this one starts it, the other one the manager in it.

    Raises:
        OSError: it cannot be written.
    """
    blocks.mkdir(mode=0o700, parents=True, exist_ok=True)
    values = {
        "own_python": sys.executable,
        "own_version": f"Python {platform.python_version()}, fxhpc {__version__}",
        "own_fxhpc": __version__,
        "own_path": _path_of_fxhpc(),
        "named_python": python,
        "spec": str(blocks.parent / "manager.json"),
        "blocks": str(blocks),
        "inside": words(container) if container is not None else "",
    }
    if container is None:
        _write_script(blocks / _SCRIPT, _manager_script(values))
        (blocks / containers.MANAGER).unlink(missing_ok=True)
    else:
        _write_script(blocks / containers.MANAGER, _manager_script(values))
        _write_script(blocks / _SCRIPT, containers.start_script(_start_of(blocks, container)))


def _manager_script(values: dict[str, str]) -> str:
    return containers.script("launch.sh", values, __file__)


def _write_script(path: Path, text: str) -> None:
    replace_file(path, text.encode())
    path.chmod(0o700)


def _start_of(blocks: Path, container: ContainerSpec) -> containers.Start:
    return containers.Start(
        kind=container.kind,
        image=container.image,
        words=words(container),
        who="the endpoint's workers",
        named_kind=f"container_type: {container.kind}",
        named_image="container_uri",
        script=containers.MANAGER,
        folder=str(blocks),
        options=container.options,
        made=container.made,
        seen=container.seen,
        home=container.home,
    )


def words(container: ContainerSpec) -> str:
    """What errors call it."""
    if container.kind == "custom":
        return "the custom container"
    return f"the {container.kind} container of {container.image}"


def prefix(directory: str, number: int, name: str, spooled: bool = False) -> str:
    """The lines of a block's script that come before `worker_init`.

    They run the rest of the script in a subshell, so that whatever it does (`exit`, `exec`, `set
    -e`, traps of its own), its exit code is written beside it in the moment when it ends.

    Args:
        directory: where the scripts lie.
        number, name: of the block.
        spooled: the batch system shows a job's output only after its end: too late for those who
            want to know why it ended.
    """
    output = ' > "$fxhpc_block.out" 2> "$fxhpc_block.err"' if spooled else ""
    # A reader of the script sees `$fxhpc_block`: where it leaves its notes.
    return f"""\
if [ "${{FXHPC_INSIDE-}}" != {shlex.quote(name)} ]; then
    fxhpc_block={shlex.quote(os.path.join(directory, name))}
    rm -f "$fxhpc_block{ENDED}"
    export FXHPC_BLOCK={number} FXHPC_BLOCK_STARTED=$(date +%s)
    export FXHPC_LAUNCH={shlex.quote(f"exec {_run(Path(directory))}")}
    export FXHPC_PYTHON_BEFORE="$(command -v python3 || :)"
    fxhpc_stat=$(cat /proc/$$/stat 2>/dev/null); fxhpc_stat=(${{fxhpc_stat##*) }})
    fxhpc_boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
    fxhpc_job=${{SLURM_JOB_ID-${{PBS_JOBID-${{LSB_JOBID-${{JOB_ID-}}}}}}}}
    ( umask 077; printf '%s\\n' "$$" "${{fxhpc_stat[19]-}}" "$fxhpc_boot" "$(uname -n)" \\
        "$fxhpc_job" > "$fxhpc_block{STARTED}" )
    # It was cancelled before anybody knew that it was there. (Whoever cancels looks after writing
    # this, as the script does after writing that: one of them sees the other.)
    [ -e "$fxhpc_block{CANCELLED}" ] && exit 0
    # Steps get the CPUs of the job, as the script itself does; managers share them out.
    export SLURM_CPU_BIND=none
    [ -n "${{SLURM_CPUS_PER_TASK-}}" ] &&
        export SRUN_CPUS_PER_TASK="${{SRUN_CPUS_PER_TASK-$SLURM_CPUS_PER_TASK}}"
    [ -n "${{SLURM_JOB_ID-}}" ] && export SLURM_OVERLAP=1
    cd -- {shlex.quote(directory)}
    trap : TERM INT HUP USR1 USR2
    (
        trap - TERM INT HUP USR1 USR2
        FXHPC_INSIDE={shlex.quote(name)}
        . {SCRIPT}
    ){output}
    fxhpc_code=$?
    # Whoever ended it has told the managers too; they get a moment to tell the interchange.
    [ "$fxhpc_code" = 143 ] && sleep 2
    ( umask 077; echo "$fxhpc_code" > "$fxhpc_block{ENDED}.new" ) &&
        mv -f "$fxhpc_block{ENDED}.new" "$fxhpc_block{ENDED}"
    exit $fxhpc_code
fi
"""


def _run(blocks: Path) -> str:
    return f"/bin/sh {shlex.quote(str(blocks / _SCRIPT))}"


def _path_of_fxhpc() -> str:
    """Where fxhpc lies, if this Python does not find it by itself: a checkout."""
    root = os.path.realpath(Path(__file__).parents[2])
    known = [*site.getsitepackages(), site.getusersitepackages()]
    return "" if root in map(os.path.realpath, known) else root
